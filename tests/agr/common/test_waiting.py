"""Waiting is told, ends, and does not last for ever."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from agr.common import waiting
from agr.common.stuck import work_done
from agr.common.waiting import locked

HOLDER = """
import subprocess, sys, time
from pathlib import Path
from agr.common.waiting import locked
with locked(Path(sys.argv[1]), "work"):
    {while_held}
"""


@contextmanager
def holder(path: Path, while_held: str) -> Iterator[psutil.Process]:
    """Another process that holds the lock and does this meanwhile."""
    command = [sys.executable, "-c", HOLDER.format(while_held=while_held), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield psutil.Process(process.pid)
        finally:
            process.kill()


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a lock; waits are told, and holders given up, sooner than usual."""
    monkeypatch.setattr(waiting, "SHOWN_AFTER", 0.2)
    monkeypatch.setattr(waiting, "SHOWN_EVERY", 10.0)
    monkeypatch.setattr(waiting, "STUCK_SECONDS", 1.0)
    return tmp_path / ".lock"


def test_a_free_lock_is_taken_in_silence_and_leaves_only_its_file(
    lock: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        with locked(lock, "work"):
            pass
    assert [path.name for path in lock.parent.iterdir()] == [".lock"]
    assert capsys.readouterr() == ("", "")


def test_a_lock_that_is_released_is_waited_for_and_the_wait_is_told(
    lock: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with holder(lock, "print('held', flush=True); time.sleep(0.7)") as other, locked(lock, "work"):
        told = capsys.readouterr().err
    assert told == f"agr: waiting for process {other.pid} to work ({lock}), 0 s so far\n"


def test_a_stopped_holder_is_named_and_passed_by(lock: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with holder(lock, "print('held', flush=True); time.sleep(60)") as other:
        other.suspend()
        with locked(lock, "work"):
            pass
        with locked(lock, "work"):  # it is passed by for good
            pass
    *_, last = capsys.readouterr().err.splitlines()
    assert last == f"agr: {lock}: process {other.pid} was to work and has not got on for 1 s: going on without it"


def test_a_holder_that_works_is_not_passed_by(lock: Path) -> None:
    began = time.monotonic()
    work = "print('held', flush=True); end = time.monotonic() + 2.5\n    while time.monotonic() < end: pass"
    with holder(lock, work), locked(lock, "work"):
        assert time.monotonic() - began > 2.5


def test_a_holder_that_is_gone_is_passed_by_though_its_lock_is_held(
    lock: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with holder(lock, "print('held', flush=True); time.sleep(60)") as other:
        other.kill()
    with lock.open() as inherited:  # as by a process that it started
        fcntl.flock(inherited, fcntl.LOCK_EX)
        with locked(lock, "work"):
            pass
    assert f"process {other.pid} was to work and is gone: going on without it\n" in capsys.readouterr().err


def test_a_wait_that_is_cancelled_ends(lock: Path) -> None:
    held = holder(lock, "print('held', flush=True); time.sleep(60)")
    with held, pytest.raises(KeyboardInterrupt), locked(lock, "work", cancelled=lambda: True):
        pytest.fail("it is held by another")


def test_work_of_a_process_that_is_gone_stands_still() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert work_done(process.pid) == 0.0

"""Processes that were stopped or hang are named, and given up after a while; those that work are not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agr.audio.decoder import Decoder, Source
from agr.common import stuck
from agr.common.function_worker import FunctionWorker
from agr.common.processes import CHUNK, map_unordered
from agr.common.stuck import watched
from agr.common.worker import WorkerDied
from agr.errors import AgrError
from agr.plots.worker import PlottingProcess

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs POSIX signals")


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stuck, "LOOK_SECONDS", 0.05)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


def test_a_stopped_process_is_named_then_ended(
    sleeper: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    sleeper.send_signal(signal.SIGSTOP)
    with watched("the sleeper", lambda: [sleeper]):
        assert sleeper.wait(30) == -signal.SIGKILL
    first, last = capsys.readouterr().err.splitlines()
    assert first == f"agr: waiting for the sleeper (process {sleeper.pid}), which is stopped for 2 s"
    assert last == f"agr: the sleeper (process {sleeper.pid}) is stopped for 10 s: going on without it"


def test_a_process_that_hangs_is_given_up_when_patience_ends(
    sleeper: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    with watched("the sleeper", lambda: [sleeper], patience=12):
        assert sleeper.wait(30) == -signal.SIGKILL
    assert "has done nothing for 12 s: going on without it" in capsys.readouterr().err


def test_a_process_that_is_waited_for_often_is_named_once(
    sleeper: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        with watched("the sleeper", lambda: [sleeper]):
            time.sleep(0.3)  # several looks
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_work_is_progress(monkeypatch: pytest.MonkeyPatch, sleeper: subprocess.Popen[bytes]) -> None:
    looks = iter(range(10**9))
    monkeypatch.setattr(stuck, "work_done", lambda pid: float(next(looks)))
    with watched("the sleeper", lambda: [sleeper], patience=1):
        while next(looks) < 50:
            pass
        assert sleeper.poll() is None


def stop_once(marker: str) -> int:
    """Stop the process that is called with this first, until somebody ends it."""
    if not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGSTOP)
    return 1


def stop(_: int) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def test_work_of_a_stopped_pool_is_done_by_another_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items = [str(tmp_path / "marker")] * (3 * CHUNK)
    assert list(map_unordered(stop_once, items, 2)) == [1] * (3 * CHUNK)
    assert "others go on with what is left" in capsys.readouterr().err


def test_a_second_stopped_pool_is_one_line() -> None:
    with pytest.raises(AgrError, match="a second time; expected fewer workers, or more memory"):
        list(map_unordered(stop, range(2 * CHUNK), 2))


def test_a_stopped_worker_is_replaced_and_its_caller_told() -> None:
    worker = FunctionWorker()
    with pytest.raises(WorkerDied):
        worker.submit(stop, 0).result(60)
    assert worker.submit(os.getpid).result(60) == worker.pid
    worker.close()


def test_what_a_stopped_plotting_process_did_not_draw_is_drawn_here(tmp_path: Path) -> None:
    with PlottingProcess() as plotting:
        plotting.draw(stop_once_quietly, str(tmp_path / "marker"))
        plotting.finish()
    assert (tmp_path / "marker").exists()


def stop_once_quietly(marker: str) -> None:
    stop_once(marker)


def test_a_clip_before_a_stopped_decoder_is_decoded_by_another_one(voices: list[Path]) -> None:
    with Decoder() as decoder:
        next(decoder.load_all([Source(str(voices[0]))], 16_000))
        before = decoder.pid
        assert before is not None
        os.kill(before, signal.SIGSTOP)
        (found,) = decoder.load_all([Source(str(voices[1]))], 16_000)
        assert not isinstance(found, AgrError)
        assert decoder.pid != before

"""Where studies are kept: a journal that outlives any kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from search.optuna_search.samplers import study_storage

HOLDER = """
import sys, time
from search.optuna_search.samplers import KernelLock
KernelLock(sys.argv[1] + ".flock").acquire()
print("held", flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_lock_ends_with_the_process_that_held_it(tmp_path: Path) -> None:
    journal = tmp_path / "studies.journal"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(journal)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        holder.send_signal(signal.SIGKILL)
    optuna.create_study(storage=study_storage(str(journal)), study_name="after")
    assert optuna.get_all_study_names(study_storage(str(journal))) == ["after"]


def test_stale_optuna_lock_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.symlink("studies.journal", "studies.journal.lock")
    optuna.create_study(storage=study_storage("studies.journal"), study_name="first")
    assert optuna.get_all_study_names(study_storage("studies.journal")) == ["first"]

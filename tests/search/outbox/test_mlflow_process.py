"""MLflow in a process of its own: real ones before SQLite stores, and what becomes of errors and of dead processes."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy.exc import OperationalError

from agr.common import stuck
from agr.common.processes import driver
from agr.errors import ModelError, OutageError, StoreError
from agr.registry.records import Store
from agr.registry.uri import StoreUri
from search.driver.mlflow_run import close_abandoned
from search.outbox import mlflow_process
from search.outbox.mlflow_process import ENDED, MlflowProcess
from search.outbox.outbox import Outbox
from tests.stores import new_store


@pytest.fixture(scope="module")
def busy() -> Iterator[MlflowProcess]:
    with MlflowProcess() as made:
        yield made


@pytest.fixture(scope="module")
def store(busy: MlflowProcess, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return busy.open(f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}", "agr", "voices")


def test_a_store_takes_the_calls_of_a_tracker(store: Store) -> None:
    parent = store.start_run("grid", {"lr": "0.1"}, {"driver": "here:1"})
    run = store.start_run("trial", {"epochs": 3}, {"kind": "test"}, parent)
    store.log_dataset(run, name="made", digest="0123", source="somewhere", profile="{}")
    store.log_points(run, [("loss", 0.25, 0)], 1000)
    store.end_run(run, "FINISHED")
    (found,) = store.finished_trials({"kind": "test"})
    assert (found.run_id, dict(found.params), dict(found.metrics)) == (run, {"epochs": "3"}, {"loss": 0.25})
    assert [open_run for open_run, _ in store.unfinished_runs()] == [parent]
    assert store.version_by_alias("best") is None
    assert store.model == "voices"


def test_what_the_store_refuses_is_said_and_the_process_goes_on(store: Store) -> None:
    with pytest.raises(StoreError) as caught:
        store.end_run("0" * 32, "FINISHED")
    assert not caught.value.passing
    assert "0" * 32 in caught.value.reason
    assert store.find_runs("nothing", "here") == []


def test_after_its_process_was_killed_the_next_call_but_one_is_answered(tmp_path: Path) -> None:
    with MlflowProcess() as made:
        store = made.open(new_store(tmp_path), "agr", "agr")
        run = store.start_run("grid", {}, {})
        kill(made)
        with pytest.raises(StoreError, match=ENDED) as caught:
            store.unfinished_runs()
        assert caught.value.passing
        assert [found for found, _ in store.unfinished_runs()] == [run]


def test_a_process_stopped_before_its_store_is_open_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stuck, "LOOK_SECONDS", 0.2)
    with MlflowProcess() as made:
        store = made.open(f"sqlite:///{tmp_path / 'mlflow.db'}", "agr", "agr")
        before = made.pid
        assert before is not None
        os.kill(before, signal.SIGSTOP)
        assert store.unfinished_runs() == []
        assert made.pid != before


def test_a_store_out_of_reach_is_named_by_the_first_call(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with MlflowProcess() as made:
        store = made.open(f"sqlite:///{tmp_path / 'file' / 'mlflow.db'}", "agr", "agr")
        for _ in "ab":
            with pytest.raises(ModelError, match=r"mlflow\.db: .*; expected an MLflow tracking store"):
                store.unfinished_runs()


def test_an_outbox_says_that_its_store_is_out_of_reach_and_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with MlflowProcess() as made:
        store = made.open(f"sqlite:///{tmp_path / 'file' / 'mlflow.db'}", "agr", "agr")
        box = Outbox(store, tmp_path / "outbox", close_abandoned)
        box.start_run("grid", {}, {})
        waits: list[Callable[[], object]] = [box.wait_until_open, box.flush, lambda: box.tags_by_alias("best")]
        for wait in waits:
            with pytest.raises(ModelError, match="expected an MLflow tracking store"):
                wait()
        box.close()
    assert list((tmp_path / "outbox").iterdir()) == []


def test_an_outbox_goes_on_though_the_process_is_killed_again_and_again(tmp_path: Path) -> None:
    with MlflowProcess() as made:
        store = made.open(new_store(tmp_path), "agr", "agr")
        box = Outbox(store, tmp_path / "outbox", close_abandoned)
        box.wait_until_open()
        runs = [box.start_run("search", {}, {"driver": driver()})]
        for number in range(3):
            runs.append(box.start_run(f"trial {number}", {"number": number}, {}, runs[0]))
            box.log_metrics(runs[-1], {"loss": number})
            kill(made)
        for run in runs:
            box.end_run(run, "FINISHED")
        box.flush()
        box.close()
        assert store.unfinished_runs() == []
        ids = [box.run_id(run) for run in runs]
        assert len(set(ids)) == 4
        assert all(len(store.find_runs("local_id", run)) == 1 for run in runs)


def kill(process: MlflowProcess) -> None:
    pid = process.pid
    if pid is not None:
        os.kill(pid, signal.SIGKILL)


def failing(error: Exception, context: Exception | None = None) -> Store:
    """A store whose one call raises."""

    def call() -> None:
        try:
            if context is not None:
                raise context
        finally:
            raise error

    uri = StoreUri("http://ann:secret@host:5000")
    tracker = SimpleNamespace(uri=uri, unfinished_runs=call)
    return mlflow_process.client(functools.partial(mlflow_process.make, cast(Store, tracker)), uri, "agr")


@pytest.mark.parametrize(
    ("error", "context", "passing"),
    [
        (ConnectionError("refused"), None, True),
        (OperationalError("select", {}, Exception("locked")), None, True),
        (ModelError("no such folder"), TimeoutError("slow"), True),
        (FileNotFoundError("gone"), None, False),
        (TypeError("a mistake of ours"), None, False),
    ],
)
def test_an_error_says_whether_the_same_call_may_succeed_later(
    error: Exception, context: Exception | None, passing: bool
) -> None:
    with pytest.raises(StoreError) as caught:
        failing(error, context).unfinished_runs()
    assert caught.value.passing is passing


@pytest.mark.parametrize("error", [ModelError("no such model"), OutageError("ours")])
def test_errors_of_agr_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)):
        failing(error).unfinished_runs()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot log in with ann:secret", "cannot log in with ***"),
        ("HTTPConnection(...): [Errno 111] Connection refused'))", "Connection refused"),
        ("", "ValueError"),
    ],
)
def test_reasons_are_short_and_keep_the_password(text: str, shown: str) -> None:
    assert mlflow_process.reason(ValueError(text), StoreUri("http://ann:secret@host:5000")) == shown


ALONE = """
import sys, time
if __name__ == "__main__":
    from search.outbox.mlflow_process import MlflowProcess
    with MlflowProcess() as made:
        made.open(sys.argv[1], "agr", "agr").unfinished_runs()
        print(made.pid, flush=True)
        time.sleep(60)
"""


def test_the_process_ends_when_its_search_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "alone.py"
    script.write_text(ALONE)
    with subprocess.Popen([sys.executable, str(script), new_store(tmp_path)], stdout=subprocess.PIPE, text=True) as p:
        assert p.stdout is not None
        pid = int(p.stdout.readline())
        p.send_signal(signal.SIGKILL)
    assert within(20, lambda: not running(pid))


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def within(seconds: float, true: Callable[[], Any]) -> bool:
    ends = time.monotonic() + seconds
    while not true():
        if time.monotonic() > ends:
            return False
        time.sleep(0.05)
    return True


def test_a_search_imports_no_mlflow_itself() -> None:
    modules = "search.run_grid, search.driver.run, search.problems.agr_models, search.results.champion"
    code = f"import sys, {modules}, search.grid_search, search.results.report\n"
    code += "print(sorted({name.split('.')[0] for name in sys.modules} & {'mlflow', 'sqlalchemy', 'pandas'}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

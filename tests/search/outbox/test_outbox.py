"""The outbox with a real SQLite store behind a tracker that can be made to fail."""

from __future__ import annotations

import functools
import json
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from agr.errors import ModelError, OutageError, SettingsError
from agr.registry.records import Store
from agr.registry.tracker import Tracker
from agr.registry.uri import StoreUri
from search.outbox import __main__ as outbox_main
from search.outbox import deliverer, mlflow_process, outage, outbox
from search.outbox.entries import LOCAL_ID, Journal, note, read
from search.outbox.outbox import Outbox
from tests.search.fakes import epoch
from tests.stores import new_store


def client_of(tracker: Any) -> Store:
    """A tracker of this process, as MLflow's own process would offer it."""
    return mlflow_process.client(functools.partial(mlflow_process.make, tracker), tracker.uri, "agr")


UP, DOWN, LOST = "up", "down", "lost"  # lost: the answer, after the call was carried out
HISTORY = [epoch(number, val_loss=1 / number) for number in (1, 2, 3)]


class Flaky:
    """A tracker whose store can be made to fail."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker, self.uri, self.mode, self.calls = tracker, tracker.uri, UP, Counter[str]()
        self.lost = 0  # call whose answer gets lost, counted from 1

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*values: Any, **named: Any) -> Any:
            self.calls[name] += 1
            if self.mode == DOWN:
                raise ConnectionError("connection refused")
            answer = getattr(self.tracker, name)(*values, **named)
            if self.mode == LOST or self.calls.total() == self.lost:
                self.mode = UP
                raise TimeoutError("no answer")
            return answer

        return call


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Tracker:
    return Tracker(new_store(tmp_path_factory.mktemp("store")))


@pytest.fixture
def flaky(store: Tracker) -> Flaky:
    return Flaky(store)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliverer, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(deliverer, "LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(outage, "SHOWN_AFTER", 0.0)
    monkeypatch.setenv("AGR_OUTAGE_GRACE", "20")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")


@pytest.fixture
def box(flaky: Flaky, tmp_path: Path) -> Iterator[Outbox]:
    made = Outbox(client_of(flaky), tmp_path / "outbox")
    yield made
    flaky.mode = UP
    made.close()


@pytest.fixture
def client(store: Tracker) -> MlflowClient:
    return MlflowClient(store.uri.whole, store.uri.whole)


def logged(box: Outbox) -> tuple[str, str]:
    """A search of one trial, as a session tells it; returns the local ids."""
    parent = box.start_run("grid", {"lr": "0.1 0.01"}, {"search": "s"})
    box.log_dataset(parent, "made", "0123", "somewhere", "{}")
    trial = box.start_run("trial", {"epochs": 3}, {"search": "s"}, parent)
    for each in HISTORY:
        box.log_epochs(trial, [each])
    box.log_metrics(trial, {"epochs_trained": 3})
    box.set_tags(trial, {"reason": "none"})
    for run in (trial, parent):
        box.end_run(run, "FINISHED")
    return parent, trial


def assert_arrived(client: MlflowClient, box: Outbox, parent: str, trial: str) -> None:
    """Everything is there, once."""
    search, run = client.get_run(box.run_id(parent)), client.get_run(box.run_id(trial))
    assert (search.info.status, run.info.status) == ("FINISHED", "FINISHED")
    assert run.data.params == {"epochs": "3"}
    assert run.data.tags["mlflow.parentRunId"] == search.info.run_id
    assert run.data.tags["reason"] == "none"
    assert [each.dataset.name for each in search.inputs.dataset_inputs] == ["made"]
    points = client.get_metric_history(run.info.run_id, "val_loss")
    assert sorted((each.step, each.value) for each in points) == [(k, 1 / k) for k in (1, 2, 3)]
    assert run.data.metrics["epochs_trained"] == 3
    for local in (parent, trial):
        found = client.search_runs([run.info.experiment_id], f"tags.{LOCAL_ID} = '{local}'")
        assert len(found) == 1


def left_files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "outbox").iterdir())


def test_everything_logged_arrives_and_no_file_is_left(box: Outbox, client: MlflowClient, tmp_path: Path) -> None:
    parent, trial = logged(box)
    box.flush()
    assert_arrived(client, box, parent, trial)
    assert box.run_id(trial) != trial
    box.close()
    assert left_files(tmp_path) == []


def test_nan_and_infinite_metrics_are_logged(box: Outbox, client: MlflowClient) -> None:
    run = box.start_run("diverged", {}, {})
    box.log_metrics(run, {"loss": math.nan})
    box.log_metrics(run, {"high": math.inf})
    box.flush()
    found = client.get_run(box.run_id(run)).data.metrics
    assert math.isnan(found["loss"])
    assert found["high"] > 1e300


def test_calls_during_an_outage_return_at_once_and_are_delivered_later(
    box: Outbox, flaky: Flaky, client: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    flaky.mode = DOWN
    parent, trial = logged(box)
    with pytest.raises(OutageError, match=r"did not answer for 0 s \(connection refused\); the same command goes on"):
        box.flush(0.2)
    assert flaky.calls.keys() == {"start_run", "find_runs"}, (
        "the first of them is tried again, the others wait behind it"
    )
    flaky.mode = UP
    box.flush()
    assert_arrived(client, box, parent, trial)
    out = capsys.readouterr().out
    assert "does not answer (connection refused): training goes on, what it logs is kept" in out
    assert "answers again: " in out


def test_after_ctrl_c_what_a_slow_store_has_not_taken_stays_in_the_file(
    flaky: Flaky, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(outbox, "HURRY_SECONDS", 0.1)
    opened = threading.Event()

    def first(store: Store) -> None:
        opened.wait(60)

    box = Outbox(client_of(flaky), tmp_path / "outbox", first)
    logged(box)
    began = time.monotonic()
    box.close(hurry=True)
    assert time.monotonic() - began < 10
    opened.set()
    (path,) = (tmp_path / "outbox").glob("*.jsonl")
    assert len(read(path).entries) == 10
    assert f"`python -m search.outbox deliver {os.path.relpath(path)}` delivers them" in capsys.readouterr().err


@pytest.mark.parametrize("number", range(9))
def test_a_call_whose_answer_is_lost_leaves_no_duplicate(
    box: Outbox, flaky: Flaky, client: MlflowClient, number: int
) -> None:
    """Each call of a search in turn is carried out, and its answer lost."""
    flaky.lost = 1 + number
    parent, trial = logged(box)
    box.flush()
    assert flaky.calls.total() > 9
    assert_arrived(client, box, parent, trial)


def test_a_run_that_the_server_created_twice_is_deleted_once(
    box: Outbox, flaky: Flaky, client: MlflowClient, store: Tracker
) -> None:
    """A server that takes its time may carry a call out after it was repeated."""
    flaky.mode = LOST
    run = box.start_run("late", {}, {})
    box.tags_by_alias("best")  # a query, answered after everything logged before
    late = store.start_run("late", {}, {LOCAL_ID: run})
    box.flush()
    assert client.get_run(late).info.lifecycle_stage == "deleted"
    assert client.get_run(box.run_id(run)).info.lifecycle_stage == "active"


def test_a_refused_entry_is_named_once_and_the_rest_is_delivered(
    box: Outbox, client: MlflowClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(3):
        box.end_run("0" * 32, "FINISHED")
    run = box.start_run("next", {}, {})
    box.flush()
    assert client.get_run(box.run_id(run)).info.run_name == "next"
    box.close()
    first, last = capsys.readouterr().err.splitlines()
    assert "refused: " in first and "(end_run); what it refuses stays in " in first
    (path,) = (tmp_path / "outbox").glob("*.jsonl")
    assert last.startswith("agr: 0 points, with 3 refused calls, are in ") and f"{path.name}` delivers them" in last
    assert [entry.call for entry in read(path).entries] == ["end_run"] * 3


def test_what_a_deleted_experiment_refuses_is_delivered_when_it_is_restored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is deleted in the UI while a search runs. Later searches say nothing more of it."""
    tracker = Tracker(new_store(tmp_path))
    client = MlflowClient(tracker.uri.whole, tracker.uri.whole)
    number = client.get_experiment_by_name("agr").experiment_id
    box = Outbox(client_of(tracker), tmp_path / "outbox")
    box.flush()
    client.delete_experiment(number)
    capsys.readouterr()
    parent, trial = logged(box)
    box.close()
    (path,) = (tmp_path / "outbox").glob("*.jsonl")
    told, _last = capsys.readouterr().err.splitlines()
    assert f"experiments restore --experiment-id {number}` restores it (start_run); what it refuses stays in" in told
    for _ in range(2):
        later = Outbox(client_of(tracker), tmp_path / "outbox")
        later.wait_until_open()
        later.close()
        assert path.exists() and capsys.readouterr().err == ""
    with path.open("a") as file:
        file.write('{"done": 1')  # torn
    assert deliverer.deliver_file(client_of(tracker), path).entries == ()
    assert " refused 10 calls, which stay in it; the first is start_run: " in capsys.readouterr().err
    client.restore_experiment(number)
    assert deliverer.deliver_file(client_of(tracker), path).refused == frozenset()
    (run,) = tracker.find_runs(LOCAL_ID, trial)
    assert client.get_run(run).data.tags["mlflow.parentRunId"] == tracker.find_runs(LOCAL_ID, parent)[0]
    assert len(client.get_metric_history(run, "val_loss")) == 3
    assert left_files(tmp_path) == []


def test_logged_files_are_copied_before_their_folder_is_deleted(
    box: Outbox, flaky: Flaky, client: MlflowClient, tmp_path: Path
) -> None:
    flaky.mode = DOWN
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "grid.png").write_bytes(b"dots")
    run = box.start_run("grid", {}, {})
    box.log_folder(run, tmp_path / "pictures")
    shutil.rmtree(tmp_path / "pictures")
    flaky.mode = UP
    box.flush()
    assert [file.path for file in client.list_artifacts(box.run_id(run))] == ["grid.png"]
    box.close()
    assert left_files(tmp_path) == []


def abandoned(flaky: Flaky, folder: Path) -> tuple[Path, str, str]:
    """The file of a search at whose end the store did not answer, and its local ids."""
    flaky.mode = DOWN
    box = Outbox(client_of(flaky), folder / "outbox")
    parent, trial = logged(box)
    with pytest.raises(OutageError):
        box.flush(0.1)
    box.close()
    (path,) = (folder / "outbox").glob("*.jsonl")
    flaky.mode = UP
    return path, parent, trial


def test_undelivered_entries_stay_in_a_file_and_the_command_that_delivers_it_is_printed(
    flaky: Flaky, client: MlflowClient, store: Tracker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, parent, trial = abandoned(flaky, tmp_path)
    (line,) = capsys.readouterr().err.splitlines()
    shown = os.path.relpath(path)
    points = 3 * (len(vars(HISTORY[0])) - 1) + 1
    assert line == f"agr: {points} points are in {shown}; `python -m search.outbox deliver {shown}` delivers them"
    copy = shutil.copy(path, tmp_path / "copy.jsonl")
    for file in (path, copy):  # delivering twice changes nothing
        assert outbox_main.main(["deliver", str(file)]) == 0
        assert f"{points} points of 2 runs delivered" in capsys.readouterr().out
        (run,) = store.find_runs(LOCAL_ID, trial)
        history = client.get_metric_history(run, "val_loss")
        assert sorted((each.step, each.value) for each in history) == [(k, 1 / k) for k in (1, 2, 3)]
        (search,) = store.find_runs(LOCAL_ID, parent)
        assert client.get_run(run).data.tags["mlflow.parentRunId"] == search
        assert client.get_run(search).info.status == "FINISHED"
    assert left_files(tmp_path) == []


def test_the_next_search_delivers_the_journal_of_an_ended_one(flaky: Flaky, store: Tracker, tmp_path: Path) -> None:
    path, _, trial = abandoned(flaky, tmp_path)
    box = Outbox(client_of(store), tmp_path / "outbox")
    box.wait_until_open()
    assert not path.exists()
    assert len(store.find_runs(LOCAL_ID, trial)) == 1
    box.close()


def test_journals_of_running_searches_and_of_other_stores_are_left_alone(
    box: Outbox, flaky: Flaky, store: Tracker, tmp_path: Path
) -> None:
    flaky.mode = DOWN
    run = box.start_run("grid", {}, {})
    other = Journal(tmp_path / "outbox" / "other.jsonl", StoreUri("http://elsewhere"))
    other.close(keep=True)
    second = Outbox(client_of(store), tmp_path / "outbox")
    second.wait_until_open()
    second.close()
    assert [name for name in left_files(tmp_path) if name.endswith(".jsonl")] == sorted([f"{run}.jsonl", "other.jsonl"])
    assert store.find_runs(LOCAL_ID, run) == []
    with pytest.raises(SettingsError, match="its search is running"):
        deliverer.deliver_file(client_of(store), tmp_path / "outbox" / f"{run}.jsonl")


@pytest.mark.parametrize("call", ["find_runs", "delete_run", "log_points"])
def test_a_journal_that_the_store_refuses_stops_no_other_search(
    flaky: Flaky, store: Tracker, tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _, _ = abandoned(flaky, tmp_path)

    def refuse(*values: object) -> None:
        raise PermissionError(f"{call} is not for you")

    monkeypatch.setattr(store, call, refuse)
    box = Outbox(client_of(store), tmp_path / "outbox", lambda tracker: None)
    box.wait_until_open()
    box.close()
    assert path.exists() == (call != "delete_run"), "what is refused stays; no run was there twice"


def test_a_journal_that_another_search_has_just_delivered_is_skipped(
    flaky: Flaky, store: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    abandoned(flaky, tmp_path)

    def gone(store: Store, path: Path, known: object) -> None:
        raise FileNotFoundError(path)

    monkeypatch.setattr(deliverer, "deliver_file", gone)
    box = Outbox(client_of(store), tmp_path / "outbox")
    box.wait_until_open()
    box.close()


def test_an_error_while_opening_reaches_everyone_who_waits(store: Tracker, tmp_path: Path) -> None:
    def first(store: Store) -> None:
        raise KeyError("a mistake of ours")

    box = Outbox(client_of(store), tmp_path / "outbox", first)
    box.start_run("grid", {}, {})
    for wait in (box.wait_until_open, box.flush):
        with pytest.raises(ModelError, match="refused: 'a mistake of ours'"):
            wait()
    box.close()
    assert left_files(tmp_path) == []


START: dict[str, object] = {"name": "old", "params": {}, "tags": {}, "parent": None}

KILLED = """
import sys, time
from pathlib import Path
from agr.errors import StoreError
from agr.registry.uri import StoreUri
from search.outbox.mlflow_process import client
from search.outbox.outbox import Outbox

def down(*values, **named):
    raise StoreError("down", passing=True)

box = Outbox(client(down, StoreUri(sys.argv[1]), "agr"), Path(sys.argv[2]))
run = box.start_run("killed", {}, {})
box.log_metrics(run, {"loss": 0.1})
print(run, flush=True)
time.sleep(60)
"""


def test_a_killed_driver_loses_nothing_that_it_logged(store: Tracker, client: MlflowClient, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", KILLED, store.uri.whole, str(tmp_path / "outbox")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    run = process.stdout.readline().strip()
    process.kill()
    process.communicate()
    box = Outbox(client_of(store), tmp_path / "outbox")
    box.wait_until_open()
    box.close()
    (found,) = store.find_runs(LOCAL_ID, run)
    assert client.get_run(found).data.metrics == {"loss": 0.1}


def test_a_journal_torn_at_any_byte_loses_the_torn_line_at_most(tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    journal = Journal(path, StoreUri("http://elsewhere"))
    for call in ("start_run", "set_tags", "end_run"):
        journal.append(call, "r", {})
    journal.close(keep=True)
    whole, data = read(path).entries, path.read_bytes()
    for cut in range(len(data)):
        path.write_bytes(data[:cut])
        complete = data[: cut + 1].count(b"\n")  # a line that lacks only its end is whole
        kept = whole[: max(0, complete - 1)]
        assert read(path).entries == kept, cut
        if kept:
            note(path, {whole[0].number: "f00"}, [])
            assert read(path).entries == kept[1:], cut
            assert read(path).ids == {whole[0].run: "f00"}


def test_entries_are_timed_in_their_order_though_the_clock_is_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, path = [2000.0], tmp_path / "a.jsonl"
    monkeypatch.setattr("search.outbox.entries.time.time", lambda: clock[0])
    journal = Journal(path, StoreUri("http://host"))
    journal.append("start_run", "a", {})
    clock[0] -= 1000
    journal.append("end_run", "a", {})
    journal.close(keep=True)
    first, last = (entry.at for entry in read(path).entries)
    assert 2_000_000 <= first <= last < 2_060_000


def test_a_journal_torn_before_its_first_entry_is_deleted_by_the_next_search(flaky: Flaky, tmp_path: Path) -> None:
    (tmp_path / "outbox").mkdir()
    for text in ("", '{"ur', '{"uri": "sqli'):
        (tmp_path / "outbox" / "torn.jsonl").write_text(text)
        box = Outbox(client_of(flaky), tmp_path / "outbox")
        box.wait_until_open()
        box.close()
        assert left_files(tmp_path) == []


@pytest.mark.parametrize("text", ["no json", "no json\n", '{"other": 1}\n', '["uri"]\n'])
def test_a_file_that_is_no_journal_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "file.jsonl").write_text(text)
    with pytest.raises(SettingsError, match=r"file\.jsonl: .*; expected a file that a search left"):
        read(tmp_path / "file.jsonl")


@pytest.mark.parametrize("uri", ["http://ann:secret@host:5000", "postgresql://ann:secret@host/db"])
def test_a_password_is_not_written_to_the_journal(tmp_path: Path, uri: str) -> None:
    journal = Journal(tmp_path / "file.jsonl", StoreUri(uri))
    journal.close(keep=True)
    assert "secret" not in (tmp_path / "file.jsonl").read_text()
    assert json.loads((tmp_path / "file.jsonl").read_text()) == {"uri": None, "experiment": "agr"}


def test_queries_wait_for_an_answer_and_for_everything_logged_before(box: Outbox, flaky: Flaky, store: Tracker) -> None:
    flaky.mode = DOWN
    run = box.start_run("grid", {}, {"driver": "x:1"})
    seen: list[object] = []
    asking = threading.Thread(target=lambda: seen.append((box.tags_by_alias("nobody"), box.run_id(run))))
    asking.start()
    time.sleep(0.05)
    assert seen == []
    flaky.mode = UP
    asking.join(20)
    assert seen == [(None, store.find_runs(LOCAL_ID, run)[0])]
    box.end_run(run, "KILLED")


def test_a_lost_answer_registers_no_second_version(
    box: Outbox, flaky: Flaky, client: MlflowClient, tmp_path: Path
) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "weights").write_bytes(b"w")
    run = box.start_run("champion", {}, {})
    box.flush()
    flaky.mode = LOST
    version = box.register_files(run, tmp_path / "files", {})
    assert flaky.calls["register_files"] == 1
    assert [int(found.version) for found in client.search_model_versions(f"run_id = '{box.run_id(run)}'")] == [version]


def test_a_journal_of_an_earlier_version_is_delivered(store: Store, tmp_path: Path) -> None:
    """It has no lock file, and its files lie in a folder of its name."""
    folder = tmp_path / "outbox" / "old" / "1"
    entries = [
        {"number": 0, "call": "start_run", "run": "old", "at": 1, "values": START},
        {"number": 2, "call": "log_points", "run": "old", "at": 2, "values": {"points": [["loss", 0.5, 1]]}},
        {"number": 3, "call": "log_folder", "run": "old", "at": 3, "values": {"folder": str(folder), "name": None}},
    ]
    folder.mkdir(parents=True)
    (folder / "grid.png").write_bytes(b"dots")
    lines = [{"uri": store.uri.whole}, *entries]
    path = tmp_path / "outbox" / "old.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    left = deliverer.deliver_file(client_of(store), path)
    assert (left.points, left.runs) == (1, ("old",))
    assert len(store.find_runs(LOCAL_ID, "old")) == 1
    assert left_files(tmp_path) == []


def test_the_lock_file_is_deleted_with_its_journal(store: Store, tmp_path: Path) -> None:
    box = Outbox(client_of(store), tmp_path / "outbox")
    box.wait_until_open()
    assert len(left_files(tmp_path)) == 2, "the journal and its lock"
    box.close()
    assert left_files(tmp_path) == []


@pytest.mark.parametrize(("text", "seconds"), [("2.5", 2.5), ("", 60.0), ("soon", 60.0)])
def test_a_variable_sets_how_long_a_search_waits(monkeypatch: pytest.MonkeyPatch, text: str, seconds: float) -> None:
    monkeypatch.setenv("AGR_OUTAGE_GRACE", text)
    assert outage.grace_seconds() == seconds

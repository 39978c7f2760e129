"""How a search begins in MLflow, and what is done about a driver that was killed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest

from agr.common.processes import driver, is_dead
from agr.registry.records import Store
from agr.training.settings import Settings
from search.driver import mlflow_run
from search.driver.mlflow_run import SHOWN_VALUES, axes_of, close_abandoned
from search.grid_search import grid
from tests.search.fakes import FakeTracker

HERE = socket.gethostname()


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_axes_list_the_values_of_each_setting_and_the_number_of_points() -> None:
    found = axes_of(grid((10, 5), (0.1, 0.001), (0.3,)), ("epochs", "lr", "gamma"))
    assert found == {"epochs": "5 10", "lr": "0.001 0.1", "gamma": "0.3", "trials": 4}


def test_a_long_axis_is_shortened() -> None:
    points = [Settings(epochs=count, lr=0.1, gamma=0.5) for count in range(30, 0, -1)]
    shown = " ".join(map(str, range(1, SHOWN_VALUES + 1))) + " ..."
    assert axes_of(points, ("epochs",)) == {"epochs": shown, "trials": 30}
    assert axes_of(points[-SHOWN_VALUES:], ("epochs",))["epochs"] == shown.removesuffix(" ...")


def test_values_of_mixed_types_are_sorted() -> None:
    @dataclass(frozen=True)
    class Made:
        value: object
        epochs: int = 1

        def rates(self) -> tuple[object, ...]:
            return (self.value,)

        prefix = rates

        def config(self) -> dict[str, object]:
            return {"value": self.value}

    assert axes_of([Made(each) for each in ("b", 9.5, 10, "a", 9, 10)], ("value",)) == {
        "value": "9 9.5 10 a b",
        "trials": 6,
    }


def test_axes_of_no_points_are_empty() -> None:
    assert axes_of([], ("epochs",)) == {"epochs": "", "trials": 0}


def test_a_running_process_is_alive_and_an_ended_one_is_dead() -> None:
    assert driver().startswith(f"{HERE}:{os.getpid()}:")
    assert not is_dead(driver())
    for pid in (f"{dead_pid()}", f"{dead_pid()}:1700000000"):
        assert is_dead(f"{HERE}:{pid}")


def test_an_earlier_process_with_the_same_host_and_pid_is_dead() -> None:
    """A restarted container: host and pid are those of the driver before."""
    started = int(driver().rpartition(":")[2])
    for tag in (f"{HERE}:{os.getpid()}:{started - 1}", f"{HERE}:{os.getpid()}"):
        assert is_dead(tag)


def test_a_living_process_is_the_driver_only_if_the_start_time_agrees() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        started = int(psutil.Process(other.pid).create_time())
        assert not is_dead(f"{HERE}:{other.pid}:{started}")
        assert not is_dead(f"{HERE}:{other.pid}"), "a tag of an earlier version"
        assert is_dead(f"{HERE}:{other.pid}:{started - 3600}")
        other.kill()


def test_a_clock_that_is_set_kills_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    script = "from agr.common.processes import driver; print(driver(), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as one:
        assert one.stdout is not None
        told, create_time = one.stdout.readline().strip(), psutil.Process.create_time
        assert not is_dead(told)
        monkeypatch.setattr(psutil.Process, "create_time", lambda self: create_time(self) + 86_400)
        assert not is_dead(told)
        host, pid, started = told.split(":")
        assert is_dead(f"{host}:{pid}:{int(started) - 1}")
        one.kill()


@pytest.mark.parametrize(
    "told",
    [
        "",
        ":",
        "17",
        f"{HERE}:",
        f"{HERE}:x",
        f"{HERE}:-1",
        f"{HERE}: 7",
        f"{HERE}.example:999999999",
        "elsewhere:999999999",
    ],
)
def test_a_driver_that_cannot_be_checked_is_not_considered_dead(told: str) -> None:
    assert not is_dead(told)


def test_a_process_of_another_user_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int) -> None:
        raise psutil.AccessDenied(pid)

    monkeypatch.setattr(psutil, "Process", refuse)
    assert not is_dead(f"{HERE}:{os.getpid() + 1}:1")


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> FakeTracker:
    """Knows four open searches with two trials each: of a dead driver, of this one, of another machine, of nobody."""

    @dataclass
    class Open(FakeTracker):
        def unfinished_runs(self) -> list[tuple[str, dict[str, str]]]:
            found = [(run_id, run) for run_id, run in self.runs.items() if run["status"] == "RUNNING"]
            return [
                (run_id, run["tags"] | ({"mlflow.parentRunId": run["parent"]} if run["parent"] else {}))
                for run_id, run in found
            ]

    fake = Open()
    for tags in ({"driver": f"{HERE}:{dead_pid()}"}, {"driver": driver()}, {"driver": "elsewhere:1"}, {}):
        parent = fake.start_run("search", {}, tags)
        for _ in "ab":
            fake.start_run("trial", {}, {}, parent)
    fake.end_run("run2", "FINISHED")
    return fake


def test_only_open_runs_of_dead_drivers_of_this_machine_are_ended(tracker: FakeTracker) -> None:
    close_abandoned(cast(Store, tracker))
    killed = {run_id for run_id, run in tracker.runs.items() if run["status"] == "KILLED"}
    assert killed == {"run0", "run1"}
    assert all(tracker.runs[run_id]["tags"]["reason"] == "its driver was killed" for run_id in killed)
    assert tracker.runs["run2"]["status"] == "FINISHED"
    assert "reason" not in tracker.runs["run2"]["tags"]
    assert {run["status"] for run in list(tracker.runs.values())[3:]} == {"RUNNING"}


def test_without_git_the_commit_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", missing)
    assert mlflow_run.commit() == "unknown"


@pytest.mark.parametrize(("flag", "variable", "expected"), [("mine", "ours", "mine"), (None, "ours", "ours")])
def test_the_experiment_is_that_of_the_flag_or_of_the_variable(
    flag: str | None, variable: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Opened(Exception):
        pass

    class Process:
        def open(self, uri: object, experiment: str, model: str) -> Store:
            raise Opened(experiment)

    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", variable)
    problem = cast(Any, SimpleNamespace(experiment="agr", model="agr"))
    with pytest.raises(Opened, match=expected):
        mlflow_run.open_session("s", problem, {}, cast(Any, Process()), None, {}, flag)

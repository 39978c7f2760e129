"""Starts the MLflow run of a search, and ends the runs that a killed driver left open."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from agr.common.places import store_folder
from agr.common.processes import driver, is_dead
from agr.registry.records import Store
from search.outbox.mlflow_process import MlflowProcess
from search.outbox.outbox import Outbox
from search.problems.problem import Problem
from search.session.session import KILLED, Session
from search.tasks.base import Point, format_setting

SHOWN_VALUES = 10  # values of an axis that the search's run shows


def open_session(
    name: str,
    problem: Problem,
    tags: Mapping[str, object],
    mlflow_process: MlflowProcess,
    tracking_uri: str | None,
    axes: Mapping[str, object],
    experiment: str | None = None,
) -> Session:
    """Start the run of the search without waiting until the store is open. axes: shown as parameters of the run."""
    store = store_of(problem, mlflow_process, tracking_uri, experiment)
    tracker = Outbox(store, store_folder() / "outbox", close_abandoned)
    parent = tracker.start_run(name, dict(axes) | dict(problem.params), dict(tags) | {"driver": driver()})
    tracker.log_dataset(parent, problem.task.name, problem.digest, problem.source, problem.profile)
    return Session(name, tracker, parent, tags, 0, problem.task.schema)


def store_of(
    problem: Problem, mlflow_process: MlflowProcess, tracking_uri: str | None, experiment: str | None
) -> Store:
    """The store of a search, which its first call opens."""
    experiment = experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or problem.experiment
    return mlflow_process.open(tracking_uri, experiment, problem.model)


def axes_of(points: Sequence[Point], names: Sequence[str]) -> dict[str, object]:
    """The distinct values of each of these settings, as text, and the number of points."""
    configs = [point.config() for point in points]
    found: dict[str, object] = {}
    for name in names:
        values = sorted({config[name] for config in configs}, key=_order)
        shown = [format_setting(value) for value in values[:SHOWN_VALUES]]
        found[name] = " ".join([*shown, "..."] if len(values) > SHOWN_VALUES else shown)
    return found | {"trials": len(points)}


def _order(value: object) -> tuple[str, float | str]:
    """Sorts numbers first, then other values by type and text."""
    return ("", value) if isinstance(value, int | float) else (str(type(value)), str(value))


def close_abandoned(store: Store) -> None:
    """End runs that a killed driver of this machine left open."""
    open_runs = store.unfinished_runs()
    dead = {run for run, tags in open_runs if is_dead(tags.get("driver", ""))}
    for run, tags in open_runs:
        if run in dead or tags.get("mlflow.parentRunId") in dead:
            store.set_tags(run, {"reason": "its driver was killed"})
            store.end_run(run, KILLED)


def common_tags(name: str, script: str, device: str) -> dict[str, object]:
    """Tags of every run of a search, whatever the problem."""
    source = {"mlflow.source.name": script, "mlflow.source.git.commit": commit()}
    return {"search": name, "commit": source["mlflow.source.git.commit"], "device": device, **source}


def commit() -> str:
    """The git commit of this code, or `unknown`."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True)
    except FileNotFoundError:
        return "unknown"
    return done.stdout.strip() or "unknown"

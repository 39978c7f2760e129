"""Begins a search in MLflow: opens its own run with its tags, and ends the runs that a killed driver left open."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from agr.common.processes import driver, is_dead
from agr.registry.records import Store
from agr.registry.uri import STORE
from search.outbox.mlflow_process import MlflowProcess
from search.outbox.outbox import Outbox
from search.problems.problem import Problem
from search.session.session import KILLED, Session
from search.tasks.base import Point, readable

SHOWN_VALUES = 10  # of an axis, in the parameters of the search's run


def open_session(
    name: str,
    subject: Problem,
    tags: Mapping[str, object],
    clerk: MlflowProcess,
    tracking_uri: str | None,
    axes: Mapping[str, object],
) -> Session:
    """Begin the search's own run, while the store is being opened. axes: what is searched, for people to read."""
    store = clerk.open(tracking_uri, subject.experiment, subject.model)
    tracker = Outbox(store, STORE / "outbox", close_abandoned)
    params = dict(axes) | dict(subject.params)
    parent = tracker.start_run(name, params, dict(tags) | {"driver": driver()})
    tracker.log_dataset(parent, subject.task.name, subject.digest, subject.source, subject.profile)
    return Session(name, tracker, parent, tags, 0, subject.task.kind)


def axes_of(points: Sequence[Point], names: Sequence[str]) -> dict[str, object]:
    """The values that each of these settings takes, and the number of points."""
    configs = [point.config() for point in points]
    found: dict[str, object] = {}
    for name in names:
        values = sorted({config[name] for config in configs}, key=_order)
        found[name] = " ".join(map(readable, values[:SHOWN_VALUES])) + (" ..." if len(values) > SHOWN_VALUES else "")
    return found | {"trials": len(points)}


def _order(value: object) -> tuple[str, float | str]:
    """Numbers first, then everything else by type and text."""
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
    """Tags of every run of a search, whatever it is about."""
    made_by = commit()
    return {
        "search": name,
        "commit": made_by,
        "device": device,
        "mlflow.source.name": script,
        "mlflow.source.git.commit": made_by,
    }


def commit() -> str:
    """The commit of the checkout that this code stands in, `unknown` outside one or without git."""
    here = Path(__file__).parent
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unknown"
    return done.stdout.strip() or "unknown"

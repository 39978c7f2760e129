"""The beginning of a search in MLflow: its own run, its tags, and what a killed driver left open."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agr import registry
from search.clerk import Clerk
from search.outbox import Outbox
from search.session import KILLED, Session
from search.subject import Subject
from search.task import Point, readable

if TYPE_CHECKING:
    from agr.tracking import Tracker

SHOWN_VALUES = 10  # of an axis, in the parameters of the search's run


def open_session(
    name: str,
    subject: Subject,
    tags: Mapping[str, object],
    clerk: Clerk,
    tracking_uri: str | None,
    axes: Mapping[str, object],
) -> Session:
    """The search's own run; the store opens meanwhile, see `Outbox.opened`. axes: what is searched, for people."""
    store = clerk.open(tracking_uri, subject.experiment, subject.model)
    tracker = Outbox(store, registry.STORE / "outbox", close_abandoned)
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


def _order(value: Any) -> tuple[str, Any]:
    """Numbers first, then what else there may be, each with its kind."""
    return "" if isinstance(value, int | float) else str(type(value)), value


def close_abandoned(tracker: Tracker) -> None:
    """End runs that a killed driver of this machine left open."""
    open_runs = tracker.unfinished()
    dead = {run for run, tags in open_runs if is_dead(tags.get("driver", ""))}
    for run, tags in open_runs:
        if run in dead or tags.get("mlflow.parentRunId") in dead:
            tracker.set_tags(run, {"reason": "its driver was killed"})
            tracker.end_run(run, KILLED)


def driver() -> str:
    """This process, as tags name it."""
    return f"{socket.gethostname()}:{os.getpid()}"


def is_dead(driver: str) -> bool:
    """Whether that process ran on this machine and is no more."""
    host, _, pid = driver.rpartition(":")
    if host != socket.gethostname() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


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

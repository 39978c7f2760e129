"""What chaos.py looks for when a search has completed: every promise of the README, as a count of its violations."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

import psutil
from _chaos_tools import wait_until
from _chaos_trace import trained
from _chaos_world import TRIAL, World, title
from filelock import FileLock, Timeout

from agr.registry.uri import EXPERIMENT, REGISTERED_MODEL
from agr.training.loop import Epoch
from search.outbox.entries import LOCAL_ID
from search.stages.pruning import stages
from search.stages.storage import TEMPORARY
from search.stages.store import StageStore

METRICS = tuple(name for name in Epoch.__dataclass_fields__ if name not in ("epoch", "seconds"))
PARENT = "mlflow.parentRunId"
SECONDS_TO_END = 60.0  # for processes after their search
Point = tuple[str, str, str]  # epochs, lr, gamma, as MLflow has them
Curves = dict[str, list[tuple[int, float]]]


@dataclass(frozen=True)
class Reference:
    """What an undisturbed search gave: every metric of every epoch of each point, and how many epochs it trained."""

    curves: dict[Point, Curves]
    epochs: int


@dataclass(frozen=True)
class Findings:
    """Violations, each as a count."""

    lost: int = field(metadata={"title": "lost trials"})
    differing: int = field(metadata={"title": "differing metrics"})
    repeated: int = field(metadata={"title": "epochs repeated beyond those in flight"})
    running: int = field(metadata={"title": "left RUNNING"})
    duplicates: int = field(metadata={"title": "duplicates"})
    zombies: int = field(metadata={"title": "zombies"})
    stale: int = field(metadata={"title": "stale locks"})

    @property
    def bad(self) -> bool:
        """Whether anything was found."""
        return any(getattr(self, item.name) for item in fields(self))

    def __str__(self) -> str:
        wrong = [f"{getattr(self, item.name)} {item.metadata['title']}" for item in fields(self)]
        return ", ".join(text for text in wrong if not text.startswith("0 ")) or "all well"


class Search(Protocol):
    """What the checks need to know of a search."""

    name: str
    folder: Path
    store: str
    allowance: int


def observed(world: World, search: Search) -> Reference:
    """What a search left in MLflow, and how many epochs were trained for it."""
    client, runs = runs_of(world, search.name)
    return Reference({point(run): curves(client, run) for run in completed(runs)[1]}, sum(trained(world).values()))


def examine(world: World, search: Search, reference: Reference) -> Findings:
    """Count what is wrong after a search."""
    zombies = strays(world)
    client, runs = runs_of(world, search.name)
    _, trials = completed(runs)
    found = {point(run): curves(client, run) for run in trials if run.info.status == "FINISHED"}
    expected = reference.curves
    twice = sum(count - 1 for count in trained(world).values())
    return Findings(
        lost=len(expected.keys() - found.keys()),
        differing=sum(found[key][name] != expected[key][name] for key in found.keys() & expected for name in METRICS),
        repeated=max(0, twice - search.allowance),
        running=sum(run.info.status == "RUNNING" for run in runs),
        duplicates=duplicates(client, runs, trials),
        zombies=zombies,
        stale=stale(search),
    )


def runs_of(world: World, name: str) -> tuple[Any, list[Any]]:
    """A client of the database behind the server, and every run of a search, the oldest first."""
    from mlflow import MlflowClient

    client = MlflowClient(world.database)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    order = ["attributes.start_time ASC"]
    wanted = f"tags.search = '{name}'"
    return client, list(client.search_runs([experiment.experiment_id], wanted, max_results=5000, order_by=order))


def completed(runs: list[Any]) -> tuple[Any, list[Any]]:
    """The run of the command that completed, and those of its trials; (None, []) if there is none."""
    parents = [run for run in runs if PARENT not in run.data.tags and run.info.status == "FINISHED"]
    last = parents[-1] if parents else None
    return last, [run for run in runs if last and run.data.tags.get(PARENT) == last.info.run_id]


def point(run: Any) -> Point:
    """Which trial a run is."""
    params = run.data.params
    return params.get("epochs", ""), params.get("lr", ""), params.get("gamma", "")


def curves(client: Any, run: Any) -> Curves:
    """Every value of every metric but the seconds."""
    histories = {name: client.get_metric_history(run.info.run_id, name) for name in METRICS}
    return {name: sorted((metric.step, metric.value) for metric in values) for name, values in histories.items()}


def duplicates(client: Any, runs: list[Any], trials: list[Any]) -> int:
    """Trials of one search with the same point, runs of one beginning, versions of one run."""
    points = Counter(map(point, trials))
    begun = Counter(run.data.tags[LOCAL_ID] for run in runs if LOCAL_ID in run.data.tags)
    ids = {run.info.run_id for run in runs}
    versions = client.search_model_versions(f"name = '{REGISTERED_MODEL}'", max_results=10000)
    registered = Counter(version.run_id for version in versions if version.run_id in ids)
    return sum(count - 1 for counter in (points, begun, registered) for count in counter.values())


def strays(world: World) -> int:
    """Processes that should have ended with their search; given time to do so."""

    def left() -> list[psutil.Process]:
        servers = world.infrastructure()
        family = psutil.Process().children(recursive=True)
        for process in family:
            if process.ppid() == psutil.Process().pid and process.pid not in servers:
                reap(process)
        return [each for each in family if each.is_running() and (each.pid not in servers or TRIAL in title(each))]

    wait_until(lambda: not left(), SECONDS_TO_END, 0.5)
    rest = left()
    for process in rest:
        print(f"  stray: {process.pid} {process.status()} {title(process)[:100]}", flush=True)
    return len(rest)


def reap(process: psutil.Process) -> None:
    """Let an orphan that has ended go, as init would."""
    import contextlib

    with contextlib.suppress(psutil.Error):
        if process.status() == psutil.STATUS_ZOMBIE:
            process.wait(0)


def stale(search: Search) -> int:
    """Locks that nobody holds but that keep others out, leases, undelivered or half-written files."""
    store = StageStore(search.store)
    needed = sum(stage.needed for stage in stages(store)) > 0
    half = len(list(store.storage.files(TEMPORARY)))
    undelivered = len(list((search.folder / "mlflow_store" / "outbox").glob("*.jsonl")))
    locked = sum(not free(path) for path in search.folder.rglob("*.lock"))
    return needed + half + undelivered + locked


def free(path: Path) -> bool:
    """Whether a lock can be had."""
    try:
        with FileLock(path, timeout=0):
            return True
    except Timeout:
        return False

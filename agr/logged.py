"""What is logged to an MLflow store and read back, and what a store can do, in plain types that need no MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agr.registry import StoreUri

Point = tuple[str, float, int]  # a metric's name, value and step


@dataclass(frozen=True)
class Version:
    """One registered version and the folder of its files; `trouble` says why they cannot be used, if so."""

    version: int
    folder: Path
    trouble: str = ""


@dataclass(frozen=True)
class Finished:
    """A finished trial: its run, its parameters as text, and the latest value of each metric."""

    run_id: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]


class Registry(Protocol):
    """Registered versions of one model and their aliases, and the finished trials of one experiment."""

    @property
    def uri(self) -> StoreUri:
        """Where it all is."""

    @property
    def model(self) -> str:
        """The name under which versions are registered."""

    def finished(self, tags: Mapping[str, str]) -> list[Finished]:
        """Finished trials with these tags, the oldest first."""

    def aliased(self, alias: str) -> Version | None:
        """The version that an alias names, its files on this machine; None if there is no such alias."""

    def marks_of(self, alias: str) -> tuple[int, Mapping[str, str]] | None:
        """Number and tags of the version that an alias names; None if there is no such alias."""

    def set_alias(self, alias: str, version: int) -> None:
        """Let an alias name a version; another version loses it."""

    def move_alias(self, alias: str, expected: int | None, version: int) -> bool:
        """Let an alias name a version if it still names the expected one; returns whether it names this one now."""

    def register(self, run_id: str, folder: Path, tags: Mapping[str, object], description: str = "") -> int:
        """Register a bundle as the model of a run; returns the number of the new version."""

    def register_files(self, run_id: str, folder: Path, tags: Mapping[str, object]) -> int:
        """Register a folder as it is as the model of a run; returns the number of the new version."""


class RunLog(Registry, Protocol):
    """What a search logs to."""

    def start_run(
        self, name: str, params: Mapping[str, object], tags: Mapping[str, object], parent: str | None = None
    ) -> str:
        """Begin a run, nested under `parent` if given; returns its id."""

    def log_dataset(self, run_id: str, name: str, digest: str, source: str, profile: str) -> None:
        """Record which data a run used."""

    def log_epochs(self, run_id: str, epochs: Sequence[object], totals: Mapping[str, float] | None = None) -> None:
        """Log every metric of every epoch, see `points_of`."""

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Log single numbers of a run."""

    def set_tags(self, run_id: str, tags: Mapping[str, object]) -> None:
        """Add or change tags of a run."""

    def log_folder(self, run_id: str, folder: Path, name: str | None = None) -> None:
        """Log every file of a folder as an artifact."""

    def end_run(self, run_id: str, status: str) -> None:
        """End a run: FINISHED, FAILED or KILLED."""


class Store(RunLog, Protocol):
    """An MLflow store itself; `at` is a time in ms since 1970. `agr.tracking.Tracker` is one."""

    def start_run(
        self,
        name: str,
        params: Mapping[str, object],
        tags: Mapping[str, object],
        parent: str | None = None,
        at: int | None = None,
    ) -> str:
        """Begin a run, nested under `parent` if given; returns its id."""

    def set_params(self, run_id: str, params: Mapping[str, object]) -> None:
        """Set parameters of a run; MLflow takes only the same again."""

    def log_points(self, run_id: str, points: Sequence[Point], at: int) -> None:
        """Log numbers measured at one time; of those that it is given twice MLflow keeps one."""

    def end_run(self, run_id: str, status: str, at: int | None = None) -> None:
        """End a run: FINISHED, FAILED or KILLED."""

    def tagged(self, key: str, value: str) -> list[str]:
        """Runs of the experiment with this tag, the oldest first."""

    def discard(self, run_id: str) -> None:
        """Delete a run; MLflow keeps it in its bin."""

    def unfinished(self) -> list[tuple[str, dict[str, str]]]:
        """Runs of the experiment that still count as running: id and tags."""

    def registered(self, run_id: str) -> int | None:
        """The version that was registered from a run, the first if there are several."""


def points_of(epochs: Sequence[object], totals: Mapping[str, float] | None = None) -> list[Point]:
    """Every metric of every epoch, the step being its attribute `epoch`, and single numbers at step 0."""
    known = [dict(vars(epoch)) for epoch in epochs]
    points = [(key, float(value), each["epoch"]) for each in known for key, value in each.items() if key != "epoch"]
    return points + [(key, float(value), 0) for key, value in (totals or {}).items()]

# ruff: noqa: D102
"""What is logged to an MLflow store and read back, in plain types that need no MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agr.registry.uri import BEST, StoreUri

VERSION = "version"  # tag of a search's run: that of its champion
MetricPoint = tuple[str, float, int]  # a metric's name, value and step
Texts = Mapping[str, object]  # MLflow stores each value as text


@dataclass(frozen=True)
class Version:
    """A registered version and the folder of its files; `trouble`: why they cannot be used, else empty."""

    version: int
    folder: Path
    trouble: str = ""


@dataclass(frozen=True)
class FinishedTrial:
    """A finished trial: the id of its run, its parameters as text, and the last value of each metric."""

    run_id: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class FinishedSearch:
    """A finished search: its run and trials, and its champion's version and aliases; no version if it has none."""

    run_id: str
    name: str
    began: int  # ms since 1970
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    trials: Sequence[FinishedTrial]
    version: int | None
    aliases: Sequence[str]

    @property
    def alias(self) -> str:
        """What the model's URI ends with: an alias, `best` rather than another, or else the version."""
        return BEST if BEST in self.aliases else next(iter(self.aliases), str(self.version or ""))


class Store(Protocol):
    """The methods of `agr.registry.tracker.Tracker`, which may run in another process."""

    @property
    def uri(self) -> StoreUri: ...
    @property
    def experiment(self) -> str: ...
    @property
    def model(self) -> str: ...
    def require_experiment(self) -> None: ...
    def start_run(
        self, name: str, params: Texts, tags: Texts, parent: str | None = None, at: int | None = None
    ) -> str: ...
    def run_page(self, run_id: str) -> str: ...
    def set_params(self, run_id: str, params: Texts) -> None: ...
    def log_dataset(self, run_id: str, name: str, digest: str, source: str, profile: str) -> None: ...
    def log_points(self, run_id: str, points: Sequence[MetricPoint], at: int) -> None: ...
    def set_tags(self, run_id: str, tags: Texts) -> None: ...
    def log_folder(self, run_id: str, folder: Path, name: str | None = None) -> None: ...
    def end_run(self, run_id: str, status: str, at: int | None = None) -> None: ...
    def find_runs(self, key: str, value: str) -> list[str]: ...
    def delete_run(self, run_id: str) -> None: ...
    def unfinished_runs(self) -> list[tuple[str, dict[str, str]]]: ...
    def finished_trials(self, tags: Mapping[str, str]) -> list[FinishedTrial]: ...
    def finished_search(self, tags: Mapping[str, str]) -> FinishedSearch | None: ...
    def register(self, run_id: str, folder: Path, tags: Texts, description: str = "") -> int: ...
    def register_files(self, run_id: str, folder: Path, tags: Texts) -> int: ...
    def version_of_run(self, run_id: str) -> int | None: ...
    def version_by_alias(self, alias: str) -> Version | None: ...
    def tags_by_alias(self, alias: str) -> tuple[int, Mapping[str, str]] | None: ...
    def set_alias(self, alias: str, version: int) -> None: ...
    def move_alias(self, alias: str, expected: int | None, version: int) -> bool: ...


def metric_points(epochs: Sequence[object], totals: Mapping[str, float] | None = None) -> list[MetricPoint]:
    """Every metric of every epoch, at step `epoch.epoch`, and `totals` at step 0."""
    known = [dict(vars(epoch)) for epoch in epochs]
    points = [(key, float(value), each["epoch"]) for each in known for key, value in each.items() if key != "epoch"]
    return points + [(key, float(value), 0) for key, value in (totals or {}).items()]


def as_text(values: Texts) -> dict[str, str]:
    """Each value as MLflow stores it."""
    return {key: str(value) for key, value in values.items()}

"""What is logged to an MLflow store and read back, in plain types that need no MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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


def metric_points(epochs: Sequence[object], totals: Mapping[str, float] | None = None) -> list[MetricPoint]:
    """Every metric of every epoch, at step `epoch.epoch`, and `totals` at step 0."""
    known = [dict(vars(epoch)) for epoch in epochs]
    points = [(key, float(value), each["epoch"]) for each in known for key, value in each.items() if key != "epoch"]
    return points + [(key, float(value), 0) for key, value in (totals or {}).items()]


def as_text(values: Texts) -> dict[str, str]:
    """Each value as MLflow stores it."""
    return {key: str(value) for key, value in values.items()}

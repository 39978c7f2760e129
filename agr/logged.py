"""What is logged of a run, and what is read back, in plain classes that need no MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Point = tuple[str, float, int]  # a metric's name, value and step


@dataclass(frozen=True)
class Version:
    """One registered version and where its files are; `trouble` says why they cannot be used, if so."""

    version: int
    folder: Path
    trouble: str = ""


@dataclass(frozen=True)
class Finished:
    """A finished trial: its run, its parameters as text, and the latest value of each metric."""

    run_id: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]


def points_of(epochs: Sequence[Any], totals: Mapping[str, float] | None = None) -> list[Point]:
    """Every metric of every epoch, the step being the epoch, and single numbers at step 0."""
    points = [
        (key, float(value), epoch.epoch) for epoch in epochs for key, value in vars(epoch).items() if key != "epoch"
    ]
    return points + [(key, float(value), 0) for key, value in (totals or {}).items()]

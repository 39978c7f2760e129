"""The objectives of a search with Optuna, and how trials are ranked by several.

With several objectives, the trials within TOLERANCE of the best first objective are ranked by the others, then by the
first; all further trials follow by the first alone.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TypeVar

from agr.errors import SettingsError
from search.session.session import Record
from search.tasks.base import ACCURACY, Config, EpochMetrics, Objective

OBJECTIVES = {
    "balanced_accuracy": ACCURACY,
    "loss": Objective("val_loss", False, "val loss"),
    "calibration": Objective("val_ece", False, "val calibration error"),
    "latency": Objective("latency_ms", False, "latency of one clip, ms"),
}
TOLERANCE = 0.01
T = TypeVar("T")


def parse(names: Sequence[str]) -> tuple[Objective, ...]:
    """Objectives by name. Raises: SettingsError if one is unknown, given twice, or cannot come first."""
    for name in names:
        if name not in OBJECTIVES:
            raise SettingsError(f"--objective {name}: unknown; expected one of {', '.join(OBJECTIVES)}")
    if len(set(names)) < len(names):
        raise SettingsError(f"--objective {' '.join(names)}: found one of them twice; expected each once")
    if names[0] == "latency":
        raise SettingsError(
            "--objective latency: found first; expected one that is measured after every epoch, such as loss, before it"
        )
    return tuple(OBJECTIVES[name] for name in names)


def measured(objective: Objective, config: Config, epoch: EpochMetrics) -> float:
    """The value of an objective for a configuration after an epoch."""
    if objective.metric == "latency_ms":
        return latency(str(config.get("model", "cnn")), float(str(config.get("width", 1.0))))
    return float(getattr(epoch, objective.metric))


@functools.cache
def latency(model: str, width: float) -> float:
    """Milliseconds to classify one image on one CPU thread; measured once per process, model and width."""
    from agr.training.model import build, latency_ms

    made = build(model, 0, width)
    return latency_ms(made, made.image_shape)


def rank(records: Sequence[Record], objectives: Sequence[Objective]) -> list[Record]:
    """Records, best first, as the head of this file says."""

    def scores(record: Record) -> list[float]:
        config = record.settings.config()
        values = [(each, measured(each, config, record.chosen)) for each in objectives]
        return [value if each.highest else -value for each, value in values]

    by_first = sorted(records, key=lambda record: record.schema.sort_key(record.chosen))
    return by_first if len(objectives) < 2 else rank_by_scores(by_first, [scores(record) for record in by_first])


def rank_by_scores(items: Sequence[T], scores: Sequence[Sequence[float]]) -> list[T]:
    """Rank items that are sorted by the first objective. scores: of each item, by objective; higher is better."""
    every = list(zip(items, scores, strict=True))
    close = [pair for pair in every if pair[1][0] >= every[0][1][0] - TOLERANCE]
    close.sort(key=lambda pair: [-score for score in (*pair[1][1:], pair[1][0])])
    return [item for item, _ in (*close, *every[len(close) :])]

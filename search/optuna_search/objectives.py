"""The objectives of a search with Optuna, and the champion where there are several.

Of the trials whose first aim is within TOLERANCE of the best, the champion is the one with the best second aim; of equals
the one with the better first aim.
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
    """Aims by name. Raises: SettingsError if one is unknown, given twice, or cannot come first."""
    for name in names:
        if name not in OBJECTIVES:
            raise SettingsError(f"--objective {name}: unknown; expected one of {', '.join(OBJECTIVES)}")
    if len(set(names)) < len(names):
        raise SettingsError(f"--objective {' '.join(names)}: one of them twice; expected each once")
    if names[0] == "latency":
        raise SettingsError(
            "--objective latency: the first aim; expected one that every epoch has, such as loss, before it"
        )
    return tuple(OBJECTIVES[name] for name in names)


def measured(aim: Objective, config: Config, epoch: EpochMetrics) -> float:
    """An aim's metric, of a trial with this configuration that stands for this epoch."""
    if aim.metric == "latency_ms":
        return latency(str(config.get("model", "cnn")), float(str(config.get("width", 1.0))))
    return float(getattr(epoch, aim.metric))


@functools.cache
def latency(model: str, width: float) -> float:
    """Milliseconds for one picture on one CPU thread; measured once a process for each model and width."""
    from agr.training.model import build, latency_ms

    return latency_ms(build(model, 0, width))


def rank(records: Sequence[Record], objectives: Sequence[Objective]) -> list[Record]:
    """Records, best first, by the rule above."""

    def scores(record: Record) -> list[float]:
        config = record.settings.config()
        values = [measured(aim, config, record.chosen) for aim in objectives]
        return [value if aim.highest else -value for aim, value in zip(objectives, values, strict=True)]

    by_first = sorted(records, key=lambda record: record.kind.merit(record.chosen))
    return by_first if len(objectives) < 2 else rank_by_scores(by_first, [scores(record) for record in by_first])


def rank_by_scores(items: Sequence[T], scores: Sequence[Sequence[float]]) -> list[T]:
    """Items, best first, by the rule above. items: best of the first aim first. scores: of each aim, more is better."""
    every = list(zip(items, scores, strict=True))
    close = [pair for pair in every if pair[1][0] >= every[0][1][0] - TOLERANCE]
    close.sort(key=lambda pair: [-score for score in (*pair[1][1:], pair[1][0])])
    return [item for item, _ in (*close, *every[len(close) :])]

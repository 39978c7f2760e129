"""Train the best points again with other seeds, and rank them by mean minus standard error."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev

from agr.training.settings import Settings
from search.driver.context import SearchContext
from search.driver.train_points import train_points
from search.session.session import Record
from search.tasks.agr_task import settings_of
from search.tasks.base import format_setting

SEEDS = 3  # of a repeated point, including its own


@dataclass(frozen=True)
class Repeats:
    """The scores of a point after `epochs` epochs with several seeds, the search's own first."""

    record: Record
    epochs: int
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean score."""
        return mean(self.scores)

    @property
    def error(self) -> float:
        """The standard error of the mean."""
        return stdev(self.scores) / math.sqrt(len(self.scores))

    def __str__(self) -> str:
        objective = self.record.schema.objective
        config = ", ".join(f"{name} {format_setting(value)}" for name, value in self.record.named.items())
        score = f"{objective.label} {objective.value(self.mean):.4f} +- {self.error:.4f}, {len(self.scores)} seeds"
        return f"repeated: {config}: {score}"


def repeat(context: SearchContext, ranking: Sequence[Record], count: int) -> tuple[list[Repeats], list[Record]]:
    """Train the first `count` points of a ranking with other seeds, each up to its chosen epoch.

    Returns the repeats, best first, and the ranking with the repeated points in their new order at the top. The model
    of a point stays that of its first seed, so that no lucky seed is chosen.
    """
    top = distinct(ranking)[:count]
    tests = [(record, with_seed(record, turn)) for record in top for turn in range(1, SEEDS)]
    before = set(context.session.records)
    train_points(context, [point for _, point in tests], "repeat")
    new = [record for trial, record in context.session.records.items() if trial not in before]
    found = []
    for record in top:
        epochs = record.chosen.epoch
        mine = {point for origin, point in tests if origin is record}
        others = [_score(each, epochs) for each in new if each.settings in mine and len(each.history) >= epochs]
        if others:
            found.append(Repeats(record, epochs, (_score(record, epochs), *others)))
    found.sort(key=lambda each: each.error - each.mean)
    first = [each.record for each in found]
    return found, first + [record for record in ranking if all(record is not each for each in first)]


def distinct(ranking: Sequence[Record]) -> list[Record]:
    """The ranking without records whose epochs are those of a better record."""
    first: dict[tuple[Hashable, ...], Record] = {}
    for record in ranking:
        first.setdefault(record.settings.prefix()[: record.chosen.epoch], record)
    return list(first.values())


def with_seed(record: Record, turn: int) -> Settings:
    """The settings of a record with another seed, up to its chosen epoch."""
    settings = settings_of(record.settings)
    return replace(settings, seed=(settings.seed + 1009 * turn) % 2**32, epochs=record.chosen.epoch)


def _score(record: Record, epochs: int) -> float:
    return record.schema.objective.score(record.history[epochs - 1])

"""The best points, trained again with other seeds, and ranked by their mean less one standard error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev

from agr.training.settings import Settings
from search.driver.context import SearchContext
from search.driver.train_points import train_all
from search.session.session import Record
from search.tasks.agr_task import settings_of
from search.tasks.base import readable

SEEDS = 3  # of a repeated point, its own among them


@dataclass(frozen=True)
class Repeats:
    """One point with several seeds: `scores` after `epochs` epochs, the first with the seed of the search."""

    record: Record
    epochs: int
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return mean(self.scores)

    @property
    def error(self) -> float:
        """Its standard error."""
        return stdev(self.scores) / math.sqrt(len(self.scores))

    def __str__(self) -> str:
        """One line for people."""
        aim = self.record.kind.aim
        config = ", ".join(f"{name} {readable(value)}" for name, value in self.record.named.items())
        score = f"{aim.says} {aim.value(self.mean):.4f} +- {self.error:.4f}, {len(self.scores)} seeds"
        return f"repeated: {config}: {score}"

    @property
    def lower_bound(self) -> float:
        """What it is ranked by."""
        return self.mean - self.error


def repeat(arena: SearchContext, ranking: Sequence[Record], count: int) -> tuple[list[Repeats], list[Record]]:
    """Train the first `count` of a ranking with other seeds, each to the epoch for which it stands.

    The model of a point stays that of its first seed: to take the luckiest one would defeat the purpose.

    Returns:
        The repeats, best first, and the ranking, the repeated points in their new order before the rest.
    """
    top = distinct(ranking)[:count]
    tests = [(record, with_seed(record, turn)) for record in top for turn in range(1, SEEDS)]
    before = set(arena.session.records)
    train_all(arena, [point for _, point in tests], "repeat")
    new = [record for trial, record in arena.session.records.items() if trial not in before]
    found = []
    for record in top:
        epochs = record.chosen.epoch
        mine = {point for origin, point in tests if origin is record}
        others = [_score(each, epochs) for each in new if each.settings in mine and len(each.history) >= epochs]
        if others:
            found.append(Repeats(record, epochs, (_score(record, epochs), *others)))
    found.sort(key=lambda each: -each.lower_bound)
    first = [each.record for each in found]
    return found, first + [record for record in ranking if all(record is not each for each in first)]


def distinct(ranking: Sequence[Record]) -> list[Record]:
    """The ranking without records that stand for the same epochs as a better one."""
    seen = set()
    kept = []
    for record in ranking:
        key = record.settings.prefix()[: record.chosen.epoch]
        if key not in seen:
            kept.append(record)
        seen.add(key)
    return kept


def with_seed(record: Record, turn: int) -> Settings:
    """The settings of a record with another seed, for as many epochs as it stands for."""
    settings = settings_of(record.settings)
    return replace(settings, seed=(settings.seed + 1009 * turn) % 2**32, epochs=record.chosen.epoch)


def _score(record: Record, epochs: int) -> float:
    return record.kind.aim.score(record.history[epochs - 1])

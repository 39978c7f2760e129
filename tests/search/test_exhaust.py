"""Whether a grid is sure to train, told from its stages before anything is begun."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agr.training.settings import Settings
from search.grid import MOST_LOOKUPS, GridStrategy, grid
from search.problems.problem import Problem
from search.stages.store import Stage, StageStore
from search.tasks.agr_task import Voices
from search.tasks.base import lineage_of
from tests.search.parts import made_stage, small_split


def subject() -> Problem:
    data, split = small_split()

    def forbidden(*_: object, **__: object) -> Any:
        raise AssertionError("no ending is wanted here")

    return Problem(Voices(data, split), "made", {}, {}, data.digest, "made", (), forbidden)


def keep(store: StageStore, about: Problem, point: Settings) -> str:
    key = lineage_of(about.task, point, "cpu", "").key(point.rates())
    store.put(key, made_stage(point.epochs))
    return key


def test_a_grid_trains_unless_every_last_stage_is_there(tmp_path: Path) -> None:
    about, points = subject(), grid((1, 2), (0.1, 0.01), (0.5, 0.7))
    store, strategy = StageStore(str(tmp_path)), GridStrategy(points)
    assert strategy.needs_training(about, store, "cpu")
    keys = [keep(store, about, point) for point in points]
    assert not strategy.needs_training(about, store, "cpu")
    assert strategy.needs_training(about, store, "cuda")
    store.drop(keys[-1])
    assert strategy.needs_training(about, store, "cpu")


@pytest.mark.parametrize("count", [MOST_LOOKUPS + 1, 10 * MOST_LOOKUPS])
def test_of_many_points_a_few_are_looked_at(tmp_path: Path, count: int) -> None:
    about = subject()
    points = [replace(Settings(1, 0.1, 0.5), lr=0.1 / (k + 1)) for k in range(count)]
    store, strategy = StageStore(str(tmp_path)), GridStrategy(points)
    for point in points:
        keep(store, about, point)
    looked: list[str] = []

    class Counting(StageStore):
        def outline(self, key: str) -> Stage | None:
            looked.append(key)
            return super().outline(key)

    assert not strategy.needs_training(about, Counting(str(tmp_path)), "cpu")
    assert 0 < len(looked) <= MOST_LOOKUPS

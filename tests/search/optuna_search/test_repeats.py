"""The best points again with other seeds."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from agr.training.settings import Settings
from search.driver.context import SearchContext
from search.optuna_search.repeats import SEEDS, Repeats, distinct, repeat, with_seed
from search.session.session import Record
from search.tasks.base import EpochMetrics
from tests.search.fakes import epoch
from tests.search.optuna_search.fakes import OPTUNA_SCHEMA, context, keep

POINT = Settings(epochs=4, lr=0.01, gamma=0.5)


def record(point: Settings, *scores: float) -> Record:
    history: list[EpochMetrics] = [
        epoch(number, val_balanced_accuracy=score) for number, score in enumerate(scores, start=1)
    ]
    return Record(point, f"{point.lr}-{point.epochs}", OPTUNA_SCHEMA, "FINISHED", history)


def again(where: SearchContext, of: Record, *scores: float) -> None:
    """Store what the repetitions of a record come to, one score for each other seed."""
    for turn, score in enumerate(scores, start=1):
        point = with_seed(of, turn)
        keep(where, point, [0.0] * (point.epochs - 1) + [score])


def test_a_mean_and_its_standard_error() -> None:
    found = Repeats(record(POINT, 0.9), 1, (0.9, 0.7, 0.8))
    assert found.mean == pytest.approx(0.8)
    assert found.error == pytest.approx(0.1 / math.sqrt(3))
    assert found.mean - found.error == pytest.approx(0.8 - 0.1 / math.sqrt(3))


def test_repeat_has_another_seed_and_the_chosen_number_of_epochs() -> None:
    origin = record(POINT, 0.5, 0.9, 0.6)
    others = [with_seed(origin, turn) for turn in range(1, SEEDS)]
    assert len({POINT.seed, *(each.seed for each in others)}) == SEEDS
    assert [replace(each, seed=POINT.seed, epochs=POINT.epochs) for each in others] == [POINT] * (SEEDS - 1)
    assert {each.epochs for each in others} == {2}
    top = with_seed(record(replace(POINT, seed=2**32 - 1), 0.9), 1)
    assert top.seed == 1008


def test_records_with_equal_epochs_are_repeated_once() -> None:
    short, long = record(replace(POINT, epochs=2), 0.5, 0.9), record(POINT, 0.5, 0.9, 0.1, 0.1)
    other = record(replace(POINT, lr=0.1), 0.8)
    assert distinct([long, short, other]) == [long, other]


def test_lucky_point_ranks_below_a_steady_one(tmp_path: Path) -> None:
    where = context(tmp_path)
    lucky, steady = record(POINT, 0.5, 0.95), record(replace(POINT, lr=0.02), 0.9, 0.2)
    rest = record(replace(POINT, lr=0.03), 0.85)
    again(where, lucky, 0.6, 0.7)
    again(where, steady, 0.88, 0.89)
    found, ranking = repeat(where, [lucky, steady, rest], 2)
    assert [(each.record, each.epochs) for each in found] == [(steady, 1), (lucky, 2)]
    assert found[0].scores == (0.9, 0.88, 0.89)
    assert ranking == [steady, lucky, rest]
    assert len(where.session.records) == 2 * (SEEDS - 1)


def test_repeat_count_is_at_most_the_ranking(tmp_path: Path) -> None:
    where = context(tmp_path)
    only = record(POINT, 0.9)
    again(where, only, 0.8, 0.7)
    found, ranking = repeat(where, [only], 5)
    assert ([each.scores for each in found], ranking) == ([(0.9, 0.8, 0.7)], [only])

"""The points of the grid and how many of their epochs differ."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agr.errors import SettingsError
from agr.recipes.mfcc import MFCC
from agr.training.settings import STEP_SIZE, Settings
from search import run_grid
from search.grid_search import MOST_LOOKUPS, GridStrategy, build_search, grid, parse_axes
from search.optuna_search.ranges import Value
from search.problems.problem import Problem
from search.stages.store import Stage, StageStore
from search.tasks.agr_task import AgrTask, FoldPoint, settings_of
from search.tasks.base import distinct_epochs, lineage_of
from tests.search.fakes import made_stage, small_split


def schedule(epochs: int, lr: float, gamma: float) -> list[float]:
    """Learning rates by a loop rather than a formula, rounded so that two ways to the same number agree."""
    rates, rate = [], lr
    for done in range(epochs):
        if done and done % STEP_SIZE == 0:
            rate *= gamma
        rates.append(round(rate, 15))
    return rates


def test_the_default_grid_is_every_combination_once() -> None:
    points = grid()
    expected = set(itertools.product((5, 10, 20), (0.1, 0.01, 0.001), (0.1, 0.3, 0.7)))
    assert {(point.epochs, point.lr, point.gamma) for point in points} == expected
    assert len(points) == 27


def test_of_the_315_epochs_of_the_default_grid_150_differ() -> None:
    points = grid()
    assert sum(point.epochs for point in points) == 315
    assert distinct_epochs(points) == 150


@pytest.mark.parametrize(
    ("epochs", "lr", "gamma"),
    [
        ((3,), (0.1,), (0.1, 0.5)),
        ((4, 6, 11), (0.1, 0.2), (0.5, 0.25)),
        ((10,), (0.3,), (1.0, 0.5)),
        ((1,), (1.0,), (0.0,)),
    ],
)
def test_distinct_epochs_are_the_distinct_schedules(
    epochs: tuple[int, ...], lr: tuple[float, ...], gamma: tuple[float, ...]
) -> None:
    runs = [schedule(*point) for point in itertools.product(epochs, lr, gamma)]
    expected = {tuple(run[:count]) for run in runs for count in range(1, len(run) + 1)}
    assert distinct_epochs(grid(epochs, lr, gamma)) == len(expected)


def test_another_seed_changes_every_point_and_no_count() -> None:
    points = grid(seed=7)
    assert {point.seed for point in points} == {7}
    assert distinct_epochs(points) == 150


def test_a_value_given_twice_counts_once() -> None:
    assert grid((5, 5), (0.1, 0.1), (0.5, 0.5, 0.5)) == [Settings(epochs=5, lr=0.1, gamma=0.5)]


def test_points_keep_the_order_in_which_the_values_were_given() -> None:
    assert [(p.epochs, p.lr) for p in grid((4, 2), (0.1, 0.2), (0.5,))] == [(4, 0.1), (4, 0.2), (2, 0.1), (2, 0.2)]


def test_no_points_have_no_epochs() -> None:
    assert distinct_epochs([]) == 0


@pytest.mark.parametrize(
    ("epochs", "lr", "gamma", "message"),
    [
        ((), (0.1,), (0.5,), "--epochs: no values"),
        ((1,), (), (0.5,), "--lr: no values"),
        ((1,), (0.1,), (), "--gamma: no values"),
        ((0,), (0.1,), (0.5,), "epochs 0"),
        ((-3,), (0.1,), (0.5,), "epochs -3"),
        ((1,), (0.0,), (0.5,), "lr 0"),
        ((1,), (-0.1,), (0.5,), "lr -0.1"),
        ((1,), (float("nan"),), (0.5,), "lr nan"),
        ((1,), (float("inf"),), (0.5,), "lr inf"),
        ((1,), (0.1,), (1.5,), "gamma 1.5"),
        ((1,), (0.1,), (-0.1,), "gamma -0.1"),
        ((1,), (0.1,), (float("nan"),), "gamma nan"),
    ],
)
def test_a_value_out_of_range_is_named(
    epochs: tuple[int, ...], lr: tuple[float, ...], gamma: tuple[float, ...], message: str
) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        grid(epochs, lr, gamma)
    assert "\n" not in str(caught.value)
    assert "expected" in str(caught.value)


# Other axes


def test_other_axes_multiply_the_points_and_share_no_epochs() -> None:
    others = {"dropout": [0.0, 0.2, 0.2], "width": [0.5, 1]}
    points = grid((5, 10), (0.1,), (0.1, 0.3), others=others)
    expected = set(itertools.product((5, 10), (0.1, 0.3), (0.0, 0.2), (0.5, 1)))
    assert len(points) == len(expected) == 16
    assert {(point.epochs, point.gamma, point.dropout, point.width) for point in points} == expected
    assert distinct_epochs(points) == 4 * distinct_epochs(grid((5, 10), (0.1,), (0.1, 0.3)))


def test_folds_share_no_epochs() -> None:
    points = grid((5, 10), (0.1,), (0.1,))
    assert distinct_epochs([FoldPoint(point, fold) for point in points for fold in (1, 2, 3)]) == 3 * 10


@pytest.mark.parametrize("name", ["epochs", "lr", "gamma", "seed", "model", "drop", "Dropout", "augmentation", ""])
def test_an_axis_that_is_no_other_setting_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(SettingsError, match=f"^--axis {name}: unknown; expected one of ") as caught:
        grid(others={name: [1]})
    assert {"batch_size", "dropout", "width", "augment_pitch"} <= set(str(caught.value).replace(",", "").split())


@pytest.mark.parametrize(
    ("name", "value"), [("dropout", 2.0), ("width", 0.0), ("batch_size", 0), ("augment_pitch", 9.0)]
)
def test_a_value_of_another_axis_out_of_range_is_named(name: str, value: float) -> None:
    with pytest.raises(SettingsError, match=f"{name.removeprefix('augment_')} {value}.*expected"):
        grid(others={name: [value]})


def test_whole_numbers_on_an_axis_of_numbers_make_the_same_trials_as_numbers() -> None:
    (point,) = grid((5,), (0.1,), (0.1,), others={"dropout": [0, 0.0], "augment_shift": [2]})
    assert [type(value) for value in (point.dropout, point.augment_shift)] == [float, int]
    assert repr(replace(point, augment_shift=0)) == repr(Settings(5, 0.1, 0.1)), "a stage's name is made of such words"


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("dropout", "much", "numbers"),
        ("batch_size", 16.5, "whole numbers"),
        ("augment_shift", "x", "whole numbers"),
    ],
)
def test_a_value_of_another_type_is_named(name: str, value: Value, wanted: str) -> None:
    with pytest.raises(SettingsError) as caught:
        grid(others={name: [1, value]})
    assert str(caught.value) == f"--axis {name}: found {value}; expected {wanted}"


def test_values_of_axes_are_whole_numbers_numbers_or_text() -> None:
    found = parse_axes([["batch_size", "16", "-2"], ["dropout", "0", "0.1", "1e-3"], ["kernel", "rbf", "1.2.3"]])
    assert found == {"batch_size": [16, -2], "dropout": [0, 0.1, 0.001], "kernel": ["rbf", "1.2.3"]}
    assert [type(value) for value in found["dropout"]] == [int, float, float]
    assert parse_axes([]) == {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([["dropout"]], "--axis dropout: no values; expected values once"),
        ([["dropout", "0"], ["width", "1"], ["dropout", "0"]], "--axis dropout: given twice; expected values once"),
    ],
)
def test_an_axis_without_values_or_given_twice_is_named(given: list[list[str]], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_axes(given)
    assert str(caught.value) == message


def test_a_number_for_a_precision_is_refused() -> None:
    with pytest.raises(SettingsError, match="--axis precision: found 16; expected names"):
        grid(others={"precision": [16]})


def test_both_precisions_are_an_axis(monkeypatch: pytest.MonkeyPatch) -> None:
    data = SimpleNamespace(features=None, recipe=MFCC)
    monkeypatch.setattr("search.problems.agr_models.problem", lambda plan, schema: (problem(), data))
    words = ["--epochs", "5", "--lr", "0.1", "--gamma", "0.1", "--precision", "float32", "bf16"]
    *_, strategy = build_search(run_grid.parse(words), "search/run_grid.py")
    assert [settings_of(point).precision for point in strategy.points] == ["float32", "bf16"]


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_named(seed: int) -> None:
    with pytest.raises(SettingsError, match="seed"):
        grid(seed=seed)


# Whether a grid needs training, from its stages


def problem() -> Problem:
    data, split = small_split()

    def forbidden(*_: object, **__: object) -> Any:
        raise AssertionError("no result is wanted here")

    return Problem(AgrTask(data, split), "made", {}, {}, data.digest, "made", (), forbidden, forbidden)


def keep(store: StageStore, about: Problem, point: Settings) -> str:
    key = lineage_of(about.task, point, "cpu", "").key(point.rates())
    store.put(key, made_stage(point.epochs))
    return key


def test_grid_needs_training_unless_every_final_stage_is_stored(tmp_path: Path) -> None:
    about, points = problem(), grid((1, 2), (0.1, 0.01), (0.5, 0.7))
    store, strategy = StageStore(str(tmp_path)), GridStrategy(points)
    assert strategy.needs_training(about, store, "cpu")
    keys = [keep(store, about, point) for point in points]
    assert not strategy.needs_training(about, store, "cpu")
    assert strategy.needs_training(about, store, "cuda")
    store.drop(keys[-1])
    assert strategy.needs_training(about, store, "cpu")


@pytest.mark.parametrize("count", [MOST_LOOKUPS + 1, 10 * MOST_LOOKUPS])
def test_few_of_many_points_are_looked_up(tmp_path: Path, count: int) -> None:
    about = problem()
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

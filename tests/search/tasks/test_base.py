"""What a search trains: points, folds, which epoch stands for a trial, and in which order trials are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from agr.data.splits import inner
from agr.errors import SettingsError
from agr.training.loop import Epoch
from agr.training.settings import Settings
from search.stages.store import Lineage
from search.tasks.agr_task import AGR_SCHEMA, AgrTask, FoldPoint, agr_point
from search.tasks.base import ACCURACY, Objective, format_setting
from tests.search.fakes import epoch, small_split

POINT = Settings(epochs=7, lr=0.01, gamma=0.5, width=0.5)
BEST_EPOCH = replace(AGR_SCHEMA, best_epoch=True)
LOW_LOSS = Objective("val_loss", False, "val loss")


def history(*scores: float, losses: Sequence[float] = ()) -> list[Epoch]:
    """Epochs with these validation scores and losses."""
    losses = losses or [0.7] * len(scores)
    every = zip(scores, losses, strict=True)
    return [epoch(n, val_balanced_accuracy=s, val_loss=loss) for n, (s, loss) in enumerate(every, start=1)]


# Points


@pytest.mark.parametrize("fold", [1, 4])
def test_a_fold_point_survives_a_round_trip_through_its_config(fold: int) -> None:
    folded = FoldPoint(POINT, fold)
    assert folded.config() == asdict(POINT) | {"fold": fold}
    assert agr_point(folded.config()) == folded
    assert (folded.epochs, folded.rates()) == (7, POINT.rates())


@pytest.mark.parametrize("more", [{}, {"fold": 0}])
def test_a_config_without_fold_becomes_settings(more: dict[str, int]) -> None:
    config = asdict(POINT) | more
    assert agr_point(config) == POINT
    assert config == asdict(POINT) | more, "the configuration is left as it was"


def test_an_impossible_configuration_is_refused() -> None:
    with pytest.raises(SettingsError, match="lr -1"):
        agr_point(asdict(POINT) | {"lr": -1.0, "fold": 2})


def shared(a: Sequence[Any], b: Sequence[Any]) -> int:
    count = 0
    while a[: count + 1] == b[: count + 1] and count < min(len(a), len(b)):
        count += 1
    return count


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (FoldPoint(POINT, 1), 7),
        (FoldPoint(replace(POINT, epochs=3), 1), 3),
        (FoldPoint(replace(POINT, gamma=0.1), 1), 5),  # StepLR's first step is after five epochs
        (FoldPoint(replace(POINT, lr=0.1), 1), 0),
        (FoldPoint(replace(POINT, width=1.0), 1), 0),
        (FoldPoint(replace(POINT, seed=1), 1), 0),
        (FoldPoint(POINT, 2), 0),
        (POINT, 0),
    ],
)
def test_prefixes_agree_for_shared_epochs(other: FoldPoint | Settings, expected: int) -> None:
    assert shared(FoldPoint(POINT, 1).prefix(), other.prefix()) == expected
    assert len(other.prefix()) == other.epochs


# Which epoch, which order


@pytest.mark.parametrize(
    ("scores", "losses", "best"),
    [
        ((0.5,), (), 1),
        ((0.5, 0.7, 0.6), (), 2),
        ((0.5, 0.7, 0.7), (), 2),
        ((0.5, 0.7, 0.7), (0.1, 0.4, 0.3), 3),
        ((0.8333333333333333, 0.8333333333333334), (0.5, 0.6), 1),  # a rounding error does not decide
        ((0.5, 0.6, 0.7), (0.1, 0.2, 0.3), 3),
    ],
)
def test_the_chosen_epoch_is_the_best_or_the_last(scores: Sequence[float], losses: Sequence[float], best: int) -> None:
    epochs = history(*scores, losses=losses)
    assert BEST_EPOCH.chosen(epochs) == epochs[best - 1]
    assert AGR_SCHEMA.chosen(epochs) == epochs[-1]


def test_the_lowest_loss_is_best_if_it_is_the_objective() -> None:
    schema = replace(BEST_EPOCH, objective=LOW_LOSS)
    epochs = history(0.9, 0.5, 0.9, losses=(0.4, 0.3, 0.5))
    assert schema.chosen(epochs) == epochs[1]
    assert sorted(epochs, key=schema.sort_key) == [epochs[1], epochs[0], epochs[2]]


def test_without_a_tie_metric_score_and_length_decide() -> None:
    schema = replace(BEST_EPOCH, tie="seconds_of_nobody")
    epochs = history(0.5, 0.7, 0.7, losses=(0.1, 0.4, 0.3))
    assert schema.chosen(epochs) == epochs[1]


@pytest.mark.parametrize(("aim", "value"), [(ACCURACY, 0.75), (LOW_LOSS, 0.25)])
def test_higher_scores_are_better_and_convert_back_to_the_metric(aim: Objective, value: float) -> None:
    worse, better = (0.25, 0.75) if aim.highest else (0.75, 0.25)
    assert aim.score(epoch(1, **{aim.metric: worse})) < aim.score(epoch(1, **{aim.metric: better}))
    assert aim.value(aim.score(epoch(1, **{aim.metric: value}))) == value


def test_trial_names_list_the_axes() -> None:
    assert AGR_SCHEMA.title(POINT.config()) == "e7 lr0.01 g0.5"
    assert replace(AGR_SCHEMA, axes=("width", "model")).title(POINT.config()) == "w0.5 mcnn"


@pytest.mark.parametrize(
    ("value", "text"), [(3, "3"), (0.1, "0.1"), (1e-05, "1e-05"), (0.0123456, "0.0123"), ("a", "a")]
)
def test_settings_are_formatted_with_three_digits(value: object, text: str) -> None:
    assert format_setting(value) == text


# Models on clips


def test_every_fold_has_a_separate_lineage() -> None:
    data, split = small_split()
    folds = inner(data, split, 3)
    task = AgrTask(data, split, folds)
    assert task.lineage(POINT, "cpu") == Lineage.of(data, split, POINT, "cpu")
    for number, fold in enumerate(folds, start=1):
        assert task.lineage(FoldPoint(POINT, number), "cpu") == Lineage.of(data, fold, POINT, "cpu")
        assert task.describe(FoldPoint(POINT, number))["split"] == fold.name
    points: list[Settings | FoldPoint] = [POINT, *(FoldPoint(POINT, number) for number in (1, 2, 3))]
    assert len({task.lineage(point, "cpu") for point in points}) == 4


def test_descriptions_show_only_settings_that_are_not_default() -> None:
    task = AgrTask(*small_split())
    plain, other = Settings(5, 0.01, 0.5), Settings(5, 0.01, 0.5, batch_size=64, dropout=0.5, augment_noise=0.5)
    assert list(task.describe(plain)) == ["data", "split", "seed", "recipe", "model"]
    assert task.describe(other) == task.describe(plain) | {"batch_size": 64, "dropout": 0.5}


def test_the_task_for_workers_has_neither_rows_nor_recordings_and_the_same_lineage() -> None:
    data, split = small_split()
    task = AgrTask(data, split, inner(data, split, 2))
    lean = task.for_workers()
    assert (lean.data.rows, lean.split, lean.folds, lean.schema) == ((), split, task.folds, task.schema)
    assert type(lean.data.pixels) is np.ndarray
    assert np.array_equal(lean.data.pixels, data.pixels)
    assert lean.lineage(POINT, "cpu") == task.lineage(POINT, "cpu")
    assert len(lean.data.recordings) == 0
    sent = sum(each.nbytes for each in (data.pixels, data.labels, data.speakers))
    assert (lean.name, lean.nbytes, task.nbytes) == (data.name, sent, sent)

"""What a study is asked and told, and what that costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState

from agr.common.processes import driver
from agr.errors import AgrError, SettingsError
from search.optuna_search.ask_tell import MOST_FAILED, MOST_KNOWN, AskTell, Budget, StudyTrial, affordable, cost
from search.optuna_search.ranges import Choices, Range
from search.optuna_search.space import Space
from search.tasks.agr_task import AGR_SCHEMA, agr_point
from search.tasks.base import Objective, Point
from tests.search.fakes import epoch

SPACE = Space({"epochs": Range(1, 6), "lr": Range(0.001, 0.1, log=True)}, {"gamma": 0.5})
KIND = replace(AGR_SCHEMA, best_epoch=True, prunes=True)
LOSS = replace(KIND, objective=Objective("val_loss", False, "val loss"))
FOUR = Space({"epochs": Choices((4,))}, {"gamma": 0.5, "lr": 0.01})


def made(
    epochs: int | None = None,
    folds: int = 0,
    space: Space = SPACE,
    schema: Any = KIND,
    objectives: int = 1,
    **time: float,
) -> AskTell:
    """An ask-and-tell of a study in memory; of two objectives the second is the calibration error, to be low."""
    low = StudyDirection.MINIMIZE
    first = StudyDirection.MAXIMIZE if schema.objective.highest else low
    study = optuna.create_study(directions=[first, low][:objectives], sampler=optuna.samplers.RandomSampler(seed=1))

    def expand(config: Mapping[str, Any]) -> tuple[Point, ...]:
        parts = [{"fold": fold} for fold in range(1, folds + 1)] or [{}]
        return tuple(agr_point(dict(config) | part) for part in parts)

    def values(config: Mapping[str, Any], histories: Sequence[Any]) -> list[float]:
        metrics = (schema.objective.metric, "val_ece")[:objectives]
        return [float(np.mean([getattr(each, metric) for each in histories])) for metric in metrics]

    return AskTell(study, space, expand, Budget(epochs, **time), schema, values)


def ask(ask_tell: AskTell) -> StudyTrial:
    asked = ask_tell.ask()
    assert asked is not None
    return asked


def give(
    ask_tell: AskTell, asked: StudyTrial, fold: int = 0, read: bool = False, end: bool = True, **metrics: Any
) -> None:
    """Epochs of one fold with these numbers, one after another, and its end."""
    series = metrics or {"val_balanced_accuracy": [0.5] * asked.epochs}
    for number, values in enumerate(zip(*series.values(), strict=True), start=1):
        ask_tell.advance(asked, fold, [epoch(number, **dict(zip(series, values, strict=True)))], read)
    if end:
        ask_tell.end(asked, fold)


def told(ask_tell: AskTell, number: int = 0) -> optuna.trial.FrozenTrial:
    return ask_tell.study.trials[number]


# Epochs


@pytest.mark.parametrize("budget", [1, 2, 7, 40])
@pytest.mark.parametrize("folds", [0, 2, 3])
@pytest.mark.parametrize("at_once", [1, 3])
def test_budget_is_used_up_and_never_exceeded(budget: int, folds: int, at_once: int) -> None:
    ask_tell, running = made(budget, folds), list[StudyTrial]()
    while True:
        while len(running) < at_once and (asked := ask_tell.ask()):
            running.append(asked)
        if not running:
            break
        promised = sum(each.epochs * max(1, folds) for each in running)
        assert ask_tell.spent + promised <= budget
        asked = running.pop(0)
        for fold in range(max(1, folds)):
            give(ask_tell, asked, fold)
    assert ask_tell.spent == sum(trial.user_attrs["spent"] for trial in ask_tell.study.trials)
    assert budget - max(1, folds) < ask_tell.spent <= budget


def test_the_last_trial_gets_no_more_epochs_than_are_left() -> None:
    ask_tell = made(5, space=Space({"epochs": Range(4, 6)}, {"gamma": 0.5, "lr": 0.01}))
    give(ask_tell, ask(ask_tell), val_balanced_accuracy=[0.5, 0.6, 0.7])
    last = ask(ask_tell)
    assert (last.config["epochs"], last.points[0].epochs) == (2, 2)
    give(ask_tell, last)
    assert told(ask_tell, 1).state == TrialState.COMPLETE
    assert ask_tell.ask() is None


@pytest.mark.parametrize(
    ("free", "left", "most"),
    [
        ([0], 5, 5),
        ([0], 9, 6),
        ([4], 1, 5),
        ([4], 0, 4),
        ([4], -3, 4),
        ([6], 0, 6),
        ([9], 0, 6),
        ([2, 0], 4, 3),
        ([3, 1], 0, 1),
    ],
)
def test_stored_epochs_let_a_trial_train_longer(free: list[int], left: float, most: int) -> None:
    assert affordable(6, free, left) == most
    assert cost(most, free) <= max(left, 0)


def test_spent_budget_is_refused() -> None:
    with pytest.raises(SettingsError, match="the budget is spent"):
        affordable(6, [0, 3], 0)


def test_epochs_trained_before_a_kill_are_not_reserved_again() -> None:
    ask_tell = made(7, space=FOUR)
    ask_tell.study.enqueue_trial({"epochs": 4})
    ask_tell.spent, ask_tell.free = 5, lambda points: [3] * len(points)
    again = ask(ask_tell)
    assert (again.config["epochs"], again.reserved, ask_tell.left) == (4, 1, 1)


def test_enqueued_trial_with_stored_epochs_needs_no_budget() -> None:
    ask_tell = made(3, space=FOUR)
    ask_tell.spent, ask_tell.free = 3, lambda points: [3] * len(points)
    assert ask_tell.ask() is None  # a new one is not, however much of it is free
    ask_tell.study.enqueue_trial({"epochs": 4})
    assert ask_tell.spendable
    again = ask(ask_tell)
    assert again.config["epochs"] == 3
    give(ask_tell, again, read=True)
    assert (ask_tell.spent, ask_tell.spendable, ask_tell.ask()) == (3, False, None)
    assert ask_tell.study.best_trial.user_attrs["chosen"] == 1


def test_enqueued_trial_beyond_the_budget_fails_with_a_reason() -> None:
    ask_tell = made(3, space=FOUR)
    ask_tell.spent = 3
    ask_tell.study.enqueue_trial({"epochs": 4})
    assert ask_tell.ask() is None
    assert (told(ask_tell).state, told(ask_tell).user_attrs["reason"]) == (TrialState.FAIL, "the budget is spent")


def test_pruned_trial_returns_its_reserved_epochs() -> None:
    ask_tell = made(4, space=FOUR)
    asked = ask(ask_tell)
    give(ask_tell, asked, val_balanced_accuracy=[0.5], end=False)
    assert (ask_tell.left, ask_tell.ask()) == (0, None)
    ask_tell.end(asked, 0)
    assert (ask_tell.left, ask(ask_tell).config["epochs"]) == (3, 3)


def test_epochs_read_from_the_store_cost_nothing() -> None:
    ask_tell = made(4, space=FOUR)
    asked = ask(ask_tell)
    ask_tell.advance(asked, 0, [epoch(1), epoch(2), epoch(3)], read=True)
    ask_tell.advance(asked, 0, [epoch(4)], read=False)
    ask_tell.end(asked, 0)
    assert (ask_tell.spent, ask_tell.left, told(ask_tell).user_attrs["spent"]) == (1, 3, 1)


def test_repeated_epochs_count_once() -> None:
    ask_tell = made(4, space=FOUR)
    asked = ask(ask_tell)
    ask_tell.advance(asked, 0, [epoch(1)], read=False)
    ask_tell.advance(asked, 0, [epoch(1), epoch(2)], read=True)
    ask_tell.advance(asked, 0, [epoch(2)], read=False)
    ask_tell.advance(asked, 0, [epoch(3)], read=False)
    assert (ask_tell.spent, asked.spent, asked.reached) == (2, 2, 3)
    assert sorted(told(ask_tell).intermediate_values) == [1, 2, 3]


def test_spent_epochs_of_a_running_trial_are_stored_in_the_study() -> None:
    ask_tell = made(9, folds=2, space=FOUR)
    asked = ask(ask_tell)
    give(ask_tell, asked, 0, val_balanced_accuracy=[0.5, 0.5], end=False)
    give(ask_tell, asked, 1, val_balanced_accuracy=[0.5], end=False)
    trial = told(ask_tell)
    assert (trial.state, trial.user_attrs["spent"], trial.user_attrs["driver"]) == (TrialState.RUNNING, 3, driver())


def test_budget_without_limit_never_ends() -> None:
    ask_tell = made()
    for _ in range(30):
        give(ask_tell, ask(ask_tell))
    assert ask_tell.left == float("inf")


# Time


def test_no_trial_after_the_time_limit() -> None:
    assert made(seconds=3600.0).ask() is not None
    over = made(seconds=0.0)
    assert (over.budget.over(), over.ask(), over.study.trials) == (True, None, [])


def test_time_limit_starts_with_training() -> None:
    budget = Budget(seconds=3600.0, began=-1e9)
    assert budget.over()
    budget.begin()
    assert not budget.over()


# What is told


def test_finished_trial_is_scored_by_its_best_epoch() -> None:
    ask_tell = made(space=FOUR)
    give(ask_tell, ask(ask_tell), val_balanced_accuracy=[0.5, 0.9, 0.7, 0.6])
    trial = told(ask_tell)
    assert (trial.state, trial.value, trial.user_attrs["chosen"]) == (TrialState.COMPLETE, 0.9, 2)
    assert trial.intermediate_values == {1: 0.5, 2: 0.9, 3: 0.7, 4: 0.6}
    assert (trial.user_attrs["score"], trial.user_attrs["reached"]) == (0.9, 4)


def test_lowest_value_of_a_minimised_metric_counts() -> None:
    ask_tell = made(space=FOUR, schema=LOSS)
    give(ask_tell, ask(ask_tell), val_loss=[0.8, 0.3, 0.4, 0.5])
    trial = told(ask_tell)
    assert (trial.value, trial.user_attrs["chosen"], trial.user_attrs["score"]) == (0.3, 2, -0.3)
    assert trial.intermediate_values[1] == 0.8


def test_tied_epochs_are_chosen_as_by_the_session() -> None:
    ask_tell = made(space=FOUR, objectives=2)
    numbers: dict[str, Any] = {"val_balanced_accuracy": [0.9, 0.9, 0.9, 0.5], "val_loss": [0.5, 0.4, 0.4, 0.1]}
    asked = ask(ask_tell)
    give(ask_tell, asked, **numbers, val_ece=[0.1, 0.2, 0.3, 0.4])
    assert told(ask_tell).user_attrs["chosen"] == KIND.chosen(asked.histories[0]).epoch == 2
    assert told(ask_tell).values == [0.9, 0.2]


def test_trial_that_ended_early_is_pruned() -> None:
    ask_tell = made(space=FOUR)
    give(ask_tell, ask(ask_tell), val_balanced_accuracy=[0.8, 0.6])
    trial = told(ask_tell)
    assert (trial.state, trial.user_attrs["reached"], trial.user_attrs["chosen"]) == (TrialState.PRUNED, 2, 1)


def test_failed_trial_has_a_reason_and_no_value() -> None:
    ask_tell = made(space=FOUR)
    asked = ask(ask_tell)
    give(ask_tell, asked, val_balanced_accuracy=[0.8, 0.6], end=False)
    ask_tell.end(asked, 0, "diverged")
    trial = told(ask_tell)
    assert (trial.state, trial.user_attrs["reason"], trial.value) == (TrialState.FAIL, "diverged", None)
    assert "chosen" not in trial.user_attrs
    assert (ask_tell.spent, ask_tell.left) == (2, float("inf"))


def test_trial_without_epochs_fails() -> None:
    ask_tell = made(space=FOUR)
    ask_tell.end(ask(ask_tell), 0)
    assert told(ask_tell).state == TrialState.FAIL


def test_two_objectives_are_told_once_at_the_end() -> None:
    ask_tell = made(space=FOUR, objectives=2)
    give(ask_tell, ask(ask_tell), val_balanced_accuracy=[0.5, 0.9], val_ece=[0.1, 0.3])
    trial = told(ask_tell)
    assert (trial.state, trial.values, trial.intermediate_values) == (TrialState.COMPLETE, [0.9, 0.3], {})


# Folds


def test_mean_over_folds_is_told_after_the_last_fold() -> None:
    ask_tell = made(space=FOUR, folds=2)
    asked = ask(ask_tell)
    give(ask_tell, asked, 0, val_balanced_accuracy=[0.9, 0.5, 0.7, 0.7])
    assert (told(ask_tell).state, told(ask_tell).intermediate_values) == (TrialState.RUNNING, {})
    give(ask_tell, asked, 1, val_balanced_accuracy=[0.1, 0.7, 0.9, 0.8])
    trial = told(ask_tell)
    assert (trial.state, trial.user_attrs["chosen"]) == (TrialState.COMPLETE, 3)
    assert trial.value == pytest.approx(0.8)
    assert trial.intermediate_values == pytest.approx({1: 0.5, 2: 0.6, 3: 0.8, 4: 0.75})
    assert trial.user_attrs["spent"] == 8


def test_failed_fold_fails_its_trial() -> None:
    ask_tell = made(space=FOUR, folds=2)
    asked = ask(ask_tell)
    ask_tell.end(asked, 0, "diverged")
    give(ask_tell, asked, 1)
    assert (told(ask_tell).state, told(ask_tell).user_attrs["reason"]) == (TrialState.FAIL, "diverged")


# What has no end by itself


def test_refused_configurations_fail_and_others_follow() -> None:
    ask_tell = made(4)
    inner, refusals = ask_tell.expand, iter([True, True, False])

    def expand(config: Mapping[str, Any]) -> tuple[Point, ...]:
        if next(refusals):
            raise SettingsError("width 9: too wide")
        return inner(config)

    ask_tell.expand = expand
    assert ask(ask_tell).optuna_trial.number == 2
    states = [trial.state for trial in ask_tell.study.trials]
    assert states == [TrialState.FAIL, TrialState.FAIL, TrialState.RUNNING]
    assert told(ask_tell).user_attrs["reason"] == "width 9: too wide"
    assert ask_tell.left == 4 - ask_tell.trials[0].epochs


def test_space_without_a_valid_configuration_is_an_error() -> None:
    ask_tell = made(4)

    def expand(config: Mapping[str, Any]) -> tuple[Point, ...]:
        raise SettingsError("no")

    ask_tell.expand = expand
    with pytest.raises(AgrError, match="100 configurations in a row were refused; expected a space of valid ones"):
        ask_tell.ask()


def test_exhausted_space_ends_the_search() -> None:
    ask_tell = made(1000, space=FOUR)
    give(ask_tell, ask(ask_tell))
    for _ in range(MOST_KNOWN):
        give(ask_tell, ask(ask_tell), read=True)
    assert (ask_tell.ask(), ask_tell.left) == (None, 996)


def test_consecutive_failures_end_the_search() -> None:
    ask_tell = made(1000, space=FOUR)
    for turn in range(2 * MOST_FAILED - 1):
        asked = ask(ask_tell)
        if turn == MOST_FAILED - 2:
            give(ask_tell, asked, val_balanced_accuracy=[0.5], end=False)
        ask_tell.end(asked, 0, "diverged")
    assert ask_tell.ask() is None
    assert len(ask_tell.study.trials) == 2 * MOST_FAILED - 1


@pytest.mark.parametrize("where", [(Space, "sample"), (optuna.Trial, "set_user_attr")])
def test_a_trial_belongs_to_its_driver_from_the_first_moment(
    monkeypatch: pytest.MonkeyPatch, where: tuple[type, str]
) -> None:
    """Else a search that is killed while it draws a configuration leaves a trial that nobody ever ends."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    ask_tell = made(10)
    monkeypatch.setattr(*where, killed)
    with pytest.raises(KeyboardInterrupt):
        ask_tell.ask()
    assert told(ask_tell).state == TrialState.RUNNING
    assert told(ask_tell).user_attrs["driver"] == driver()

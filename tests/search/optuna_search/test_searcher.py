"""Ray Tune asking a ask_tell for points, played by a small simulation in made-up time."""

from __future__ import annotations

import heapq
import pickle
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from search.optuna_search.ask_tell import AskTell, Budget
from search.optuna_search.ranges import Choices, Range
from search.optuna_search.searcher import Running, StudySearcher, common
from search.optuna_search.space import Space
from search.tasks.agr_task import AGR_SCHEMA, agr_point
from search.tasks.base import Point, TrialReport
from tests.search.fakes import epoch, made_report

KIND = replace(AGR_SCHEMA, best_epoch=True, prunes=True)
SPACE = Space({"epochs": Range(2, 8), "lr": Choices((0.1, 0.01)), "gamma": Choices((0.1, 0.5))}, {})  # they share
FINISHED = Searcher.FINISHED


def ask_tell_of(epochs: int, folds: int = 0, space: Space = SPACE, seed: int = 1) -> AskTell:
    def expand(config: Mapping[str, Any]) -> tuple[Point, ...]:
        parts = [{"fold": fold} for fold in range(1, folds + 1)] or [{}]
        return tuple(agr_point(dict(config) | part) for part in parts)

    def values(config: Mapping[str, Any], histories: Sequence[Any]) -> list[float]:
        return [sum(each.val_balanced_accuracy for each in histories) / len(histories)]

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=seed))
    return AskTell(study, space, expand, Budget(epochs), KIND, values)


def result(numbers: Sequence[int], read: bool = False, failed: str = "") -> TrialReport:
    return made_report([epoch(number) for number in numbers], ["s"] * len(numbers), read, failed)


def searcher_of(ask_tell: AskTell, at_once: int = 2) -> StudySearcher:
    return StudySearcher(ask_tell, KIND, at_once, lambda points: None, lambda: None)


# One by one


def test_search_finishes_when_the_budget_is_spent() -> None:
    ask_tell = ask_tell_of(4, space=Space({"epochs": Choices((2,))}, {"lr": 0.1, "gamma": 0.5}))
    searcher = searcher_of(ask_tell, at_once=1)
    for trial in ("a", "b"):
        config = searcher.suggest(trial)
        assert isinstance(config, dict)
        assert (config["epochs"], config["lr"]) == (2, 0.1)
        assert searcher.suggest("early") is None
        searcher.on_trial_result(trial, result([1]))
        searcher.on_trial_complete(trial, result([2]))
    assert (searcher.suggest("c"), searcher.exhausted, ask_tell.spent) == (FINISHED, True, 4)


def test_point_waits_for_shared_epochs_of_a_running_trial() -> None:
    """Three workers; of three alike trials, two wait for the first, and read what it has trained."""
    ask_tell = ask_tell_of(30, space=Space({"epochs": Choices((4,))}, {"lr": 0.1, "gamma": 0.5}))
    searcher = searcher_of(ask_tell, at_once=3)
    assert isinstance(searcher.suggest("a"), dict)
    assert searcher.suggest("b") is None
    searcher.on_trial_result("a", result([1, 2, 3]))
    assert searcher.suggest("b") is None
    searcher.on_trial_result("a", result([4]))
    assert isinstance(searcher.suggest("b"), dict)
    assert isinstance(searcher.suggest("c"), dict)
    assert len(ask_tell.trials) == 3


def test_next_point_takes_over_from_a_dead_trial() -> None:
    ask_tell = ask_tell_of(30, space=Space({"epochs": Choices((4,))}, {"lr": 0.1, "gamma": 0.5}))
    searcher = searcher_of(ask_tell)
    searcher.suggest("a")
    assert searcher.suggest("b") is None
    searcher.on_trial_complete("a", None, error=True)
    assert isinstance(searcher.suggest("b"), dict)
    assert ask_tell.study.trials[0].state == TrialState.FAIL
    assert ask_tell.study.trials[0].user_attrs["reason"] == "its worker died"


def test_result_passed_at_completion_counts() -> None:
    """So Ray Tune hands over the one with which a scheduler ends a trial."""
    ask_tell = ask_tell_of(30)
    searcher = searcher_of(ask_tell)
    searcher.suggest("a")
    searcher.on_trial_result("a", result([1]))
    searcher.on_trial_complete("a", result([2]))
    trial = ask_tell.study.trials[0]
    assert (ask_tell.spent, trial.user_attrs["reached"]) == (2, 2)
    assert trial.state == (TrialState.PRUNED if trial.params["epochs"] > 2 else TrialState.COMPLETE)


def test_result_repeated_at_completion_counts_once() -> None:
    ask_tell = ask_tell_of(30, space=Space({"epochs": Choices((2,))}, {"lr": 0.1, "gamma": 0.5}))
    searcher = searcher_of(ask_tell)
    searcher.suggest("a")
    searcher.on_trial_result("a", result([1]))
    searcher.on_trial_result("a", result([2]))
    searcher.on_trial_complete("a", result([2]))
    assert (ask_tell.spent, ask_tell.study.trials[0].state) == (2, TrialState.COMPLETE)


def test_restarted_trial_counts_its_epochs_once() -> None:
    ask_tell = ask_tell_of(30, space=Space({"epochs": Choices((3,))}, {"lr": 0.1, "gamma": 0.5}))
    searcher = searcher_of(ask_tell)
    searcher.suggest("a")
    searcher.on_trial_result("a", result([1]))
    searcher.on_trial_result("a", result([1], read=True))  # from its stage, after its worker died
    searcher.on_trial_result("a", result([2]))
    searcher.on_trial_result("a", result([3]))
    searcher.on_trial_complete("a", result([3]))
    assert (ask_tell.spent, len(ask_tell.study.trials)) == (3, 1)
    assert sorted(ask_tell.study.trials[0].intermediate_values) == [1, 2, 3]


def test_diverged_trial_fails() -> None:
    ask_tell = ask_tell_of(30)
    searcher = searcher_of(ask_tell)
    searcher.suggest("a")
    diverged = result([], failed="epoch 1: train_loss nan; diverged")
    searcher.on_trial_result("a", diverged)
    searcher.on_trial_complete("a", diverged)
    assert ask_tell.study.trials[0].user_attrs["reason"] == "epoch 1: train_loss nan; diverged"


def test_all_folds_run_before_the_next_trial() -> None:
    ask_tell = ask_tell_of(60, folds=3)
    claimed: list[Sequence[Point]] = []
    searcher = StudySearcher(ask_tell, KIND, 2, claimed.append, lambda: None)
    configs = [searcher.suggest("a"), searcher.suggest("b")]
    assert (len(ask_tell.trials), len(claimed), len(claimed[0])) == (1, 1, 3)
    searcher.on_trial_complete("a", result([1, 2]))
    configs.append(searcher.suggest("c"))
    assert [config["fold"] for config in configs if isinstance(config, dict)] == [1, 2, 3]
    assert len(ask_tell.trials) == 1


def test_searcher_can_be_pickled() -> None:
    searcher = searcher_of(ask_tell_of(30))
    searcher.suggest("a")
    assert isinstance(pickle.loads(pickle.dumps(searcher)), StudySearcher)


@pytest.mark.parametrize(("a", "b", "shared"), [("", "x", 0), ("abc", "abd", 2), ("ab", "abc", 2), ("xbc", "abc", 0)])
def test_common_prefix_length(a: str, b: str, shared: int) -> None:
    assert common(tuple(a), tuple(b)) == common(tuple(b), tuple(a)) == shared


def test_epochs_stay_done_after_their_trial_ends() -> None:
    running = Running()
    running.start("a", ("x", "y", "z"))
    assert running.computes(("x",))
    running.reached("a", 2)
    assert not running.computes(("x", "y", "w"))
    assert running.computes(("x", "y", "z", "w"))
    running.end("a")
    assert not running.computes(("x", "y", "z", "w")), "nobody waits for a trial that has ended"


# All of it, with workers of different speeds, schedulers that end trials and workers that die


@dataclass
class Simulation:
    """Workers and a stage store. `trained`: how often each epoch, by its prefix, was trained."""

    searcher: StudySearcher
    workers: int
    chance: random.Random
    pruning: float = 0.0
    dying: float = 0.0
    trained: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    now: float = 0.0
    trials: int = 0

    def run(self) -> Simulation:
        self._ask()
        while self.events:
            self.now, _, happens = heapq.heappop(self.events)
            happens()
            self._ask()
        return self

    def _ask(self) -> None:
        while len(self.events) < self.workers:
            trial = f"t{self.trials}"
            config = self.searcher.suggest(trial)
            if not isinstance(config, dict):
                return
            self.trials += 1
            point = agr_point(config)
            prefix = point.prefix()
            read = next((k for k in range(len(prefix), 0, -1) if prefix[:k] in self.trained), 0)
            self._later(partial(self._goes_on, trial, prefix, 0, read))

    def _later(self, happens: Callable[[], None]) -> None:
        heapq.heappush(self.events, (self.now + self.chance.random(), self.trials * 1000 + len(self.events), happens))

    def _goes_on(self, trial: str, prefix: tuple[Any, ...], reached: int, read: int) -> None:
        if self.chance.random() < self.dying:
            self.searcher.on_trial_complete(trial, None, error=True)
            return
        new = range(1, read + 1) if read else range(reached + 1, reached + 2)
        self.trained.update([] if read else [prefix[: reached + 1]])
        told = result(list(new), read=bool(read))
        if new[-1] == len(prefix):
            self.searcher.on_trial_result(trial, told)
            self.searcher.on_trial_complete(trial, told)
        elif self.chance.random() < self.pruning:
            self.searcher.on_trial_complete(trial, told)
        else:
            self.searcher.on_trial_result(trial, told)
            self._later(lambda: self._goes_on(trial, prefix, new[-1], 0))


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("folds", [0, 2])
@pytest.mark.parametrize(("pruning", "dying"), [(0.0, 0.0), (0.3, 0.0), (0.2, 0.1)])
def test_no_epoch_is_trained_twice_and_no_budget_exceeded(
    workers: int, folds: int, pruning: float, dying: float
) -> None:
    for seed in range(5):
        ask_tell = ask_tell_of(60, folds, seed=seed)
        searcher = searcher_of(ask_tell, workers)
        simulation = Simulation(searcher, workers, random.Random(seed), pruning, dying).run()
        assert set(simulation.trained.values()) == {1}
        assert searcher.exhausted
        assert ask_tell.spent == sum(simulation.trained.values()) <= 60
        assert all(trial.state.is_finished() for trial in ask_tell.study.trials)

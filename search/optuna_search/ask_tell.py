"""Asks an Optuna study for trials within a budget, and tells it what they gave.

    ask_tell = AskTell(study, space, expand, Budget(epochs=150), kind, values)
    asked = ask_tell.ask()                       # None once the budget is spent

A trial stands for its best epoch: it includes all trials with fewer epochs. The score of a trial on
several folds is, after each epoch, the mean of theirs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import optuna
from optuna.trial import TrialState

from agr.common.processes import driver
from agr.errors import AgrError, SettingsError
from search.optuna_search.ranges import Value
from search.optuna_search.space import Space
from search.tasks.base import Config, EpochMetrics, Kind, Point

MOST_INVALID = 100  # configurations in a row that the task refuses
MOST_FAILED = 20  # trials in a row that fail before their first epoch
MOST_KNOWN = 50  # trials in a row without an epoch to train: a space of a few points is used up
Expand = Callable[[Config], tuple[Point, ...]]
Values = Callable[[Config, Sequence[EpochMetrics]], list[float]]


@dataclass
class Budget:
    """Epochs to train, and seconds to take; None for no bound."""

    epochs: int | None = None
    seconds: float | None = None
    began: float = field(default_factory=time.monotonic)

    def begin(self) -> None:
        """Time counts from now on."""
        self.began = time.monotonic()

    def over(self) -> bool:
        """Whether the time is up."""
        return self.seconds is not None and time.monotonic() - self.began >= self.seconds


@dataclass
class StudyTrial:
    """One trial of the study: its points, one a fold, and the epochs that each of them has given so far."""

    trial: optuna.Trial
    config: dict[str, Value]
    points: tuple[Point, ...]
    reserved: int  # epochs of the budget that it may need
    histories: list[list[EpochMetrics]]
    open: set[int]  # folds that have not ended
    spent: int = 0
    reported: int = 0  # epochs whose score the study knows
    failed: str = ""

    @property
    def epochs(self) -> int:
        """How many epochs are planned."""
        return self.points[0].epochs

    @property
    def reached(self) -> int:
        """Epochs that all folds have."""
        return min(map(len, self.histories))

    def means(self, score: Callable[[EpochMetrics], float]) -> list[float]:
        """The mean score after each epoch."""
        return [float(np.mean([score(h[k]) for h in self.histories])) for k in range(self.reached)]


def cost(epochs: int, free: Sequence[int]) -> int:
    """How many epochs must be trained if each fold gets `epochs`, of which it has `free` already."""
    return sum(max(0, epochs - known) for known in free)


def affordable(wanted: int, free: Sequence[int], left: float) -> int:
    """The most epochs, up to `wanted`, that cost no more than is left. Raises: SettingsError if it is none."""
    found = next((count for count in range(wanted, 0, -1) if cost(count, free) <= max(left, 0)), 0)
    if not found:
        raise SettingsError("the budget is spent")
    return found


class AskTell:
    """A study within a budget."""

    def __init__(
        self,
        study: optuna.Study,
        space: Space,
        expand: Expand,
        budget: Budget,
        kind: Kind[Point],
        values: Values,
        free: Callable[[Sequence[Point]], Sequence[int]] | None = None,
    ) -> None:
        """A ask_tell that has spent nothing.

        Args:
            study: Proposes the trials.
            space: What it may propose.
            expand: Makes the points of a configuration, one for each fold.
            budget: When to stop asking.
            kind: Says for which epoch a trial stands.
            values: Of a configuration and the epochs for which its folds stand, the study's values, one for each aim.
            free: How many epochs of each point need no training; by default none.
        """
        self.study = study
        self.budget = budget
        self.spent = 0
        self.asked: list[StudyTrial] = []
        self._known = self._failed = 0  # in a row
        self._folds = len(expand(space.lowest()))
        self._space, self._expand, self._kind, self._values = space, expand, kind, values
        self._free = free or (lambda points: [0] * len(points))

    @property
    def left(self) -> float:
        """Epochs that are neither spent nor reserved for a running trial."""
        reserved = sum(max(0, each.reserved - each.spent) for each in self.asked if each.open)
        return float("inf") if self.budget.epochs is None else self.budget.epochs - self.spent - reserved

    @property
    def spendable(self) -> bool:
        """Whether another trial is possible: a new one needs an epoch per fold, one that is enqueued may need none."""
        return self.left >= self._folds or bool(self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def ask(self) -> StudyTrial | None:
        """The next trial, with no more epochs than the budget allows; None if there is none."""
        for _ in range(MOST_INVALID):
            if self.budget.over() or self._known >= MOST_KNOWN or self._failed >= MOST_FAILED or not self.spendable:
                return None
            trial = self.study.ask()
            config = self._space.sample(trial)
            try:
                points = self._expand(config)
                free = self._free(points)
                most = affordable(points[0].epochs, free, self.left)
                config["epochs"] = most
                points = points if most == points[0].epochs else self._expand(config)
            except SettingsError as error:
                trial.set_user_attr("reason", str(error))
                self.study.tell(trial, state=TrialState.FAIL)
                continue
            trial.set_user_attr("config", config)
            trial.set_user_attr("driver", driver())
            folds = range(len(points))
            self.asked.append(StudyTrial(trial, config, points, cost(most, free), [[] for _ in folds], set(folds)))
            return self.asked[-1]
        raise AgrError(f"{MOST_INVALID} configurations in a row were refused; expected a space of valid ones")

    def advance(self, asked: StudyTrial, fold: int, epochs: Sequence[EpochMetrics], read: bool) -> None:
        """Take in the epochs of a fold; those that were not read are spent."""
        known = len(asked.histories[fold])
        new = [epoch for epoch in epochs if epoch.epoch > known]
        asked.histories[fold] += new
        if not read:
            self.spent += len(new)
            asked.spent += len(new)
            asked.trial.set_user_attr("spent", asked.spent)  # at once: a search that continues after a kill reads it
        if len(self.study.directions) == 1:
            aim = self._kind.aim
            for step, mean in enumerate(asked.means(aim.score)[asked.reported :], start=asked.reported + 1):
                asked.trial.report(aim.value(mean), step)
        asked.reported = asked.reached

    def end(self, asked: StudyTrial, fold: int, failed: str = "") -> None:
        """A fold has ended; after the last one the study learns the result."""
        asked.open.discard(fold)
        asked.failed = asked.failed or failed
        if not asked.open:
            self._tell(asked)

    def _tell(self, asked: StudyTrial) -> None:
        trial = asked.trial
        self._known = 0 if asked.spent else self._known + 1
        self._failed = 0 if any(asked.histories) else self._failed + 1
        for name, value in {"reached": asked.reached, "reason": asked.failed}.items():
            trial.set_user_attr(name, value)
        if asked.failed or not asked.reached:
            self.study.tell(trial, state=TrialState.FAIL)
            return
        means = asked.means(self._kind.aim.score)
        ties = asked.means(lambda epoch: float(getattr(epoch, self._kind.tie, 0.0)))
        chosen = min(range(asked.reached), key=lambda k: (-means[k], ties[k]))
        trial.set_user_attr("chosen", chosen + 1)
        trial.set_user_attr("score", means[chosen])
        if asked.reached < asked.epochs and len(self.study.directions) == 1:
            self.study.tell(trial, state=TrialState.PRUNED)
            return
        self.study.tell(trial, self._values(asked.config, [history[chosen] for history in asked.histories]))

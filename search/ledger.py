"""What an Optuna study was asked and told, and what that cost: points to train, epochs spent, scores.

    ledger = Ledger(study, space, expand, Budget(epochs=150), kind, values)
    asked = ledger.ask()                       # None once the budget is spent

A trial stands for its best epoch: every epoch of it is a trial of its own with fewer of them. Where a trial is scored
on several folds, its score after an epoch is the mean over them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

from agr.errors import AgrError, SettingsError
from search.opening import driver
from search.space import Space
from search.task import Kind, Point

MOST_INVALID = 100  # configurations in a row that the task refuses
MOST_FAILED = 20  # trials in a row that fail before their first epoch
MOST_KNOWN = 50  # trials in a row without an epoch to train: a space of a few points is used up

Values = Callable[[Mapping[str, Any], Sequence[Any]], list[float]]


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
class Asked:
    """One trial of the study: its points, one a fold, and the epochs that each of them has given so far."""

    trial: optuna.Trial
    config: dict[str, Any]
    points: tuple[Point, ...]
    reserved: int
    histories: list[list[Any]]
    open: set[int]
    spent: int = 0
    told: int = 0
    failed: str = ""

    @property
    def reached(self) -> int:
        """Epochs that all folds have."""
        return min(map(len, self.histories))

    def means(self, score: Callable[[Any], float]) -> list[float]:
        """The mean score after each epoch."""
        return [float(np.mean([score(h[k]) for h in self.histories])) for k in range(self.reached)]


def cost(epochs: int, free: Sequence[int]) -> int:
    """How many epochs have to be trained for so many of each fold, of which these are free."""
    return sum(max(0, epochs - known) for known in free)


def affordable(wanted: int, free: Sequence[int], left: float) -> int:
    """The most epochs of a trial, no more than it wants, that cost no more than is left. Raises: SettingsError."""
    found = next((count for count in range(wanted, 0, -1) if cost(count, free) <= max(left, 0)), 0)
    if not found:
        raise SettingsError("the budget is spent")
    return found


class Ledger:
    """Asks a study for trials within a budget, and tells it what they gave."""

    def __init__(
        self,
        study: optuna.Study,
        space: Space,
        expand: Callable[[Mapping[str, Any]], tuple[Point, ...]],
        budget: Budget,
        kind: Kind,
        values: Values,
        free: Callable[[Sequence[Point]], Sequence[int]] | None = None,
    ) -> None:
        """expand: the points of a configuration, one a fold. kind: what tells for which epoch a trial stands.

        free: how many epochs of each point need no training, none unless given.

        values: of a configuration and the epochs for which its folds stand, one value an aim, as the study wants them.
        """
        self.study = study
        self.budget = budget
        self.spent = 0
        self.asked: list[Asked] = []
        self._known = self._failed = 0  # in a row
        self._folds = len(expand(space.lowest()))
        self._space, self._expand, self._kind, self._values = space, expand, kind, values
        self._free = free or (lambda points: [0] * len(points))

    @property
    def left(self) -> float:
        """Epochs that are neither spent nor promised to a running trial."""
        promised = sum(max(0, each.reserved - each.spent) for each in self.asked if each.open)
        return float("inf") if self.budget.epochs is None else self.budget.epochs - self.spent - promised

    @property
    def spendable(self) -> bool:
        """Whether a trial may be asked for: a new one needs an epoch for each fold, one that waits may need none."""
        return self.left >= self._folds or bool(self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def ask(self) -> Asked | None:
        """The next trial, its epochs no more than are free or the budget has left for; None if that is none."""
        for _ in range(MOST_INVALID):
            if self.budget.over() or self._known >= MOST_KNOWN or self._failed >= MOST_FAILED or not self.spendable:
                return None
            trial = self.study.ask()
            config = self._space.sample(trial)
            try:
                points = self._expand(config)
                free = self._free(points)
                most = affordable(config["epochs"], free, self.left)
                points = points if most == config["epochs"] else self._expand(config | {"epochs": most})
            except SettingsError as error:
                trial.set_user_attr("reason", str(error))
                self.study.tell(trial, state=TrialState.FAIL)
                continue
            config["epochs"] = most
            trial.set_user_attr("config", config)
            trial.set_user_attr("driver", driver())
            histories: list[list[Any]] = [[] for _ in points]
            reserved = cost(config["epochs"], free)
            self.asked.append(Asked(trial, config, points, reserved, histories, set(range(len(points)))))
            return self.asked[-1]
        raise AgrError(f"{MOST_INVALID} configurations in a row were refused; expected a space of valid ones")

    def advance(self, asked: Asked, fold: int, epochs: Sequence[Any], read: bool) -> None:
        """New epochs of one of its points."""
        known = len(asked.histories[fold])
        new = [epoch for epoch in epochs if epoch.epoch > known]
        asked.histories[fold] += new
        if not read:
            self.spent += len(new)
            asked.spent += len(new)
            asked.trial.set_user_attr("spent", asked.spent)  # now, for whoever goes on after a kill
        if len(self.study.directions) == 1:
            aim = self._kind.aim
            for step, mean in enumerate(asked.means(aim.score)[asked.told :], start=asked.told + 1):
                asked.trial.report(aim.value(mean), step)
        asked.told = asked.reached

    def end(self, asked: Asked, fold: int, failed: str = "") -> None:
        """One of its points has ended; with the last one the study is told."""
        asked.open.discard(fold)
        asked.failed = asked.failed or failed
        if not asked.open:
            self._tell(asked)

    def _tell(self, asked: Asked) -> None:
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
        if asked.reached < asked.config["epochs"] and len(self.study.directions) == 1:
            self.study.tell(trial, state=TrialState.PRUNED)
            return
        self.study.tell(trial, self._values(asked.config, [history[chosen] for history in asked.histories]))

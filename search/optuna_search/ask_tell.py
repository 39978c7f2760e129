"""Asks an Optuna study for trials within a budget, and tells it their results.

    ask_tell = AskTell(study, space, expand, Budget(epochs=150), schema, values)
    trial = ask_tell.ask()                       # None once the budget is spent

A trial is scored by its best epoch; on several folds, the score of an epoch is the mean over the folds.
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
from search.tasks.base import Config, EpochMetrics, Point, TrialSchema

MOST_INVALID = 100  # consecutive configurations that the task refuses
MOST_FAILED = 20  # consecutive trials that fail before their first epoch
MOST_KNOWN = 50  # consecutive trials without a new epoch, as in a small space whose points are all trained
Expand = Callable[[Config], tuple[Point, ...]]
Values = Callable[[Config, Sequence[EpochMetrics]], list[float]]


@dataclass
class Budget:
    """The most epochs to train and seconds to run; None for no limit."""

    epochs: int | None = None
    seconds: float | None = None
    began: float = field(default_factory=time.monotonic)

    def begin(self) -> None:
        """Start the clock."""
        self.began = time.monotonic()

    def over(self) -> bool:
        """Whether the time limit is reached."""
        return self.seconds is not None and time.monotonic() - self.began >= self.seconds


@dataclass
class StudyTrial:
    """One trial of the study: a point for each fold, and the epochs that each point has so far."""

    optuna_trial: optuna.Trial
    config: dict[str, Value]
    points: tuple[Point, ...]
    reserved: int  # epochs of the budget that it may need
    histories: list[list[EpochMetrics]]  # for each fold
    open: set[int]  # folds that have not ended
    spent: int = 0  # epochs that it trained
    reported: int = 0  # epochs whose score the study knows
    failed: str = ""  # the reason

    @property
    def epochs(self) -> int:
        """The number of planned epochs."""
        return self.points[0].epochs

    @property
    def reached(self) -> int:
        """The number of epochs that every fold has."""
        return min(map(len, self.histories))

    def means(self, score: Callable[[EpochMetrics], float]) -> list[float]:
        """The mean score over the folds, after each epoch."""
        return [float(np.mean([score(h[k]) for h in self.histories])) for k in range(self.reached)]


def cost(epochs: int, free: Sequence[int]) -> int:
    """The number of epochs to train if each fold gets `epochs`, of which `free` are in the stage store."""
    return sum(max(0, epochs - known) for known in free)


def affordable(wanted: int, free: Sequence[int], left: float) -> int:
    """The most epochs, up to `wanted`, whose cost fits into the budget left. Raises: SettingsError if none does."""
    found = next((count for count in range(wanted, 0, -1) if cost(count, free) <= max(left, 0)), 0)
    if not found:
        raise SettingsError("the budget is spent")
    return found


class AskTell:
    """A study with a budget."""

    def __init__(
        self,
        study: optuna.Study,
        space: Space,
        expand: Expand,
        budget: Budget,
        schema: TrialSchema[Point],
        values: Values,
        free: Callable[[Sequence[Point]], Sequence[int]] | None = None,
    ) -> None:
        """A study whose budget is untouched.

        expand: Makes the points of a configuration, one for each fold.
        values: From a configuration and the chosen epoch of each fold, one value for each objective.
        free: The number of epochs of each point that need no training; by default 0.
        """
        self.study, self.budget, self.spent = study, budget, 0
        self.trials: list[StudyTrial] = []
        self._known = self._failed = 0  # consecutive trials
        self._folds = len(expand(space.lowest()))
        self.expand, self._space, self._schema, self._values = expand, space, schema, values
        self.free = free or (lambda points: [0] * len(points))

    @property
    def left(self) -> float:
        """Epochs of the budget that are neither spent nor reserved for a running trial."""
        reserved = sum(max(0, each.reserved - each.spent) for each in self.trials if each.open)
        return float("inf") if self.budget.epochs is None else self.budget.epochs - self.spent - reserved

    @property
    def spendable(self) -> bool:
        """Whether another trial is possible: a new one needs an epoch for each fold, an enqueued one may need none."""
        return self.left >= self._folds or bool(self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def ask(self) -> StudyTrial | None:
        """The next trial, shortened to what the budget allows; None if there is none."""
        for _ in range(MOST_INVALID):
            if self.budget.over() or self._known >= MOST_KNOWN or self._failed >= MOST_FAILED or not self.spendable:
                return None
            trial = self._next()
            config = self._space.sample(trial)
            try:
                points = self.expand(config)
                free = self.free(points)
                most = affordable(points[0].epochs, free, self.left)
                config["epochs"] = most
                points = points if most == points[0].epochs else self.expand(config)
            except SettingsError as error:
                trial.set_user_attr("reason", str(error))
                self.study.tell(trial, state=TrialState.FAIL)
                continue
            trial.set_user_attr("config", config)
            folds = range(len(points))
            self.trials.append(StudyTrial(trial, config, points, cost(most, free), [[] for _ in folds], set(folds)))
            return self.trials[-1]
        raise AgrError(f"{MOST_INVALID} configurations in a row were refused; expected a space of valid ones")

    def _next(self) -> optuna.Trial:
        """Ask the study for a trial that has its driver's name from the first moment.

        A search that is killed between two records of the study would else leave a running trial of nobody, which no
        later search ends.
        """
        if not self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            self.study.enqueue_trial({}, user_attrs={"driver": driver()})
        trial = self.study.ask()
        trial.set_user_attr("driver", driver())  # another search may have enqueued it
        return trial

    def advance(self, trial: StudyTrial, fold: int, epochs: Sequence[EpochMetrics], read: bool) -> None:
        """Add new epochs of a fold; they count against the budget unless they were read from the stage store."""
        known = len(trial.histories[fold])
        new = [epoch for epoch in epochs if epoch.epoch > known]
        trial.histories[fold] += new
        if not read:
            self.spent += len(new)
            trial.spent += len(new)
            trial.optuna_trial.set_user_attr("spent", trial.spent)  # now, for a search that continues after a kill
        if len(self.study.directions) == 1:
            objective = self._schema.objective
            for step, mean in enumerate(trial.means(objective.score)[trial.reported :], start=trial.reported + 1):
                trial.optuna_trial.report(objective.value(mean), step)
        trial.reported = trial.reached

    def end(self, trial: StudyTrial, fold: int, failed: str = "") -> None:
        """End a fold; after the last one, tell the study the result."""
        trial.open.discard(fold)
        trial.failed = trial.failed or failed
        if not trial.open:
            self._tell(trial)

    def _tell(self, trial: StudyTrial) -> None:
        optuna_trial = trial.optuna_trial
        self._known = 0 if trial.spent else self._known + 1
        self._failed = 0 if any(trial.histories) else self._failed + 1
        optuna_trial.set_user_attr("reached", trial.reached)
        optuna_trial.set_user_attr("reason", trial.failed)
        if trial.failed or not trial.reached:
            self.study.tell(optuna_trial, state=TrialState.FAIL)
            return
        means = trial.means(self._schema.objective.score)
        ties = trial.means(lambda epoch: float(getattr(epoch, self._schema.tie, 0.0)))
        chosen = min(range(trial.reached), key=lambda k: (-means[k], ties[k]))
        optuna_trial.set_user_attr("score", means[chosen])
        optuna_trial.set_user_attr("chosen", chosen + 1)
        if trial.reached < trial.epochs and len(self.study.directions) == 1:
            self.study.tell(optuna_trial, state=TrialState.PRUNED)
            return
        self.study.tell(optuna_trial, self._values(trial.config, [history[chosen] for history in trial.histories]))

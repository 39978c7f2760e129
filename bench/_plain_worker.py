"""What a process of plain_optuna.py does for each trial of the study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
import torch
from numpy.typing import NDArray

from agr.data.image_set import ImageSet
from agr.data.splits import Split
from agr.errors import TrainingError
from agr.training.loop import Epoch, State, fit
from agr.training.settings import Settings
from search.optuna_search.space import Space
from search.tasks.agr_task import AGR_SCHEMA

CPU = torch.device("cpu")
Weights = Mapping[str, NDArray[Any]]


@dataclass
class Best:
    """The best epoch of any trial of one process: score first, then loss, then fewer epochs."""

    sort_key: tuple[float, float, int] = (np.inf, np.inf, 0)
    settings: Settings | None = None
    epoch: Epoch | None = None
    weights: Weights = field(default_factory=dict)

    def offer(self, settings: Settings, epoch: Epoch, state: State) -> None:
        """Take it if it is better."""
        if AGR_SCHEMA.sort_key(epoch) < self.sort_key:
            self.sort_key, self.settings, self.epoch = AGR_SCHEMA.sort_key(epoch), settings, epoch
            self.weights = {name: tensor.numpy() for name, tensor in state.weights.items()}


@dataclass
class Worker:
    """One process: its images, and what it shares with the others. `left`: epochs that nobody has begun."""

    data: ImageSet
    split: Split
    space: Space
    base: Mapping[str, Any]
    left: Any  # multiprocessing.Value
    told: Any  # multiprocessing.Queue: the validation score of each trained epoch, None of one that diverged
    best: Best = field(default_factory=Best)

    def claim(self) -> bool:
        """Take an epoch from the budget, if there is one."""
        with self.left.get_lock():
            self.left.value -= 1
            return bool(self.left.value >= 0)

    def objective(self, trial: optuna.Trial) -> float:
        """Train a trial; its value is that of its best epoch."""
        settings = Settings(**(dict(self.base) | self.space.sample(trial)))
        scores: list[float] = []

        def report(epoch: Epoch, state: State) -> None:
            scores.append(epoch.val_balanced_accuracy)
            self.told.put(scores[-1])
            self.best.offer(settings, epoch, state)
            trial.report(scores[-1], epoch.epoch)
            if epoch.epoch < settings.epochs and (trial.should_prune() or self._spent(trial)):
                raise optuna.TrialPruned

        if self._spent(trial):
            raise optuna.TrialPruned
        try:
            fit(self.data, self.split, settings, CPU, report)
        except TrainingError:
            self.told.put(None)
            raise
        return max(scores)

    def _spent(self, trial: optuna.Trial) -> bool:
        """Whether the next epoch is beyond the budget; then no other trial is begun."""
        if self.claim():
            return False
        trial.study.stop()
        return True

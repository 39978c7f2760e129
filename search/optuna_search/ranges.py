"""The values of one hyperparameter of a search: a range of numbers, or one of several values.

Range(1e-4, 1e-1, log=True).suggest("lr", trial)
Choices((16, 32, 64)).holds(48)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

Value = bool | int | float | str


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; all of them whole if these are `int`. step: only every so many."""

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None

    def holds(self, value: object) -> bool:
        """Whether a trial may have this value."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        if isinstance(self.low, int) and value != int(value):
            return False
        steps = (value - self.low) / self.step if self.step is not None else 0.0
        return math.isclose(steps, round(steps), abs_tol=1e-9)

    def ends(self) -> tuple[Value, ...]:
        """The extreme values."""
        return self.low, self.high

    def distribution(self) -> BaseDistribution:
        """As Optuna has it."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if isinstance(self.low, int) and isinstance(self.high, int):
            return IntDistribution(self.low, self.high, log=self.log, step=int(self.step or 1))
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def suggest(self, name: str, trial: Trial) -> int | float:
        """The value of a trial."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, log=self.log, step=int(self.step or 1))
        return trial.suggest_float(name, self.low, self.high, log=self.log, step=self.step)


@dataclass(frozen=True)
class Choices:
    """One of two or more values, without an order."""

    values: tuple[Value, ...]

    def holds(self, value: object) -> bool:
        """Whether a trial may have this value."""
        return any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in self.values)

    def ends(self) -> tuple[Value, ...]:
        """All of them."""
        return self.values

    def distribution(self) -> BaseDistribution:
        """As Optuna has it."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.values)

    def suggest(self, name: str, trial: Trial) -> Value:
        """The value of a trial."""
        return cast(Value, trial.suggest_categorical(name, self.values))

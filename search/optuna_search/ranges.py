"""The values that a hyperparameter may take: a range of numbers, or a list of choices."""

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
    """Numbers from `low` to `high`, both included, in steps of `step` if it is given; integers if both ends are."""

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None

    def holds(self, value: object) -> bool:
        """Whether the value is allowed."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        if isinstance(self.low, int) and value != int(value):
            return False
        steps = (value - self.low) / self.step if self.step is not None else 0.0
        return math.isclose(steps, round(steps), abs_tol=1e-9)

    def ends(self) -> tuple[Value, ...]:
        """Both ends."""
        return self.low, self.high

    def distribution(self) -> BaseDistribution:
        """The Optuna distribution."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if isinstance(self.low, int) and isinstance(self.high, int):
            return IntDistribution(self.low, self.high, log=self.log, step=int(self.step or 1))
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def suggest(self, name: str, trial: Trial) -> int | float:
        """The value that Optuna proposes for a trial."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, log=self.log, step=int(self.step or 1))
        return trial.suggest_float(name, self.low, self.high, log=self.log, step=self.step)


@dataclass(frozen=True)
class Choices:
    """Two or more values without an order."""

    values: tuple[Value, ...]

    def holds(self, value: object) -> bool:
        """Whether the value is allowed."""
        return any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in self.values)

    def ends(self) -> tuple[Value, ...]:
        """All values."""
        return self.values

    def distribution(self) -> BaseDistribution:
        """The Optuna distribution."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.values)

    def suggest(self, name: str, trial: Trial) -> Value:
        """The value that Optuna proposes for a trial."""
        return cast(Value, trial.suggest_categorical(name, self.values))

"""A trainable of one's own: a module with `fit(config, report, resume)`, searched as AGR's models are.

    python search/run_grid.py --trainable my_project.train:fit

The module says, beside the function:

    fit(config, report, resume)     trains config["epochs"] epochs and calls report(metrics, state) after each: metrics,
                                    numbers by name; state, numpy arrays by name, all that the next epoch needs.
                                    resume is None, or has `epoch`, `state` and `history` to go on from.
    AIM = "val_accuracy"            the metric to make high; "-val_loss" makes one low
    GRID = {"epochs": [5, 10], ...} the axes of run_grid.py
    prefix(config)                  optional: a tuple with an entry an epoch, which together with those before it
                                    determines the epoch; configurations share as many epochs as they have leading
                                    entries in common. Without it nothing is shared.
    SPACE = "..."                   optional: the space of run_optuna.py, as --print-space shows one
    test(config, state)             optional: metrics of the champion on data that nobody has seen; called once
    MODEL = "name"                  optional: in the registry; else the module's name

An epoch is known again by the source of the module and its prefix: what it imports, and the data that it reads, are for
`prefix` to name if they may change. Registered are safetensors and JSON, no code.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agr.errors import SettingsError, TrainingError
from agr.training import Report, State
from search.stages import Lineage
from search.task import Aim, Kind

Arrays = Mapping[str, NDArray[Any]]
OWN = ("epoch", "seconds")  # numbers that every epoch has anyway


@dataclass(frozen=True)
class Resume:
    """Where a trial goes on: after `epoch` epochs, with what `fit` last reported as its state."""

    epoch: int
    state: Arrays
    history: Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class CustomPoint:
    """A configuration, and what determines each of its epochs."""

    values: Mapping[str, Any]
    entries: tuple[Any, ...]
    shares: bool

    @property
    def epochs(self) -> int:
        """How many are planned."""
        return int(self.values["epochs"])

    def rates(self) -> tuple[Any, ...]:
        """What names each epoch."""
        return self.entries

    def prefix(self) -> tuple[Any, ...]:
        """The same; of what does not share, with all of the configuration in the first entry."""
        own = () if self.shares else tuple(sorted((name, repr(value)) for name, value in self.values.items()))
        return ((own, self.entries[0]), *self.entries[1:])

    def config(self) -> dict[str, Any]:
        """The configuration."""
        return dict(self.values)


@dataclass(frozen=True)
class Custom:
    """The task that `module:function` makes; see above for what the module says."""

    path: str
    kind: Kind = field(compare=False)

    @property
    def name(self) -> str:
        """Of the module, where data would have one."""
        return self.path.partition(":")[0].rpartition(".")[2]

    @property
    def nbytes(self) -> int:
        """The task carries no data."""
        return 0

    def lineage(self, point: CustomPoint, device: str) -> Lineage | None:
        """The module's source, if it names a prefix."""
        if not point.shares:
            return None
        source = hashlib.sha256(inspect.getsource(module_of(self.path)).encode()).hexdigest()
        return Lineage((("device", device), ("source", source), ("trainable", self.path)))

    def fit(self, point: CustomPoint, device: str, report: Report, resume: State | None) -> None:
        """Call the function. Raises: TrainingError for epochs or metrics that the contract does not allow."""
        torch.set_num_threads(1)
        history: list[Any] = list(resume.history) if resume else []
        clock = [time.perf_counter()]

        def tell(metrics: Mapping[str, float], state: Arrays) -> None:
            if len(history) == point.epochs:
                raise TrainingError(f"{self.path}: more than {point.epochs} epochs reported; expected {point.epochs}")
            numbers = self._checked(metrics, len(history) + 1)
            seconds, clock[0] = time.perf_counter() - clock[0], time.perf_counter()
            history.append(SimpleNamespace(epoch=len(history) + 1, **numbers, seconds=seconds))
            report(history[-1], State(self._tensors(state), {}, tuple(history)))

        function_of(self.path)(point.config(), tell, _resume(resume))
        if len(history) != point.epochs:
            raise TrainingError(f"{self.path}: {len(history)} epochs reported; expected {point.epochs}")

    def about(self, point: CustomPoint) -> dict[str, object]:
        """See `Task`."""
        return {"trainable": self.path} | {name: value for name, value in point.config().items() if name != "epochs"}

    def reading(self, kind: Kind) -> Custom:
        """See `Task`."""
        return replace(self, kind=kind)

    def lean(self) -> Custom:
        """There is nothing to leave out."""
        return self

    def _checked(self, metrics: Mapping[str, float], epoch: int) -> dict[str, float]:
        try:
            numbers = {str(name): float(value) for name, value in metrics.items()}
        except (TypeError, ValueError, AttributeError) as error:
            raise TrainingError(f"{self.path}, epoch {epoch}: metrics {metrics!r}; expected numbers by name") from error
        if self.kind.aim.metric not in numbers:
            found = ", ".join(numbers) or "none"
            raise TrainingError(f"{self.path}, epoch {epoch}: metrics {found}; expected {self.kind.aim.metric} too")
        for name, value in numbers.items():
            if name in OWN:
                raise TrainingError(f"{self.path}, epoch {epoch}: metric {name}; expected a name that is not AGR's own")
            if not math.isfinite(value):
                raise TrainingError(f"{self.path}, epoch {epoch}: {name} {value}; diverged")
        return numbers

    def _tensors(self, state: Arrays) -> dict[str, torch.Tensor]:
        try:
            return {str(name): torch.from_numpy(np.array(value)) for name, value in state.items()}
        except (TypeError, ValueError, AttributeError) as error:
            raise TrainingError(f"{self.path}: state: {error}; expected numpy arrays of numbers by name") from error


def _resume(state: State | None) -> Resume | None:
    if state is None:
        return None
    arrays = {name: tensor.numpy().copy() for name, tensor in state.weights.items()}
    return Resume(len(state.history), arrays, tuple(dict(vars(epoch)) for epoch in state.history))


def module_of(path: str) -> ModuleType:
    """The module of `package.module:function`, looked for in the current folder first. Raises: SettingsError."""
    name, _, function = path.partition(":")
    if not name or not function:
        raise SettingsError(f"--trainable {path}: expected MODULE:FUNCTION, such as my_project.train:fit")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except Exception as error:  # whatever the module does when it is imported
        why = (str(error).splitlines() or [""])[0] if isinstance(error, ImportError) else _said(error)
        raise SettingsError(f"--trainable {path}: {why}; expected a module that can be imported from here") from error


def _said(error: Exception) -> str:
    """Somebody else's error in one line."""
    return ": ".join([type(error).__name__, *str(error).splitlines()[:1]])


def function_of(path: str, name: str | None = None) -> Callable[..., Any]:
    """The function itself, or another one of its module. Raises: SettingsError."""
    wanted = name or path.partition(":")[2]
    found = getattr(module_of(path), wanted, None)
    if not callable(found):
        raise SettingsError(f"--trainable {path}: no function {wanted} in it; expected {wanted}(...)")
    return found  # type: ignore[no-any-return]


def point_of(path: str, config: Mapping[str, Any]) -> CustomPoint:
    """The point of a configuration. Raises: SettingsError if `prefix` does not have an entry an epoch."""
    epochs = config.get("epochs")
    if not isinstance(epochs, int) or epochs < 1:
        raise SettingsError(f"--trainable {path}: epochs {epochs!r}; expected a whole number above 0")
    prefix = getattr(module_of(path), "prefix", None)
    if prefix is None:
        return CustomPoint(dict(config), tuple(range(1, epochs + 1)), False)
    try:
        entries = tuple(prefix(dict(config)))
    except Exception as error:  # whatever somebody's function raises
        raise SettingsError(f"--trainable {path}: prefix: {_said(error)}; expected an entry an epoch") from error
    if len(entries) != epochs:
        raise SettingsError(f"--trainable {path}: prefix has {len(entries)} entries; expected {epochs}, one an epoch")
    return CustomPoint(dict(config), entries, True)


def aim_of(path: str) -> Aim:
    """What the module's AIM says. Raises: SettingsError without one."""
    aim = getattr(module_of(path), "AIM", None)
    if not isinstance(aim, str) or not aim.lstrip("-"):
        raise SettingsError(f'--trainable {path}: AIM {aim!r}; expected a metric, such as AIM = "val_accuracy"')
    return Aim(aim.removeprefix("-"), not aim.startswith("-"), aim.removeprefix("-").replace("_", " "))

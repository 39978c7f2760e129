"""Search over your own model: a module with `fit(config, report, resume)`; docs/trainables.md lists its contents.

    python search/run_grid.py --trainable my_project.train:fit

Stored epochs are identified by the source of the module and their prefix, not by what it imports or the data it reads.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import math
import os
import sys
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agr.errors import SettingsError, TrainingError
from agr.training.loop import Report, State
from search.stages.store import Lineage
from search.tasks.base import Config, Objective, TrialSchema

Arrays = Mapping[str, NDArray[np.generic]]
RESERVED = ("epoch", "seconds")  # metric names that AGR sets itself


class CustomEpoch(SimpleNamespace):
    """An epoch of a trainable: its number, its duration, and its metrics as further attributes."""

    epoch: int
    seconds: float


@dataclass(frozen=True)
class Resume:
    """Where a trial continues: after `epoch` epochs, with the state that `fit` reported last."""

    epoch: int
    state: Arrays
    history: Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class CustomPoint:
    """A configuration, with one entry per epoch that identifies it."""

    values: Config
    entries: tuple[Hashable, ...]
    shares: bool  # whether the module has `prefix`

    @property
    def epochs(self) -> int:
        """The number of planned epochs."""
        return len(self.entries)

    def rates(self) -> tuple[Hashable, ...]:
        """The entries, one per epoch."""
        return self.entries

    def prefix(self) -> tuple[Hashable, ...]:
        """The entries; without sharing, the first one includes the whole configuration."""
        own = () if self.shares else tuple(sorted((name, repr(value)) for name, value in self.values.items()))
        return ((own, self.entries[0]), *self.entries[1:])

    def config(self) -> dict[str, object]:
        """The configuration."""
        return dict(self.values)


@dataclass(frozen=True)
class CustomTask:
    """Trains with the function of a module; `path` is `module:function`."""

    path: str
    schema: TrialSchema[CustomPoint] = field(compare=False)
    nbytes = 0  # the task contains no data

    @property
    def name(self) -> str:
        """The last part of the module's name."""
        return self.path.partition(":")[0].rpartition(".")[2]

    def lineage(self, point: CustomPoint, device: str) -> Lineage | None:
        """Device and source of the module; None without `prefix`."""
        if not point.shares:
            return None
        return Lineage((("device", device), ("source", source_digest(self.path)), ("trainable", self.path)))

    def fit(self, point: CustomPoint, device: str, report: Report, resume: State | None) -> None:
        """Call the function. Raises: TrainingError if it reports invalid metrics, states or numbers of epochs."""
        torch.set_num_threads(1)
        history: list[Any] = list(resume.history) if resume else []  # `CustomEpoch`s; `State` declares `Epoch`s
        clock = [time.perf_counter()]

        def tell(metrics: Mapping[str, float], state: Arrays) -> None:
            if len(history) == point.epochs:
                raise TrainingError(f"{self.path}: more than {point.epochs} epochs reported; expected {point.epochs}")
            number = len(history) + 1
            numbers = self._checked(metrics, f"{self.path}, epoch {number}")
            seconds, clock[0] = time.perf_counter() - clock[0], time.perf_counter()
            history.append(CustomEpoch(epoch=number, **numbers, seconds=seconds))
            report(history[-1], State(self._tensors(state), {}, tuple(history)))

        start = None
        if resume:
            arrays = {name: tensor.numpy().copy() for name, tensor in resume.weights.items()}
            start = Resume(len(history), arrays, tuple(dict(vars(epoch)) for epoch in history))
        function_of(self.path)(point.config(), tell, start)
        if len(history) != point.epochs:
            raise TrainingError(f"{self.path}: {len(history)} epochs reported; expected {point.epochs}")

    def describe(self, point: CustomPoint) -> dict[str, object]:
        """The trainable and the settings."""
        return {"trainable": self.path} | {name: value for name, value in point.config().items() if name != "epochs"}

    def with_schema(self, schema: TrialSchema[CustomPoint]) -> CustomTask:
        """A copy with another schema."""
        return replace(self, schema=schema)

    def for_workers(self) -> CustomTask:
        """The same task: it contains no data."""
        return self

    def _checked(self, metrics: Mapping[str, float], where: str) -> dict[str, float]:
        try:
            numbers = {str(name): float(value) for name, value in metrics.items()}
        except (TypeError, ValueError, AttributeError) as error:
            raise TrainingError(f"{where}: metrics {metrics!r}; expected numbers by name") from error
        if (wanted := self.schema.objective.metric) not in numbers:
            raise TrainingError(f"{where}: metrics {', '.join(numbers) or 'none'}; expected {wanted} too")
        for name, value in numbers.items():
            if name in RESERVED:
                raise TrainingError(f"{where}: metric {name}: a name of AGR's; expected another")
            if not math.isfinite(value):
                raise TrainingError(f"{where}: {name} {value}; diverged")
        return numbers

    def _tensors(self, state: Arrays) -> dict[str, torch.Tensor]:
        try:
            return {str(name): torch.from_numpy(np.array(value)) for name, value in state.items()}
        except (TypeError, ValueError, AttributeError) as error:
            raise TrainingError(f"{self.path}: state: {error}; expected numpy arrays of numbers by name") from error


def module_of(path: str) -> ModuleType:
    """Import the module of `package.module:function`, from the current folder first. Raises: SettingsError."""
    name, _, function = path.partition(":")
    if not name or not function:
        raise SettingsError(f"--trainable {path}: expected MODULE:FUNCTION, such as my_project.train:fit")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except Exception as error:  # of any type: importing runs user code
        why = (str(error).splitlines() or [""])[0] if isinstance(error, ImportError) else _first_line(error)
        raise SettingsError(f"--trainable {path}: {why}; expected a module that can be imported from here") from error


def _first_line(error: Exception) -> str:
    """The type of an error and the first line of its message."""
    return ": ".join([type(error).__name__, *str(error).splitlines()[:1]])


def source_digest(path: str) -> str:
    """SHA-256 of the module's source, 64 hex digits."""
    return hashlib.sha256(inspect.getsource(module_of(path)).encode()).hexdigest()


def function_of(path: str, name: str | None = None) -> Callable[..., object]:
    """The function of the trainable, or the function `name` of its module. Raises: SettingsError if missing."""
    wanted = name or path.partition(":")[2]
    found: object = getattr(module_of(path), wanted, None)
    if not callable(found):
        raise SettingsError(f"--trainable {path}: no function {wanted} in it; expected {wanted}(...)")
    return found


def custom_point(path: str, config: Config) -> CustomPoint:
    """Build the point of a configuration. Raises: SettingsError unless `prefix` returns one entry per epoch."""
    epochs = config.get("epochs")
    if not isinstance(epochs, int) or epochs < 1:
        raise SettingsError(f"--trainable {path}: epochs {epochs!r}; expected a whole number above 0")
    prefix = getattr(module_of(path), "prefix", None)
    if prefix is None:
        return CustomPoint(dict(config), tuple(range(1, epochs + 1)), False)
    try:
        entries = tuple(prefix(dict(config)))
    except Exception as error:  # of any type: user code
        raise SettingsError(f"--trainable {path}: prefix: {_first_line(error)}; expected an entry an epoch") from error
    if len(entries) != epochs:
        raise SettingsError(f"--trainable {path}: prefix has {len(entries)} entries; expected {epochs}, one an epoch")
    return CustomPoint(dict(config), entries, True)


def objective_of(path: str) -> Objective:
    """The objective that OBJECTIVE names. Raises: SettingsError if it is missing or not a name."""
    aim = getattr(module_of(path), "OBJECTIVE", None)
    if not isinstance(aim, str) or not aim.lstrip("-"):
        expected = 'expected a metric, such as OBJECTIVE = "val_accuracy"'
        raise SettingsError(f"--trainable {path}: OBJECTIVE {aim!r}; {expected}")
    return Objective(aim.removeprefix("-"), not aim.startswith("-"), aim.removeprefix("-").replace("_", " "))

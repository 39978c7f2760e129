"""The search space: a small TOML file with one hyperparameter a line, in one of these forms.

    gamma = 0.3                                        # fixed
    lr = {low = 1e-4, high = 1e-1, log = true}         # a range of numbers, both ends included
    epochs = {low = 5, high = 20, step = 5}            # integers, if the hyperparameter is an integer
    batch_size = {choices = [16, 32, 64]}              # a list of values

A hyperparameter that the file leaves out keeps its default.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from agr.errors import SettingsError
from search.optuna_search.ranges import Choices, Range, Value

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

DEFAULT = """\
# The search space. A plain value fixes a hyperparameter, {low, high} is a range, {choices} a list.

epochs          = {low = 5, high = 20}                   # passes over the training clips
lr              = {low = 1e-4, high = 1e-1, log = true}  # Adam's learning rate in the first epochs
gamma           = {low = 0.1, high = 0.9}                # multiplies lr every 5 epochs
weight_decay    = {low = 0.0, high = 0.1}                # how strongly weights are pulled towards zero
batch_size      = {choices = [16, 32, 64]}               # clips in one step
dropout         = {low = 0.0, high = 0.5}                # share of hidden values left out in training
label_smoothing = {low = 0.0, high = 0.2}                # share of the label spread over both genders
width           = {choices = [0.5, 1.0]}                 # channels, as a multiple of the model's own

# How strongly training varies the voices (recipe voice only); the middle of a range is what the grid uses.
augment_speed      = {low = 0.0, high = 0.1}                # pitch and vocal tract together, log of the factor
augment_pitch      = {low = 0.0, high = 0.4}                # pitch alone
augment_formants   = {low = 0.0, high = 0.16}               # vocal tract alone
augment_colour     = {low = 0.0, high = 8.0}                # the microphone's curve, dB
augment_line       = {low = 0.0, high = 0.6}                # share of clips through a telephone line
augment_noise      = {low = 0.0, high = 1.0}                # share of clips with noise
augment_room       = {low = 0.0, high = 0.6}                # share of clips from a room
augment_shift      = {low = 0, high = 30}                   # moves in time, frames of 10 ms
"""
FORMS = "a value, {low, high}, or {choices = [...]}"
RANGE_KEYS = ("low", "high", "log", "step")
KINDS = {int: "a whole number", float: "a number", str: "a text in quotes", bool: "true or false"}


@dataclass(frozen=True)
class Space:
    """Varied and fixed hyperparameters by name, in the order of the file."""

    varied: Mapping[str, Range | Choices]
    fixed: Mapping[str, Value]

    @property
    def digest(self) -> str:
        """16 hex digits that identify the content, without comments and the order of lines."""
        varied = {name: [type(item).__name__, asdict(item)] for name, item in self.varied.items()}
        content = json.dumps([varied, dict(self.fixed)], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def distributions(self) -> dict[str, BaseDistribution]:
        """The Optuna distributions of the varied hyperparameters."""
        return {name: item.distribution() for name, item in self.varied.items()}

    def sample(self, trial: Trial) -> dict[str, Value]:
        """The hyperparameters of an Optuna trial, including fixed ones."""
        return {name: item.suggest(name, trial) for name, item in self.varied.items()} | dict(self.fixed)

    def outside(self, params: Mapping[str, object]) -> list[str]:
        """The names of the space whose value is missing or not allowed."""
        varied = [name for name, item in self.varied.items() if name not in params or not item.holds(params[name])]
        return varied + [name for name, value in self.fixed.items() if name in params and params[name] != value]

    def lowest(self) -> dict[str, Value]:
        """The configuration with the lowest, or first, value of every hyperparameter."""
        return {name: item.ends()[0] for name, item in self.varied.items()} | dict(self.fixed)

    def edges(self) -> Iterator[dict[str, Value]]:
        """Configurations that together have both ends of every range and every choice."""
        base = self.lowest()
        yield base
        for name, item in self.varied.items():
            yield from (base | {name: value} for value in item.ends()[1:])


def known_settings() -> dict[str, type[Value]]:
    """The training settings of AGR's models with their types, without the seed."""
    from typing import get_type_hints

    from agr.training.settings import Settings

    return {name: kind for name, kind in get_type_hints(Settings).items() if name != "seed"}


def parse(text: str, source: str, known: Mapping[str, object]) -> Space:
    """A space from the TOML of a source, a name for messages. Raises: SettingsError if a line is not allowed.

    known: The allowed names, each with its type or a value of that type; None allows any type.
    """
    from agr.training.settings import FORMER_NAMES

    try:
        lines = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{source}: not TOML, {error}; expected lines of NAME = {FORMS}") from error
    varied: dict[str, Range | Choices] = {}
    fixed: dict[str, Value] = {}
    for written, value in lines.items():
        where = f"{source}, line {_line(text, written)}: {written}"
        name = written if written in known else FORMER_NAMES.get(written, written)
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
            raise SettingsError(f"{where}: unknown name; {hint}")
        found = _item(value, _kind(known[name]), where)
        if isinstance(found, Range | Choices):
            varied[name] = found
        else:
            fixed[name] = found
    if not varied:
        raise SettingsError(f"{source}: nothing to search; expected a range or choices of at least one name")
    return Space(varied, fixed)


def _line(text: str, name: str) -> int:
    """The number, from 1, of the line that sets a name; tomllib does not give it."""
    pattern = re.compile(rf"""\s*\[?\s*["']?{re.escape(name)}["']?\s*[\].=]""")
    return next((number for number, line in enumerate(text.splitlines(), start=1) if pattern.match(line)), 1)


def _kind(default: object) -> type | None:
    kind = default if isinstance(default, type) or default is None else type(default)
    return kind if kind in KINDS else None


def _item(value: object, kind: type | None, where: str) -> Range | Choices | Value:
    """The meaning of one line."""
    if not isinstance(value, dict):
        return _value(value, kind, where, FORMS)
    if "choices" in value:
        return _choices(value, kind, where)
    for key in value:
        if key not in RANGE_KEYS:
            raise SettingsError(f"{where}: key {key!r}; expected {', '.join(RANGE_KEYS)} or choices")
    return _range(value, kind, where)


def _choices(value: Mapping[str, object], kind: type | None, where: str) -> Choices | Value:
    """A list of choices; a list of one is that value."""
    if len(value) > 1:
        others = ", ".join(key for key in value if key != "choices")
        raise SettingsError(f"{where}: choices beside {others}; expected a range or choices, not both")
    listed = value["choices"]
    if not isinstance(listed, list) or not listed:
        raise SettingsError(f"{where}: choices {_shown(listed)}; expected a list of one or more values")
    values = tuple(_value(each, kind, where, "choices of one kind") for each in listed)
    if len(set(values)) < len(values):
        raise SettingsError(f"{where}: choices {_shown(listed)}; expected each value once")
    return Choices(values) if len(values) > 1 else values[0]


def _range(value: Mapping[str, object], kind: type | None, where: str) -> Range:
    if kind in (str, bool):
        raise SettingsError(f"{where}: a range; expected {KINDS[kind]} or choices of them")
    for key in ("low", "high"):
        if key not in value:
            raise SettingsError(f"{where}: no {key}; expected {FORMS}")
    if not isinstance(log := value.get("log", False), bool):
        raise SettingsError(f"{where}: log {_shown(log)}; expected true or false")
    numbers = {key: _number(value[key], kind, f"{where}: {key}") for key in ("low", "high", "step") if key in value}
    if not all(isinstance(number, int) for number in numbers.values()):
        numbers = {key: float(number) for key, number in numbers.items()}
    low, high, step = numbers["low"], numbers["high"], numbers.get("step")
    if low >= high:
        raise SettingsError(f"{where}: low {low:g}, high {high:g}, an empty range; expected low below high")
    if log and low <= 0:
        raise SettingsError(f"{where}: low {low:g} with log; expected low above 0")
    if step is not None:
        _check_step(Range(low, high, log, step), where)
    return Range(low, high, log, step)


def _check_step(item: Range, where: str) -> None:
    """Raises: SettingsError if Optuna would refuse the step or shorten the range."""
    step = item.step or 0
    if item.log:
        raise SettingsError(f"{where}: step {step:g} with log; expected one of them")
    if step <= 0 or not item.holds(item.high):
        raise SettingsError(
            f"{where}: step {step:g}; expected one that divides the range from {item.low:g} to {item.high:g}"
        )


def _number(value: object, kind: type | None, where: str) -> int | float:
    found = _value(value, kind or (int if isinstance(value, int) else float), where, "")
    if isinstance(found, str | bool):
        raise SettingsError(f"{where} {_shown(value)}; expected a number")
    return found


def _value(value: object, kind: type | None, where: str, expected: str) -> Value:
    """A single value of the right type; an integer is accepted as a number."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    wanted = (kind,) if kind else tuple(KINDS)
    infinite = isinstance(value, float) and not math.isfinite(value)
    if not isinstance(value, Value) or type(value) not in wanted or infinite:
        what = KINDS[kind] if kind else expected
        raise SettingsError(f"{where} {_shown(value)}; expected {what}")
    return value


def _shown(value: object) -> str:
    """A value as JSON of at most 40 characters."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 40 else f"{text[:37]}..."

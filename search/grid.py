"""The points of an exhaustive search, and how many of their epochs differ.

points = grid((5, 10, 20), (0.1, 0.01, 0.001), (0.1, 0.3, 0.7))
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields

from agr.errors import SettingsError
from agr.training import Settings
from search.ranges import Value
from search.task import Point, settings_of, settled

EPOCHS = (5, 10, 20)
LR = (0.1, 0.01, 0.001)
GAMMA = (0.1, 0.3, 0.7)


def grid(
    epochs: Sequence[int] = EPOCHS,
    lr: Sequence[float] = LR,
    gamma: Sequence[float] = GAMMA,
    seed: int = 0,
    model: str = "cnn",
    others: Mapping[str, Sequence[Value]] | None = None,
) -> list[Settings]:
    """Every combination, once.

    Args:
        epochs, lr, gamma: The values of these settings.
        seed, model: The same for all points.
        others: Axes of other settings, by name.

    Raises:
        SettingsError: A value is out of range, an axis has no values, or a name is unknown.
    """
    for name, values in (("epochs", epochs), ("lr", lr), ("gamma", gamma)):
        if not values:
            raise SettingsError(f"--{name}: no values; expected one or more")
    own = ("epochs", "lr", "gamma", "seed", "model")
    known = {item.name: item.default for item in fields(Settings) if item.name not in own}
    columns: dict[str, list[Value]] = {}
    for name, column in (others or {}).items():
        if name not in known:
            raise SettingsError(f"--axis {name}: unknown; expected one of {', '.join(sorted(known))}")
        columns[name] = [_fitting(name, value, known[name]) for value in column]
    axes: dict[str, Sequence[Value]] = {"epochs": epochs, "lr": lr, "gamma": gamma, **columns}
    every = itertools.product(*(dict.fromkeys(values) for values in axes.values()))
    return [settings_of(settled({"seed": seed, "model": model} | dict(zip(axes, each, strict=True)))) for each in every]


def axes(given: Sequence[Sequence[str]]) -> dict[str, list[Value]]:
    """`--axis NAME VALUE ...` as lists by name: whole numbers, numbers, else text. Raises: SettingsError."""
    found: dict[str, list[Value]] = {}
    for name, *values in given:
        if not values or name in found:
            raise SettingsError(f"--axis {name}: {'no values' if not values else 'given twice'}; expected values once")
        found[name] = [_value(text) for text in values]
    return found


def _value(text: str) -> Value:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def _fitting(name: str, value: Value, default: object) -> Value:
    """A value of the type of its setting; 1 passes for 1.0. Raises: SettingsError."""
    if isinstance(default, float) and isinstance(value, int):
        return float(value)
    if type(value) is not type(default):
        wanted = "numbers" if isinstance(default, float) else "whole numbers"
        raise SettingsError(f"--axis {name}: found {value}; expected {wanted}")
    return value


def distinct_epochs(points: Iterable[Point]) -> int:
    """How many epochs the points have together, counting those that they share once."""
    prefixes: set[tuple[Hashable, ...]] = set()
    for point in points:
        prefix = point.prefix()
        prefixes.update(prefix[: count + 1] for count in range(len(prefix)))
    return len(prefixes)

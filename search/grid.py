"""The points of an exhaustive search, and how many of their epochs differ.

points = grid((5, 10, 20), (0.1, 0.01, 0.001), (0.1, 0.3, 0.7))
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from agr.errors import SettingsError
from agr.training import Settings
from search.task import Point

EPOCHS = (5, 10, 20)
LR = (0.1, 0.01, 0.001)
GAMMA = (0.1, 0.3, 0.7)


def grid(
    epochs: Sequence[int] = EPOCHS,
    lr: Sequence[float] = LR,
    gamma: Sequence[float] = GAMMA,
    seed: int = 0,
    model: str = "cnn",
    others: Mapping[str, Sequence[Any]] | None = None,
) -> list[Settings]:
    """Every combination once. others: axes of other settings. Raises: SettingsError for a value out of range, no value,
    or an unknown name."""
    for name, values in (("epochs", epochs), ("lr", lr), ("gamma", gamma)):
        if not values:
            raise SettingsError(f"--{name}: no values; expected one or more")
    unique = itertools.product(dict.fromkeys(epochs), dict.fromkeys(lr), dict.fromkeys(gamma))
    own = ("epochs", "lr", "gamma", "seed", "model")
    known = {item.name: item.default for item in fields(Settings) if item.name not in own}
    others = others or {}
    for name in others:
        if name not in known:
            raise SettingsError(f"--axis {name}: unknown; expected one of {', '.join(sorted(known))}")
    columns = (dict.fromkeys(_fitting(name, value, known[name]) for value in each) for name, each in others.items())
    names, rows = tuple(others), itertools.product(*columns)
    return [
        Settings(epochs=count, lr=rate, gamma=factor, seed=seed, model=model, **dict(zip(names, rest, strict=True)))
        for (count, rate, factor), rest in itertools.product(unique, rows)
    ]


def usual(given: Mapping[str, Sequence[Any] | None]) -> tuple[Sequence[int], Sequence[float], Sequence[float]]:
    """The study's values of what was not given."""
    return given["epochs"] or EPOCHS, given["lr"] or LR, given["gamma"] or GAMMA


def axes(given: Sequence[Sequence[str]]) -> dict[str, list[Any]]:
    """`--axis NAME VALUE ...` as lists by name: whole numbers, numbers, else text. Raises: SettingsError."""
    found: dict[str, list[Any]] = {}
    for name, *values in given:
        if not values or name in found:
            raise SettingsError(f"--axis {name}: {'no values' if not values else 'given twice'}; expected values once")
        found[name] = [_value(text) for text in values]
    return found


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _fitting(name: str, value: Any, default: Any) -> Any:
    """A value of the type of its setting, 1 and 1.0 being the same. Raises: SettingsError."""
    if isinstance(default, float) and isinstance(value, int):
        return float(value)
    if type(value) is not type(default):
        wanted = "numbers" if isinstance(default, float) else "whole numbers"
        raise SettingsError(f"--axis {name}: found {value}; expected {wanted}")
    return value


def distinct_epochs(points: Iterable[Point]) -> int:
    """How many epochs are left when those that points share are counted once."""
    prefixes: set[tuple[Any, ...]] = set()
    for point in points:
        prefix = point.prefix()
        prefixes.update(prefix[: count + 1] for count in range(len(prefix)))
    return len(prefixes)

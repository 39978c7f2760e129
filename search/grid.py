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
    known = {item.name for item in fields(Settings)} - {"epochs", "lr", "gamma", "seed", "model"}
    for name in others or {}:
        if name not in known:
            raise SettingsError(f"--axis {name}: unknown; expected one of {', '.join(sorted(known))}")
    names, rows = tuple(others or {}), itertools.product(*(dict.fromkeys(each) for each in (others or {}).values()))
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


def distinct_epochs(points: Iterable[Point]) -> int:
    """How many epochs are left when those that points share are counted once."""
    prefixes: set[tuple[Any, ...]] = set()
    for point in points:
        prefix = point.prefix()
        prefixes.update(prefix[: count + 1] for count in range(len(prefix)))
    return len(prefixes)

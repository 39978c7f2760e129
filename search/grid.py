"""The points of an exhaustive search, and how many of their epochs differ.

points = grid((5, 10, 20), (0.1, 0.01, 0.001), (0.1, 0.3, 0.7))
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from agr.errors import SettingsError
from agr.training import Settings

EPOCHS = (5, 10, 20)
LR = (0.1, 0.01, 0.001)
GAMMA = (0.1, 0.3, 0.7)


def grid(
    epochs: Sequence[int] = EPOCHS,
    lr: Sequence[float] = LR,
    gamma: Sequence[float] = GAMMA,
    seed: int = 0,
    model: str = "cnn",
) -> list[Settings]:
    """Every combination once. Raises: SettingsError for a value out of range or an empty list."""
    for name, values in (("epochs", epochs), ("lr", lr), ("gamma", gamma)):
        if not values:
            raise SettingsError(f"--{name}: no values; expected one or more")
    unique = itertools.product(dict.fromkeys(epochs), dict.fromkeys(lr), dict.fromkeys(gamma))
    return [Settings(epochs=count, lr=rate, gamma=factor, seed=seed, model=model) for count, rate, factor in unique]


def distinct_epochs(points: Iterable[Settings]) -> int:
    """How many epochs are left when those with the same learning rates so far are counted once."""
    prefixes: set[tuple[float, ...]] = set()
    for point in points:
        rates = point.rates()
        prefixes.update(rates[: count + 1] for count in range(len(rates)))
    return len(prefixes)

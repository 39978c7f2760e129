"""The scheduling side of AGR: Ray Tune trials, the stage store, the champion. It imports `agr`, never the reverse.

import search

result = search.grid("voices.csv", epochs=[5, 10], lr=[0.001])
result = search.optuna("voices.csv", budget=150)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from search.api import grid, optuna

__all__ = ["grid", "optuna"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("search.api"), name)

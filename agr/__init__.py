"""AGR: tell a woman's voice from a man's, and measure it on speakers the model never heard.

    import agr

    model = agr.load("models:/agr/best")
    answer = model.predict("memo.wav")

What stands in `__all__` is imported when it is first used. `agr.evaluate` and `agr.prepare` are the modules of the
commands of these names; they are called like the functions of `agr.api`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agr.api import Answer, Explanation, Model, evaluate, load, prepare

__version__ = "0.1.0"
__all__ = ["Answer", "Explanation", "Model", "evaluate", "load", "prepare"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in ("evaluate", "prepare"):
        return import_module(f"agr.{name}")
    return getattr(import_module("agr.api"), name)

"""Modules that can be called, as `agr.evaluate`: the command `python -m agr.evaluate`, and a function of Python."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


class CallableModule(ModuleType):
    """A module whose call is that of one function, whose signature `inspect` and `help` of an editor show."""

    __wrapped__: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self.__wrapped__(*args, **kwargs)


def make_callable(name: str, function: Callable[..., Any]) -> None:
    """Let an imported module be called as `function`."""
    module = sys.modules[name]
    module.__class__ = CallableModule
    vars(module)["__wrapped__"] = function

"""`import agr` is quick, and `agr.evaluate` and `agr.prepare` can be called in whatever order things are imported."""

from __future__ import annotations

import inspect
import subprocess
import sys
from itertools import permutations

import pytest

import agr
from agr import api

STATEMENTS = (
    "import agr.evaluate",
    "from agr.evaluate import main",
    "from agr import evaluate",
    "import agr.api",
    "agr.evaluate",
)


def ran(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_nothing_is_imported_before_it_is_used() -> None:
    heavy = "[name for name in ('torch', 'numpy', 'mlflow', 'soundfile', 'agr.api') if name in sys.modules]"
    assert ran(f"import sys, agr; print({heavy}, agr.__version__)") == f"[] {agr.__version__}"


def test_the_functions_are_callable_and_the_commands_there_in_every_order() -> None:
    check = "assert agr.evaluate.main and agr.evaluate.__wrapped__ is agr.api.evaluate and callable(agr.evaluate)"
    forget = "[sys.modules.pop(n) for n in list(sys.modules) if n == 'agr' or n.startswith('agr.')]"
    orders = ["; ".join(["import agr", *order, "import agr.api", check]) for order in permutations(STATEMENTS, 3)]
    # torch is imported once; AGR's own modules are imported anew for every order
    assert ran("\n".join(["import sys, torch", *(f"{order}; {forget}" for order in orders), "print('ok')"])) == "ok"


@pytest.mark.parametrize("name", ["evaluate", "prepare"])
def test_a_module_is_called_like_its_function(name: str) -> None:
    assert inspect.signature(getattr(agr, name)) == inspect.signature(getattr(api, name))
    with pytest.raises(TypeError, match="missing"):
        getattr(agr, name)()


def test_every_name_of_the_face_is_there_and_no_other() -> None:
    assert [name for name in agr.__all__ if not hasattr(agr, name)] == []
    assert not hasattr(agr, "nothing")

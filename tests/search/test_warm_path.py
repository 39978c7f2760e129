"""What a search imports: Ray, Optuna and MLflow take longer to import than all the rest of a search that only reads."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "search" / "run_grid.py"


def test_what_run_grid_imports_brings_neither_ray_nor_optuna() -> None:
    (main,) = [node for node in ast.parse(SCRIPT.read_text()).body if getattr(node, "name", "") == "main"]
    wanted = [ast.unparse(node) for node in ast.walk(main) if isinstance(node, ast.Import | ast.ImportFrom)]
    if not wanted:
        pytest.fail(f"{SCRIPT.name}: main imports nothing any longer; see what takes its place")
    lines = ["import sys", *wanted, "print(sorted({'ray', 'optuna'} & sys.modules.keys()))"]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_ray_tune_does_not_import_mlflow_into_the_driver() -> None:
    lines = (
        "import sys, search.runtime.tuning",
        "from ray.tune import Callback, tune",
        "tune.air_usage.tag_callbacks([Callback()])",
        "print('mlflow' in sys.modules)",
    )
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"

"""MLflow is quiet and impatient whichever module imports it first."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.test_architecture import MLFLOW_MODULES

FIRST_IMPORT = """
import importlib, os, sys
from importlib.abc import MetaPathFinder

class Watch(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "mlflow":  # stop before it is imported, which takes seconds
            print(os.environ.get("MLFLOW_DISABLE_TELEMETRY"), os.environ.get("MLFLOW_HTTP_REQUEST_TIMEOUT"))
            os._exit(sys.stdout.flush() or 0)

sys.meta_path.insert(0, Watch())
importlib.import_module(sys.argv[1])
"""


@pytest.mark.parametrize("module", sorted(MLFLOW_MODULES))
def test_mlflows_variables_are_set_before_it_is_imported(module: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    command = [sys.executable, "-c", FIRST_IMPORT, module]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["true", "30"]

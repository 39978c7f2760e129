"""Bundles as MLflow models, with requirements for MLflow's virtual environments and for conda."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

from agr.registry import mlflow_env  # noqa: F401 - sets variables that MLflow reads when it is imported

# isort: split
import mlflow.pyfunc
from mlflow.models import Model
from mlflow.models.signature import ModelSignature
from mlflow.types import ColSpec, Schema

from agr import __version__
from agr.labels import CLASSES
from agr.registry.uri import BUNDLE, COLUMN

CONDA, VIRTUALENV, REQUIREMENTS = "conda.yaml", "python_env.yaml", "requirements.txt"
_FILES = {
    REQUIREMENTS: "mlflow=={mlflow}\nagr=={agr}\n",
    VIRTUALENV: "python: {python}\nbuild_dependencies:\n- pip\n- setuptools\n- wheel\n"
    "dependencies:\n- -r requirements.txt\n",
    CONDA: """\
name: mlflow-env
channels:
- conda-forge
dependencies:
- python={python}
- pip
- pip:
  - mlflow=={mlflow}
  - agr=={agr}
""",
}


def save_model(folder: Path, path: Path) -> None:
    """Write a bundle as an MLflow model, which MLflow loads with `agr.serving`.

    The files are those of `mlflow.pyfunc.save_model`, which spends 0.3 s on looking through all installed packages.
    """
    outputs = [ColSpec("string", "label"), *(ColSpec("double", name) for name in CLASSES), ColSpec("string", "error")]
    model = Model(signature=ModelSignature(Schema([ColSpec("binary", COLUMN)]), Schema(outputs)))
    environments = {"conda_env": CONDA, "python_env": VIRTUALENV}
    mlflow.pyfunc.add_to_model(model, "agr.serving", BUNDLE.as_posix(), streamable=False, **environments)
    shutil.copytree(folder, path / BUNDLE)
    model.model_size_bytes = sum(file.stat().st_size for file in (path / BUNDLE).iterdir())
    versions = {"python": platform.python_version(), "mlflow": mlflow.__version__, "agr": __version__}
    for name, text in _FILES.items():
        (path / name).write_text(text.format(**versions), encoding="utf-8")
    model.save(str(path / "MLmodel"))

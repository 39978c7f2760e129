"""The files of a registered model that list its requirements, for MLflow's virtual environments and conda."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

# isort: split
import mlflow.pyfunc
from mlflow.models import Model
from mlflow.models.signature import ModelSignature
from mlflow.types import ColSpec, Schema

from agr import __version__
from agr.labels import CLASSES
from agr.registry import mlflow_model
from agr.registry.uri import BUNDLE, COLUMN

CONDA, VIRTUALENV, REQUIREMENTS = "conda.yaml", "python_env.yaml", "requirements.txt"
_FILES = {
    REQUIREMENTS: """\
mlflow=={mlflow}
agr=={agr}
""",
    VIRTUALENV: """\
python: {python}
build_dependencies:
- pip
- setuptools
- wheel
dependencies:
- -r requirements.txt
""",
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


def files(mlflow: str) -> dict[str, str]:
    """The text of each file, by name, for this Python, this AGR and MLflow of version `mlflow`."""
    versions = {"python": platform.python_version(), "mlflow": mlflow, "agr": __version__}
    return {name: text.format(**versions) for name, text in _FILES.items()}


def save_model(folder: Path, path: Path) -> None:
    """An MLflow model of a bundle: MLflow loads it with agr.serving, which reads safetensors and JSON only.

    The files are those of `mlflow.pyfunc.save_model`, which takes 0.3 s to look through all installed packages.
    """
    outputs = [ColSpec("string", "label"), *(ColSpec("double", name) for name in CLASSES), ColSpec("string", "error")]
    model = Model(signature=ModelSignature(Schema([ColSpec("binary", COLUMN)]), Schema(outputs)))
    places = {"conda_env": mlflow_model.CONDA, "python_env": mlflow_model.VIRTUALENV}
    mlflow.pyfunc.add_to_model(model, "agr.serving", BUNDLE.as_posix(), streamable=False, **places)
    shutil.copytree(folder, path / BUNDLE)
    model.model_size_bytes = sum(file.stat().st_size for file in (path / BUNDLE).iterdir())
    for name, text in mlflow_model.files(mlflow.__version__).items():
        (path / name).write_text(text, encoding="utf-8")
    model.save(str(path / "MLmodel"))

"""The files of a registered model that list its requirements, for MLflow's virtual environments and conda."""

from __future__ import annotations

import platform

from agr import __version__

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

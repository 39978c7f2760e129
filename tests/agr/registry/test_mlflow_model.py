"""The files of a registered model, against those that MLflow's own save_model writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from agr import __version__
from agr.inference import bundle
from agr.registry import mlflow_model, resolve
from agr.registry.uri import BUNDLE
from tests.stores import new_store

pytestmark = [
    pytest.mark.usefixtures("elsewhere"),
]

ITS_OWN = ("model_uuid", "utc_time_created")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, bundle_folder: Path) -> tuple[Path, Path]:
    """The model as AGR registers it, and as MLflow saves the same bundle."""
    import mlflow.pyfunc
    from mlflow.models import Model

    from agr.registry.tracker import Tracker

    scratch = tmp_path_factory.mktemp("environment")
    tracker = Tracker(new_store(scratch))
    tracker.register(tracker.start_run("champion", {}, {}), bundle_folder, {})
    ours = resolve.resolve("models:/agr/1", tracker.uri.whole).folder
    named = scratch / "bundle"
    named.symlink_to(bundle_folder, target_is_directory=True)
    theirs = scratch / "theirs"
    mlflow.pyfunc.save_model(
        path=str(theirs),
        loader_module="agr.serving",
        data_path=str(named),
        signature=Model.load(str(ours)).signature,
        pip_requirements=[f"agr=={__version__}"],
    )
    return ours, theirs


def read(folder: Path, name: str) -> Any:
    return yaml.safe_load((folder / name).read_text(encoding="utf-8"))


def test_mlflow_finds_what_its_own_save_model_would_have_written(both: tuple[Path, Path]) -> None:
    ours, theirs = (read(folder, "MLmodel") for folder in both)
    assert theirs["flavors"]["python_function"].pop("code") is None
    for key in ITS_OWN:
        assert ours.pop(key) != theirs.pop(key)
    assert ours == theirs


def test_the_files_are_the_same_ones(both: tuple[Path, Path]) -> None:
    ours, theirs = ({path.relative_to(folder) for path in folder.rglob("*") if path.is_file()} for folder in both)
    assert ours == theirs
    assert (both[0] / BUNDLE / bundle.INFO).is_file()


def test_requirements_and_python_are_those_of_this_process(both: tuple[Path, Path]) -> None:
    ours, theirs = ((folder / mlflow_model.REQUIREMENTS).read_text().split() for folder in both)
    assert ours == theirs
    for name, key in ((mlflow_model.VIRTUALENV, "python"), (mlflow_model.VIRTUALENV, "dependencies")):
        assert read(both[0], name)[key] == read(both[1], name)[key]
    ours_conda, theirs_conda = (read(folder, mlflow_model.CONDA) for folder in both)
    assert ours_conda["dependencies"][0] == theirs_conda["dependencies"][0]
    assert ours_conda["dependencies"][-1] == theirs_conda["dependencies"][-1]
    assert ours_conda["channels"] == theirs_conda["channels"]

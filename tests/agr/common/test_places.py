"""Where the store and the workspace lie, seen from any folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from agr.common.places import store_folder, workspace


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a store and folders below it; the current folder is one of those."""
    for name in ("AGR_STORE", "AGR_DATA"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "project" / "mlflow_store").mkdir(parents=True)
    (tmp_path / "project" / "notes" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project" / "notes" / "deep")
    return tmp_path / "project"


def test_the_nearest_store_upwards_is_found(project: Path) -> None:
    assert store_folder() == project / "mlflow_store"
    assert workspace() == project / "data"
    (project / "notes" / "mlflow_store").mkdir()
    assert store_folder() == project / "notes" / "mlflow_store"
    assert workspace() == project / "notes" / "data"


def test_beside_the_store_paths_stay_as_short_as_they_were(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    assert (store_folder(), workspace()) == (Path("mlflow_store"), Path("data"))


def test_without_a_store_anywhere_both_are_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (store_folder(), workspace()) == (Path("mlflow_store"), Path("data"))


def test_a_file_of_that_name_is_no_store(project: Path) -> None:
    Path("mlflow_store").touch()
    assert store_folder() == project / "mlflow_store"


def test_variables_come_first(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGR_STORE", "/srv/agr")
    assert (store_folder(), workspace()) == (Path("/srv/agr"), project / "data")
    monkeypatch.setenv("AGR_STORE", "https://mlflow.example.org")  # runs go there; stages stay on this disk
    assert store_folder() == project / "mlflow_store"
    monkeypatch.setenv("AGR_DATA", "/srv/voices")
    assert workspace() == Path("/srv/voices")

"""A store that was moved or copied with its files has them where it is; any other is left alone."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from agr.registry import sqlite_store
from agr.registry.resolve import resolve
from agr.registry.uri import StoreUri

BEST = "models:/agr/best"


def folder_of(store: str) -> Path:
    return Path(store.removeprefix("sqlite:///")).parent


def places(database: Path) -> set[str]:
    """Every place of files that MLflow has noted."""
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT artifact_uri FROM runs UNION ALL SELECT artifact_location FROM experiments")
        found = {row[0] for row in rows}
    connection.close()
    return found


def change(database: Path, statement: str, value: str) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute(statement, (value,))
    connection.close()


def left_alone(database: Path) -> bool:
    """Whether every place is after it what it was before."""
    before = places(database)
    sqlite_store.relocate_artifacts(StoreUri(f"sqlite:///{database}"), "agr")
    return places(database) == before


@pytest.fixture
def copy(store: str, tmp_path: Path) -> Path:
    """The folder of a store, copied whole; the place where it was is still there."""
    return Path(shutil.copytree(folder_of(store), tmp_path / "another #1" / "store"))


def test_a_model_of_a_copied_store_is_its_own(store: str, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from agr.registry import pull

    monkeypatch.setattr(pull, "download", None)
    found = resolve(BEST, f"sqlite:///{copy / 'mlflow.db'}")
    assert copy in found.folder.parents
    assert found.version == resolve(BEST, store).version
    assert folder_of(store) in resolve(BEST, store).folder.parents


def test_what_a_copied_store_logs_and_serves_lies_beside_it(
    store: str, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    from agr.registry.tracker import Tracker

    uri = f"sqlite:///{copy / 'mlflow.db'}"
    before = sorted(folder_of(store).rglob("*"))
    tracker = Tracker(uri)
    says = f"agr: {copy}: moved or copied from {folder_of(store)}; its runs have their files here from now on\n"
    assert capsys.readouterr().err == says
    run = tracker.start_run("next", {}, {})
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "grid.png").write_bytes(b"png")
    tracker.log_folder(run, tmp_path / "pictures")
    assert (copy / "artifacts" / run / "artifacts" / "grid.png").is_file()
    assert sorted(folder_of(store).rglob("*")) == before
    client = MlflowClient(uri, uri)
    served = client.get_run(client.get_model_version("agr", "1").run_id)
    assert served.info.artifact_uri == f"{sqlite_store.artifact_location(StoreUri(uri))}/{served.info.run_id}/artifacts"
    Tracker(uri)
    assert capsys.readouterr().err == ""


def test_a_store_where_it_was_made_is_left_alone(store: str) -> None:
    database = folder_of(store) / "mlflow.db"
    before = database.read_bytes()
    for experiment in ("agr", "nobody"):
        sqlite_store.relocate_artifacts(StoreUri(store), experiment)
    assert database.read_bytes() == before


def test_a_database_without_its_files_is_left_alone(copy: Path) -> None:
    shutil.rmtree(copy / "artifacts")
    assert left_alone(copy / "mlflow.db")


def test_one_folder_under_two_names_is_left_alone(store: str, copy: Path) -> None:
    shutil.rmtree(copy / "artifacts")
    (copy / "artifacts").symlink_to(folder_of(store) / "artifacts")
    assert left_alone(copy / "mlflow.db")


@pytest.mark.parametrize("place", ["s3://bucket/artifacts", "file:///srv/elsewhere", "/srv/artifacts"])
def test_a_place_that_somebody_chose_is_left_alone(copy: Path, place: str) -> None:
    change(copy / "mlflow.db", "UPDATE experiments SET artifact_location = ? WHERE name = 'agr'", place)
    assert left_alone(copy / "mlflow.db")


@pytest.mark.parametrize("uri", ["http://127.0.0.1:1", "postgresql://nowhere/agr", "sqlite:///{here}/none.db"])
def test_what_is_no_store_in_a_file_is_left_alone(uri: str, tmp_path: Path) -> None:
    sqlite_store.relocate_artifacts(StoreUri(uri.format(here=tmp_path)), "agr")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_database_of_mlflow_is_left_for_mlflow_to_refuse(tmp_path: Path) -> None:
    for number, content in enumerate((b"", b"no database at all", b"SQLite format 3\0" + bytes(5_000))):
        database = tmp_path / f"{number}.db"
        database.write_bytes(content)
        sqlite_store.relocate_artifacts(StoreUri(f"sqlite:///{database}"), "agr")
        assert database.read_bytes() == content


def test_only_places_below_the_old_one_are_moved(store: str, copy: Path) -> None:
    database, odd = copy / "mlflow.db", f"{sqlite_store.artifact_location(StoreUri(store))}-2/x/artifacts"
    change(database, "UPDATE runs SET artifact_uri = ? WHERE rowid = 1", odd)
    sqlite_store.relocate_artifacts(StoreUri(f"sqlite:///{database}"), "agr")
    new = sqlite_store.artifact_location(StoreUri(f"sqlite:///{database}"))
    others = {place for place in places(database) if "mlruns" not in place and place != new}
    assert odd in others
    assert len(others) == 3
    assert all(place.startswith(f"{new}/") for place in others - {odd})

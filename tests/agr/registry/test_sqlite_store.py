"""A SQLite store is there whole or not there: however many make it at once, whenever one is killed."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from agr.registry.uri import StoreUri

pytestmark = [
    pytest.mark.usefixtures("elsewhere"),
]

REST = {"mlflow.db", ".mlflow.db.lock"}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_of_three_that_make_a_store_at_once_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    from agr.registry import sqlite_store

    barrier, made = Barrier(3), []

    def make(uri: str) -> MlflowClient:
        made.append(uri)
        return MlflowClient(uri)

    def create(number: int) -> None:
        barrier.wait()
        sqlite_store.create(StoreUri(uri))

    monkeypatch.setattr(sqlite_store, "MlflowClient", make)
    uri = f"sqlite:///{tmp_path}/a b/mlflow.db"
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(create, range(3)))
    assert len(made) == 1
    assert names(tmp_path / "a b") == REST
    assert [each.name for each in MlflowClient(uri).search_experiments()] == ["Default"]


def test_what_a_killed_one_left_is_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    from agr.registry import sqlite_store

    folder = tmp_path / "store"
    uri = f"sqlite:///{folder}/mlflow.db"

    def killed(uri: str) -> None:
        with sqlite3.connect(uri.removeprefix("sqlite:///")) as connection:
            connection.execute("CREATE TABLE metrics (key TEXT)")
        connection.close()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sqlite_store, "MlflowClient", killed)
        with pytest.raises(KeyboardInterrupt):
            sqlite_store.create(StoreUri(uri))
    assert "mlflow.db" not in names(folder)
    sqlite_store.create(StoreUri(uri))
    assert names(folder) == REST
    assert len(MlflowClient(uri).search_experiments()) == 1


def test_a_store_that_is_there_is_left_alone(tmp_path: Path) -> None:
    from agr.registry import sqlite_store

    (tmp_path / "mlflow.db").write_bytes(b"whatever it is")
    sqlite_store.create(StoreUri(f"sqlite:///{tmp_path}/mlflow.db"))
    assert (tmp_path / "mlflow.db").read_bytes() == b"whatever it is"


@pytest.mark.parametrize(
    "uri", ["http://h:5000", "postgresql://h/d", "sqlite://", "sqlite:///:memory:", "sqlite:///file:x?uri=true"]
)
def test_other_stores_are_made_by_their_own_servers(uri: str) -> None:
    from agr.registry import sqlite_store

    sqlite_store.create(StoreUri(uri))

"""Corrects the paths in a SQLite store that was moved or copied with its files: MLflow keeps absolute paths.

follow(StoreUri("sqlite:///mlflow_store/mlflow.db"), "agr")     # before anything is logged there
"""

from __future__ import annotations

import sqlite3
import urllib.parse
import urllib.request
from contextlib import closing, suppress
from pathlib import Path

from agr.registry import ARTIFACTS, StoreUri
from agr.terminal import complain

FILE = "file://"


def beside(store: StoreUri) -> str | None:
    """The URI of the folder for the files of runs: beside a SQLite file; None for a server, which chooses its own."""
    return (store.database.resolve().parent / ARTIFACTS).as_uri() if store.database is not None else None


def follow(store: StoreUri, experiment: str) -> None:
    """Point an experiment and its runs at the files beside the store, if that is where they are now, and say so.

    What is no such store is left for MLflow to refuse.
    """
    database, new = store.database, beside(store)
    if database is None or new is None or not database.is_file():
        return
    before = None
    with suppress(sqlite3.Error), closing(sqlite3.connect(database, timeout=20)) as connection, connection:
        before = _set_right(connection, experiment, new)
    if before is not None:
        complain(f"{database.parent}: moved or copied from {before.parent}; its runs have their files here from now on")


def _set_right(connection: sqlite3.Connection, experiment: str, new: str) -> Path | None:
    """Replace the old folder by the new one; returns the old one, None if there was nothing to do."""
    query = "SELECT experiment_id, artifact_location FROM experiments WHERE name = ?"
    number, old = connection.execute(query, (experiment,)).fetchone() or (None, "")
    if not old.startswith(FILE) or not old.endswith(f"/{ARTIFACTS}") or old == new:
        return None
    before, here = _path(old), _path(new)
    if before.is_dir() and here.is_dir() and before.samefile(here):  # one folder under two names
        return None
    runs = connection.execute("SELECT run_uuid FROM runs WHERE experiment_id = ?", (number,))
    if not any((here / run).is_dir() for (run,) in runs):
        return None
    connection.execute("UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (new, number))
    moved = "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) WHERE experiment_id = ?"
    inside = " AND substr(artifact_uri, 1, ?) = ?"
    connection.execute(moved + inside, (new, len(old) + 1, number, len(old) + 1, f"{old}/"))
    return before


def _path(uri: str) -> Path:
    return Path(urllib.request.url2pathname(urllib.parse.urlsplit(uri).path))

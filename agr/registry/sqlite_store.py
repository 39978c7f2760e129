"""MLflow stores in a SQLite file: created completely or not at all, and usable after the folder was moved.

MLflow creates the tables of a new file in some forty steps. Two processes that do so at once, or one that is killed
halfway, leave a file that MLflow cannot open again. So one process creates them, under a temporary name.
"""

from __future__ import annotations

import os
import re
import sqlite3
import urllib.parse
import urllib.request
from contextlib import closing, suppress
from pathlib import Path

from agr.registry import mlflow_env  # noqa: F401 - sets variables that MLflow reads when it is imported

# isort: split
import psutil
from mlflow import MlflowClient

from agr.common.cli import complain
from agr.common.places import STORE
from agr.common.waiting import locked
from agr.errors import ModelError
from agr.registry.uri import ARTIFACTS, DATABASE, SQLITE, StoreUri

NETWORK = re.compile(  # types of file systems that reach their files over a network
    r"afs|beegfs|ceph|cifs|glusterfs|gpfs|lustre|ncpfs|nfs4?|orangefs|pvfs2|smb[23]|smbfs|"
    r"fuse\.(ceph|gcsfuse|glusterfs|rclone|s3fs|sshfs)"
)


def create(uri: StoreUri) -> None:
    """Create the store if the URI names a SQLite file that does not exist.

    Raises: OSError, MlflowException; ModelError for a file on a network file system.
    """
    database = uri.database
    if database is None:
        return
    if kind := network_file_system(database.resolve()):
        why = f"it lies on a network file system ({kind}), whose locks do not keep SQLite's writers apart"
        raise ModelError(f"{database}: {why}; expected a folder of a local disk (AGR_STORE) or an MLflow server")
    database.parent.mkdir(parents=True, exist_ok=True)
    with locked(database.with_name(f".{database.name}.lock"), "create the store"):
        if database.exists() and database.stat().st_size:
            return
        new = database.with_name(f".{database.name}.new")
        for stale in (new, new.with_name(f"{new.name}-journal")):  # left by a process that was killed
            stale.unlink(missing_ok=True)
        MlflowClient(f"{SQLITE}{new}")
        os.replace(new, database)


def network_file_system(path: Path) -> str:
    """The type of the network file system that a path without links lies on; "" for a disk, or if it is not known."""
    with suppress(OSError, RuntimeError, psutil.Error):
        mounts = [mount for mount in psutil.disk_partitions(all=True) if path.is_relative_to(mount.mountpoint)]
        if mounts:
            nearest = max(reversed(mounts), key=lambda mount: len(mount.mountpoint))  # the last one hides the others
            return nearest.fstype if NETWORK.fullmatch(nearest.fstype.lower()) else ""
    return ""


def link(uri: StoreUri) -> None:
    """Let `mlflow ui`, which opens `mlflow.db` of the current folder, show the store in `mlflow_store/` there.

    A file or link of that name which is there already is left alone.
    """
    if uri.database is not None and uri.database.resolve() == Path.cwd() / STORE / DATABASE:
        with suppress(OSError):
            os.symlink(STORE / DATABASE, DATABASE)  # relative: the folder may be moved


def artifact_location(store: StoreUri) -> str | None:
    """The URI of the folder for artifacts: beside a SQLite file; None for a server, which has its own."""
    return (store.database.resolve().parent / ARTIFACTS).as_uri() if store.database else None


def relocate_artifacts(store: StoreUri, experiment: str) -> None:
    """Correct the artifact paths of an experiment whose store was moved or copied, and say so.

    MLflow stores absolute paths. A file that is no MLflow store is left alone: MLflow refuses it itself.
    """
    database, new = store.database, artifact_location(store)
    if database is None or new is None or not database.is_file():
        return
    before = None
    with suppress(sqlite3.Error), closing(sqlite3.connect(database, timeout=20)) as connection, connection:
        before = _replace_locations(connection, experiment, new)
    if before is not None:
        complain(f"{database.parent}: moved or copied from {before.parent}; its runs have their files here from now on")


def _replace_locations(connection: sqlite3.Connection, experiment: str, new: str) -> Path | None:
    """Replace the old artifact folder by the new one; returns the old one, None if there is nothing to do."""
    query = "SELECT experiment_id, artifact_location FROM experiments WHERE name = ?"
    number, old = connection.execute(query, (experiment,)).fetchone() or (None, "")
    if not old.startswith("file://") or not old.endswith(f"/{ARTIFACTS}") or old == new:
        return None
    before, here = (Path(urllib.request.url2pathname(urllib.parse.urlsplit(uri).path)) for uri in (old, new))
    if before.is_dir() and here.is_dir() and before.samefile(here):  # one folder under two names
        return None
    runs = connection.execute("SELECT run_uuid FROM runs WHERE experiment_id = ?", (number,))
    if not any((here / run).is_dir() for (run,) in runs):
        return None
    connection.execute("UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (new, number))
    update = "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) WHERE experiment_id = ?"
    inside = " AND substr(artifact_uri, 1, ?) = ?"
    connection.execute(update + inside, (new, len(old) + 1, number, len(old) + 1, f"{old}/"))
    return before

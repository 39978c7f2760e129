"""A new MLflow store in a SQLite file: there with all its tables, or not there.

    create(StoreUri("sqlite:///mlflow_store/mlflow.db"))

MLflow creates the tables of a new file in some forty steps. Two processes that do so at once, or one that is killed
halfway, leave a file that MLflow cannot open again. So one process creates them, under a temporary name.
"""

from __future__ import annotations

import os

from filelock import FileLock
from mlflow import MlflowClient

from agr.registry import SQLITE, StoreUri


def create(uri: StoreUri) -> None:
    """Make the store of a URI that names a SQLite file, unless it is there. Raises: OSError, MlflowException."""
    database = uri.database
    if database is None:
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(database.with_name(f".{database.name}.lock")):
        if database.exists() and database.stat().st_size:
            return
        new = database.with_name(f".{database.name}.new")
        for stale in (new, new.with_name(f"{new.name}-journal")):  # of one that was killed
            stale.unlink(missing_ok=True)
        MlflowClient(f"{SQLITE}{new}")
        os.replace(new, database)

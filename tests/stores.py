"""Empty MLflow stores, copied from one: MLflow's migrations take two seconds for each new file."""

from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path

from agr.registry.uri import DATABASE, StoreUri


@cache
def empty_store() -> Path:
    """The one that MLflow itself made, for all tests of this process."""
    from agr.registry import sqlite_store

    path = Path(os.environ["AGR_CACHE"], f"empty-{DATABASE}")
    sqlite_store.create(StoreUri(f"sqlite:///{path}"))
    return path


def new_store(folder: Path) -> str:
    """The URI of a new store, without runs or models, in a folder that is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{shutil.copy(empty_store(), folder / DATABASE)}"

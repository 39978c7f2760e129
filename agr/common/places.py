"""Where a project's runs, models and data lie, from any folder inside the project."""

from __future__ import annotations

import os
from pathlib import Path

STORE, WORKSPACE = Path("mlflow_store"), Path("data")
STORE_VARIABLE, WORKSPACE_VARIABLE, CHAMPION_VARIABLE = "AGR_STORE", "AGR_DATA", "AGR_CHAMPION"
CACHE_VARIABLES = {"AGR_CACHE": "", "XDG_CACHE_HOME": "agr", "HOME": ".cache/agr"}  # and the folder below each
SHIPPED = Path(__file__).parents[1] / "champion"
ROOM = 2**20  # bytes; a disk with less is full


def nearest_store() -> Path | None:
    """The nearest folder `mlflow_store` upwards, relative if it is in the current folder; None if there is none."""
    here = Path.cwd()
    found = next((folder for folder in (here, *here.parents) if (folder / STORE).is_dir()), None)
    return None if found is None else STORE if found == here else found / STORE


def store_folder() -> Path:
    """The folder of runs, models, stages and the outbox.

    `AGR_STORE` if it names a folder, else the nearest `mlflow_store/` upwards, else one in the current folder.
    """
    named = os.environ.get(STORE_VARIABLE, "")
    return Path(named) if named and "://" not in named else nearest_store() or STORE


def champion_folder() -> Path | None:
    """The folder of the model that answers without a store; None if there is none.

    `AGR_CHAMPION` if it names a folder, none if it is `none`, else the one that comes with AGR.
    """
    named = os.environ.get(CHAMPION_VARIABLE, "")
    folder = Path(named) if named else SHIPPED
    return folder if named != "none" and (folder / "agr.json").is_file() else None


def cache_folder() -> Path | None:
    """The folder of what may be lost: `AGR_CACHE`, else `agr` in the user's cache folder; None without a home."""
    named = (Path(os.environ[name], below) for name, below in CACHE_VARIABLES.items() if os.environ.get(name))
    return next(named, None)


def workspace() -> Path:
    """The folder of generated and downloaded corpora and of prepared images.

    `AGR_DATA`, else `data/` beside the nearest `mlflow_store/` upwards, else `data/` in the current folder.
    """
    named = os.environ.get(WORKSPACE_VARIABLE, "")
    return Path(named) if named else (nearest_store() or STORE).parent / WORKSPACE


def full_disk() -> str:
    """The first folder that commands write to whose disk is full; "" if there is none."""
    import shutil
    import tempfile

    folders = map(str, (os.environ.get("RAY_TMPDIR", ""), tempfile.gettempdir(), store_folder(), Path.cwd()))
    return next((each for each in folders if os.path.isdir(each) and shutil.disk_usage(each).free < ROOM), "")

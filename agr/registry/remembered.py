"""The version that a service answered with last, for a start while its store is away.

    remember("models:/agr/best", tracking_uri, found)
    found = recall("models:/agr/best", tracking_uri)      # None if nothing was kept, or its files were changed

It is kept in the user's cache folder, one version for each URI and store.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path

from agr.common.cli import complain
from agr.common.files import tree_digest, write_atomic
from agr.common.places import cache_folder
from agr.common.waiting import locked
from agr.registry.uri import BUNDLE, ModelLocation

LAST, LOCK = "last.json", ".lock"


def remember(uri: str, tracking_uri: str | None, found: ModelLocation) -> None:
    """Keep a copy of a version, in place of the one before. What cannot be written is told and costs nothing else."""
    folder = _place(uri, tracking_uri)
    if folder is None or found.sha256 is None:
        return
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(folder / LOCK, "keep a copy of the model"):  # several workers may see it at once
            _keep(folder, found, found.sha256)
    except OSError as error:
        complain(f"{folder}: {error.strerror}; a start while the store is away will find no model")


def _keep(folder: Path, found: ModelLocation, sha256: str) -> None:
    kept = folder / sha256
    if not kept.is_dir():
        scratch = Path(tempfile.mkdtemp(dir=folder))
        shutil.copytree(found.folder, scratch, dirs_exist_ok=True)
        scratch.rename(kept)
    about = {"name": found.name, "version": found.version, "sha256": sha256}
    write_atomic(folder / LAST, json.dumps(about).encode())
    for other in folder.iterdir():
        if other.is_dir() and other != kept:
            shutil.rmtree(other, ignore_errors=True)


def recall(uri: str, tracking_uri: str | None) -> ModelLocation | None:
    """The version that was remembered last; None if there is none whose files are as they were registered."""
    folder = _place(uri, tracking_uri)
    if folder is None:
        return None
    try:
        about = json.loads((folder / LAST).read_bytes())
        found = ModelLocation(folder / about["sha256"], about["name"], about["version"], about["sha256"])
        return found if tree_digest(found.folder / BUNDLE) == found.sha256 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _place(uri: str, tracking_uri: str | None) -> Path | None:
    folder = cache_folder()
    return folder and folder / "models" / hashlib.sha256(f"{uri} {tracking_uri}".encode()).hexdigest()[:16]

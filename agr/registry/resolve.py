"""Find the files of a model, without importing MLflow if the store is a local SQLite file.

    found = resolve("models:/agr/best")               # a folder, the model's name and version

A prediction needs only two rows of the registry, which are read directly from SQLite; any other store, and anything
unexpected, is left to MLflow's client, which takes longer to import than torch.
"""

from __future__ import annotations

import os
import re
import sqlite3
import urllib.parse
import urllib.request
from contextlib import closing
from pathlib import Path

from agr.common.cli import complain
from agr.common.files import tree_digest
from agr.common.places import champion_folder
from agr.errors import BrokenModel, ModelError
from agr.registry.uri import (
    ARTIFACTS,
    BEST,
    BUNDLE,
    CHAMPION,
    DIGEST_TAG,
    MODEL_URI,
    NAME_ALONE,
    REGISTERED_MODEL,
    ModelLocation,
    StoreUri,
    normalise,
)

DEFAULT_URIS = (f"models:/{REGISTERED_MODEL}/{BEST}", f"models:/{REGISTERED_MODEL}@{BEST}")


def resolve(uri: str, tracking_uri: StoreUri | str | None = None, into: Path | None = None) -> ModelLocation:
    """Find the model that a URI names: `champion`, which comes with AGR, a folder, `models:/...` or `runs:/...`.

    Where there is no store at all, `models:/agr/best` is the champion too.
    into: the folder to put files in that have to be downloaded; by default one that is left behind.

    Raises: ModelError if there is none; BrokenModel if its files are not those that were registered.
    """
    if (shipped := _shipped(uri, tracking_uri)) is not None:
        if uri != CHAMPION:
            complain("no store of models here, so the champion that comes with AGR answers")
        return ModelLocation(shipped, CHAMPION)
    if not uri.startswith(("models:/", "runs:/")):
        if not os.path.isdir(uri):
            known = "champion, models:/agr/best, models:/agr/3, runs:/... or a folder"
            raise ModelError(f"{uri}: no such folder; expected {known}")
        return ModelLocation(Path(uri))
    uri, store = _in_store(uri, tracking_uri)
    found = _from_sqlite(uri, store)
    if found is None:
        from agr.registry import pull

        found = pull.download(uri, store, into)
    if found.sha256 is not None and (now := tree_digest(found.folder / BUNDLE)) != found.sha256:
        what = f"{found.folder / BUNDLE}: sha256 {now:.12}...; expected {found.sha256:.12}..., as {uri} was registered"
        raise BrokenModel(store.hide(f"{what}; its files were changed"))
    return found


def pin(uri: str, tracking_uri: StoreUri | str | None = None) -> str:
    """The URI of the version that a URI names now, `models:/agr/3`; a folder and `runs:/...` stay what they are.

    Raises: ModelError if there is none, or if the store does not answer.
    """
    if not uri.startswith("models:/"):
        return uri
    if _shipped(uri, tracking_uri) is not None:
        return CHAMPION
    uri, store = _in_store(uri, tracking_uri)
    found = _from_sqlite(uri, store)
    if found is not None:
        return f"models:/{found.name}/{found.version}"
    from agr.registry import pull

    return pull.pin(uri, store)


def _shipped(uri: str, tracking_uri: StoreUri | str | None) -> Path | None:
    """The folder of the champion that comes with AGR, if the URI stands for it."""
    if uri == CHAMPION:
        return champion_folder()
    if tracking_uri or uri not in DEFAULT_URIS:
        return None
    database = StoreUri.default().database
    return None if database is None or database.is_file() else champion_folder()


def _in_store(uri: str, tracking_uri: StoreUri | str | None) -> tuple[str, StoreUri]:
    """A URI as MLflow reads it, and its store. Raises: ModelError if it names no version, or there is no such store."""
    if NAME_ALONE.fullmatch(uri):
        raise ModelError(f"{uri}: a name without version or alias; expected {uri}/best, {uri}/3 or {uri}/latest")
    store = StoreUri.of(tracking_uri) if tracking_uri else StoreUri.default()
    if store.database is not None and not store.database.is_file():
        looked = "" if tracking_uri else f" ({StoreUri.searched()})"
        what = f"{normalise(uri)}: no store at {store.database}; run a search first, or name one with --tracking-uri"
        raise ModelError(what + looked)
    return normalise(uri), store


def _from_sqlite(uri: str, store: StoreUri) -> ModelLocation | None:
    """The version that a registry in a SQLite file names; None if only MLflow can tell."""
    match = MODEL_URI.fullmatch(uri)
    if match is None or store.database is None:
        return None
    path = store.database.resolve()
    file = f"file:{urllib.parse.quote(str(path))}?mode=ro"
    source = "SELECT source FROM model_versions WHERE name = ? AND version = ? AND status = 'READY'"
    digest = "SELECT value FROM model_version_tags WHERE name = ? AND version = ? AND key = ?"
    try:
        with closing(sqlite3.connect(file, uri=True, timeout=20)) as database:
            version = _version(database, match)
            row = database.execute(source, (match["name"], version)).fetchone()
            folder = row and _folder(path, database, row[0])
            tag = database.execute(digest, (match["name"], version, DIGEST_TAG)).fetchone()
    except sqlite3.Error:
        return None
    return ModelLocation(folder, match["name"], version, tag[0] if tag else None) if folder and version else None


def _version(database: sqlite3.Connection, match: re.Match[str]) -> int | None:
    if match["alias"]:
        query = "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = ?"
        row = database.execute(query, (match["name"], match["alias"])).fetchone()
    elif match["version"] == "latest":
        row = database.execute("SELECT max(version) FROM model_versions WHERE name = ?", (match["name"],)).fetchone()
    else:
        row = (match["version"],)
    return int(row[0]) if row and row[0] is not None else None


def _folder(path: Path, database: sqlite3.Connection, source: str) -> Path | None:
    """The folder of a version: beside the database, right even after both were moved, or as the store has noted it."""
    if source.startswith("runs:/"):
        run, _, rest = source.removeprefix("runs:/").partition("/")
        if (beside := path.parent / ARTIFACTS / run / ARTIFACTS / rest).is_dir():
            return beside
        row = database.execute("SELECT artifact_uri FROM runs WHERE run_uuid = ?", (run,)).fetchone()
        source = f"{row[0]}/{rest}" if row else ""
    parts = urllib.parse.urlsplit(source)
    folder = Path(urllib.request.url2pathname(parts.path))
    return folder if parts.scheme in ("", "file") and folder.is_dir() else None

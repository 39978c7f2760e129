"""Folders of files, and manifests in them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from agr.data import preparation
from agr.data.corpus import open_corpus
from agr.data.preparation import Summary
from agr.recipes.base import Recipe
from agr.recipes.mfcc import MFCC
from tests.nearby import beside

Row = tuple[str | Path, str, str]  # recording, speaker, gender


def tree(folder: Path) -> dict[str, bytes]:
    """The content of every file below a folder, by its path in the folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def write_manifest(path: Path, column: str, rows: Sequence[tuple[str, str, str]]) -> Path:
    """A CSV manifest whose first column, `path` or `image`, has that name."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([(column, "speaker", "gender"), *rows])
    return path


def manifest_of(path: Path, rows: Sequence[Row]) -> Path:
    """A CSV manifest of recordings anywhere on this disk."""
    named = [(beside(path, Path(recording)), speaker, gender) for recording, speaker, gender in rows]
    return write_manifest(path, "path", named)


def prepared(source: Path, out: Path, wanted: Recipe | None = None, workers: int = 1) -> Summary:
    """By recipe mfcc, whose images are files that a test can look at, unless another one is wanted."""
    found = open_corpus(str(source), out.parent, allow_outside=True)
    usual = preparation.choose_recipe(found, None) if found.ready_images else MFCC
    return preparation.prepare(found, out, wanted or usual, workers)


def times(folder: Path) -> dict[str, int]:
    """When each shard of a prepared folder was last written, in ns."""
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("shard-*.arrow")}

"""The paper's layout: `{train,val}/{female,male}/*.jpg`, images as the paper published them, and `manifest.csv`.

Columns of the manifest: image (relative to the file), speaker, gender, and any others, which are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from agr.data.clips import Corpus, Reading, verified
from agr.data.layouts.dialect import known_columns
from agr.data.layouts.table import read_clips

MANIFEST = "manifest.csv"
NAME, TABLE = "ready images", True
EXPECTED = f"the paper's images with {MANIFEST} (columns image, speaker, gender)"
IMAGES = {"path": "image"}


def recognises(folder: Path) -> bool:
    """Whether a folder has a `manifest.csv`, be it damaged, with a column `image`."""
    return (folder / MANIFEST).is_file() and is_table(folder / MANIFEST)


def is_table(path: Path) -> bool:
    """Whether the first line of a table has a column `image`."""
    return known_columns(path, IMAGES).get("path") == "image"


def read(folder: Path, name: str, reading: Reading) -> Corpus:
    """The images of a folder. Raises: CorpusError."""
    return read_images(folder / MANIFEST, name, reading.allow_outside, reading.columns)


def read_images(table: Path, name: str, allow_outside: bool, columns: Mapping[str, str] | None = None) -> Corpus:
    """The images that a table names; `extra["folder"]` is the first part of an image's path. Raises: CorpusError."""
    found, skipped = read_clips(table, allow_outside, {**IMAGES, **(columns or {})})
    clips = tuple(replace(clip, extra={**clip.extra, "folder": clip.name.split("/")[0]}) for clip in found)
    return verified(Corpus(name, table.parent, clips, skipped, ready_images=True), table)

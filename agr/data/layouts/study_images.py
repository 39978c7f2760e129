"""The study's layout: `{train,val}/{female,male}/*.jpg`, images as the study published them, and `manifest.csv`.

Columns of the manifest: image (relative to the file), speaker, gender, and any others, which are kept.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from agr.data.clips import Corpus, verified
from agr.data.layouts.table import has_column, read_clips

MANIFEST = "manifest.csv"
EXPECTED = f"the study's images with {MANIFEST} (columns image, speaker, gender)"


def recognises(folder: Path) -> bool:
    """Whether a folder has a `manifest.csv` with a column `image`."""
    return has_column(folder / MANIFEST, "image")


def read(folder: Path, name: str, allow_outside: bool = False) -> Corpus:
    """The images of a folder; `extra["folder"]` is the first part of an image's path. Raises: CorpusError."""
    found, skipped = read_clips(folder / MANIFEST, "image", allow_outside)
    clips = tuple(replace(clip, extra={**clip.extra, "folder": clip.name.split("/")[0]}) for clip in found)
    return verified(Corpus(name, folder, clips, skipped, ready_images=True), folder / MANIFEST)

"""The paper's layout: `{train,val}/{female,male}/*.jpg`, images as the paper published them, and `manifest.csv`.

Columns of the manifest: image (relative to the file), speaker, gender, and any others, which are kept.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

from agr.data.clips import Corpus, verified
from agr.data.layouts.table import read_clips

MANIFEST = "manifest.csv"
EXPECTED = f"the paper's images with {MANIFEST} (columns image, speaker, gender)"


def recognises(folder: Path) -> bool:
    """Whether a folder has a `manifest.csv`, be it damaged, with a column `image`."""
    if not (folder / MANIFEST).is_file():
        return False
    with (folder / MANIFEST).open(encoding="utf-8-sig", errors="replace", newline="") as file:
        return "image" in next(csv.reader(file), [])


def read(folder: Path, name: str, allow_outside: bool = False) -> Corpus:
    """The images of a folder; `extra["folder"]` is the first part of an image's path. Raises: CorpusError."""
    found, skipped = read_clips(folder / MANIFEST, "image", allow_outside)
    clips = tuple(replace(clip, extra={**clip.extra, "folder": clip.name.split("/")[0]}) for clip in found)
    return verified(Corpus(name, folder, clips, skipped, ready_images=True), folder / MANIFEST)

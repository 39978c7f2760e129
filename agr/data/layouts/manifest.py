"""The manifest layout: a CSV file that names recordings and their speakers.

Columns: path (relative to the file), speaker, gender, and any others, which are kept; `synthetic` marks made-up voices.
"""

from __future__ import annotations

from pathlib import Path

from agr.data.clips import Corpus, verified
from agr.data.layouts.table import PERSON_COLUMNS, read_clips

MANIFEST = "manifest.csv"
MANIFEST_COLUMNS = ("path", *PERSON_COLUMNS)
EXPECTED = f"{MANIFEST} (columns {', '.join(MANIFEST_COLUMNS)})"
YES = ("1", "true", "yes")


def recognises(folder: Path) -> bool:
    """Whether a folder has a `manifest.csv`."""
    return (folder / MANIFEST).is_file()


def read(folder: Path, name: str, allow_outside: bool = False) -> Corpus:
    """The recordings of a folder's `manifest.csv`. Raises: CorpusError."""
    return read_manifest(folder / MANIFEST, name, allow_outside)


def read_manifest(path: Path, name: str | None = None, allow_outside: bool = False) -> Corpus:
    """The recordings of a manifest of any name, after which the corpus is called by default. Raises: CorpusError."""
    clips, skipped = read_clips(path, "path", allow_outside)
    synthetic = any(clip.extra.get("synthetic", "").lower() in YES for clip in clips)
    return verified(Corpus(name or path.stem, path.parent, clips, skipped, synthetic=synthetic), path)

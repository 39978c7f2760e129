"""The manifest layout: a table that names recordings and their speakers.

Columns: path (relative to the file), speaker, gender, by these or other usual names, and any others, which are kept;
`synthetic` marks made-up voices.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from agr.data.clips import Corpus, Reading, verified
from agr.data.layouts import paper_images
from agr.data.layouts.dialect import WANTED, known_columns
from agr.data.layouts.table import read_clips
from agr.errors import CorpusError

MANIFEST = "manifest.csv"
MANIFEST_COLUMNS = WANTED
NAME, TABLE = "manifest", True
EXPECTED = f"{MANIFEST} or one other table (columns {', '.join(MANIFEST_COLUMNS)})"
SUFFIXES = (".csv", ".tsv", ".txt")
YES = ("1", "true", "yes")


def recognises(folder: Path) -> bool:
    """Whether a folder has a `manifest.csv`, or other tables with columns for path, speaker and gender."""
    return bool(_tables(folder))


def read(folder: Path, name: str, reading: Reading) -> Corpus:
    """The recordings that a folder's manifest names. Raises: CorpusError."""
    tables = _tables(folder)
    if len(tables) > 1:
        names = ", ".join(table.name for table in tables)
        raise CorpusError(f"{folder}: tables {names}; expected one, or the path of one of them as the source")
    return read_manifest(tables[0], name, reading.allow_outside, reading.columns)


def read_manifest(
    path: Path, name: str | None = None, allow_outside: bool = False, columns: Mapping[str, str] | None = None
) -> Corpus:
    """The recordings of a manifest of any name, after which the corpus is called by default. Raises: CorpusError."""
    if (columns or {}).get("path", "image") == "image" and paper_images.is_table(path):
        return paper_images.read_images(path, name or path.stem, allow_outside, columns)
    clips, skipped = read_clips(path, allow_outside, columns)
    synthetic = any(clip.extra.get("synthetic", "").lower() in YES for clip in clips)
    return verified(Corpus(name or path.stem, path.parent, clips, skipped, synthetic=synthetic), path)


def _tables(folder: Path) -> list[Path]:
    if (folder / MANIFEST).is_file():
        return [folder / MANIFEST]
    tables = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    return [path for path in tables if known_columns(path).keys() >= set(WANTED)]

"""The layout of LibriSpeech, LibriTTS and Multilingual LibriSpeech: `SPEAKERS.TXT` or `metainfo.txt`, and
`PART/READER/CHAPTER/*.flac`. A single part is accepted too, with the table above it.
"""

from __future__ import annotations

import re
from pathlib import Path

from agr.data.clips import Clip, Corpus, Reading, verified
from agr.data.layouts.dialect import first_line, text_lines
from agr.data.layouts.people import Skipped, labelled, recordings

NAME, TABLE = "LibriSpeech", False
TABLES = ("speakers.txt", "metainfo.txt")  # in any case
EXPECTED = "SPEAKERS.TXT and PART/READER/CHAPTER/*.flac"


def recognises(folder: Path) -> bool:
    """Whether a folder has LibriSpeech's table of readers, or is a part with the table beside it."""
    return _table(folder) is not None


def read(folder: Path, name: str, reading: Reading) -> Corpus:
    """The recordings of a folder in LibriSpeech's layout. Raises: CorpusError."""
    table = _table(folder) or folder / TABLES[0]
    rows = [[cell.strip() for cell in line.split("|")] for line in text_lines(table) if not line.startswith(";")]
    readers = {row[0]: row[1] for row in rows if len(row) > 1}
    paths, closed = recordings(folder)
    clips, skipped = labelled([*closed, *(_found(folder, path, readers, table.name) for path in paths.values())])
    return verified(Corpus(name, folder, clips, skipped), table)


def _found(folder: Path, path: Path, readers: dict[str, str], table: str) -> Clip | Skipped:
    name = path.relative_to(folder).as_posix()
    reader = path.parent.parent.name
    if reader not in readers:
        return name, f"reader {reader} is not in {table}; expected READER/CHAPTER/{path.name}"
    return Clip(path, name, reader, readers[reader], {"part": path.parent.parent.parent.name})


def _table(folder: Path) -> Path | None:
    """The table of readers in the folder, or beside it where all its folders have numbers for names."""
    folders = [path.name for path in folder.iterdir() if path.is_dir()]
    places = [folder, folder.resolve().parent] if folders and all(map(str.isdecimal, folders)) else [folder]
    files = (path for place in places for path in sorted(place.iterdir()))
    tables = (path for path in files if path.name.lower() in TABLES and path.is_file())
    return next((path for path in tables if re.match(r";|SPEAKER *\|", first_line(path))), None)

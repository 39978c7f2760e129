"""Common Voice's layout: `clips/`, and tables `validated.tsv` and others with client_id, path, gender and age.

`validated.tsv` is read if it is there, else `train.tsv`, `dev.tsv` and `test.tsv`, else what other tables there are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from agr.data.clips import Clip, Corpus, Reading, verified
from agr.data.layouts.dialect import WANTED, known_columns, read_table
from agr.data.layouts.people import Skipped, labelled

NAME, TABLE = "Common Voice", False
CLIPS = "clips"
SETS = (("validated.tsv",), ("train.tsv", "dev.tsv", "test.tsv"), ("other.tsv",), ("invalidated.tsv",))
COLUMNS = {"speaker": "client_id", "path": "path", "gender": "gender"}
EXPECTED = f"{CLIPS}/ and validated.tsv (columns client_id, path, gender)"


def recognises(folder: Path) -> bool:
    """Whether a folder has `clips/` and one of Common Voice's tables."""
    return (folder / CLIPS).is_dir() and bool(_tables(folder))


def is_table(path: Path) -> bool:
    """Whether a file is one of Common Voice's tables, beside its clips."""
    return (path.parent / CLIPS).is_dir() and path.suffix == ".tsv" and known_columns(path).items() >= COLUMNS.items()


def read(folder: Path, name: str, reading: Reading) -> Corpus:
    """The clips of a folder in Common Voice's layout. Raises: CorpusError."""
    return read_tables(_tables(folder), name)


def read_tables(tables: list[Path], name: str) -> Corpus:
    """The clips that some tables of one folder list. Raises: CorpusError."""
    root = tables[0].parent
    with os.scandir(root / CLIPS) as entries:
        there = {entry.name for entry in entries if entry.is_file()}
    clips, skipped = labelled(each for table in tables for each in _found(table, there))
    notes = (f"{root}: clips of {', '.join(table.name for table in tables)}",)
    return verified(Corpus(name, root, clips, skipped, notes=notes), tables[0])


def _found(table: Path, there: set[str]) -> Iterator[Clip | Skipped]:
    found = read_table(table, COLUMNS, quotes=False, others=False)
    path, speaker, gender = (found.columns[role] for role in WANTED)
    age = found.columns.get("age", "")
    for row in found.rows:
        clip = next((name for name in (row[path], f"{row[path]}.mp3") if name in there), None)
        if clip is None:
            yield row[path], f"not in {CLIPS}/; expected a file"
        else:
            name = f"{CLIPS}/{clip}"
            yield Clip(table.parent / name, name, row[speaker], row[gender], {"age": row.get(age, "")})


def _tables(folder: Path) -> list[Path]:
    """The tables to read, of the first of SETS of which any is there."""
    sets = ([folder / name for name in names if is_table(folder / name)] for names in SETS)
    return next((tables for tables in sets if tables), [])

"""Reads tables of clips, for the layouts that list their files in one.

A table may name plain files below its own folder only: whoever wrote it need not be the person who reads it.
"""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from agr.data.clips import Clip
from agr.data.layouts.dialect import WANTED, read_table
from agr.data.layouts.people import Skipped, labelled
from agr.errors import CorpusError


def read_clips(
    table: Path, allow_outside: bool = False, columns: Mapping[str, str] | None = None
) -> tuple[tuple[Clip, ...], tuple[Skipped, ...]]:
    """The clips of a table whose paths are relative to it, and those that are skipped.

    columns: as in `Reading`. Columns other than path, speaker and gender are extra; that of the age is called `age`.
    Raises: CorpusError, as `read_table` and `check_files` do.
    """
    found = read_table(table, columns)
    path, speaker, gender = (found.columns[role] for role in WANTED)
    age = found.columns.get("age")
    rows: list[Clip | Skipped] = []
    for number, row in enumerate(found.rows, 2):  # the header is row 1
        if not row[path]:
            rows.append((f"row {number}", f"nothing in column {path}; expected a file"))
            continue
        name = posix_name(table.parent, row[path])
        extra = {key: value for key, value in row.items() if key not in (path, speaker, gender, age)}
        extra |= {"age": row[age]} if age else {}
        rows.append(Clip(table.parent / name, name, row[speaker], row[gender], extra))
    clips, skipped = labelled(rows, columns)
    check_files(table, (clip.name for clip in clips), allow_outside)
    return clips, skipped


def posix_name(folder: Path, name: str) -> str:
    """A path as Windows writes it, with `/`; others are left as they are, as is the name of a file with backslashes."""
    return name.replace("\\", "/") if "\\" in name and not os.path.lexists(folder / name) else name


def check_files(table: Path, names: Iterable[str], allow_outside: bool = False) -> None:
    """Check the files that a table names, as it names them. A file that is absent passes: its reader will say so.

    Raises: CorpusError for a pipe or a device and, unless allowed, for a file outside the table's folder, be it named
    by `..`, by its full path or through a link.
    """
    root = os.path.join(os.path.realpath(table.parent), "")
    real = functools.cache(os.path.realpath)  # of folders: there are few
    for name in names:
        folder, last = os.path.split(table.parent / name)
        path = os.path.join(real(folder), last)
        found = os.path.realpath(path) if last in ("", "..") or os.path.islink(path) else path
        if not allow_outside and not found.startswith(root):
            expected = f"expected files below {table.parent}, or agr.prepare with --allow-outside"
            raise CorpusError(f"{table}: {name!r} leads to {found!r}; {expected}")
        with suppress(OSError):
            mode = os.stat(found).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise CorpusError(f"{table}: {name!r} is a pipe or a device; expected a file")

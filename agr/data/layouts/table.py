"""Reads CSV tables of clips, for the layouts that list their files in one.

A table may name plain files below its own folder only: whoever wrote it need not be the person who reads it.
"""

from __future__ import annotations

import csv
import functools
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from agr.data.clips import Clip
from agr.errors import CorpusError
from agr.labels import normalise_gender

PERSON_COLUMNS = ("speaker", "gender")
Skipped = tuple[str, str]  # the clip's name, and why it is left out


def read_clips(table: Path, file_column: str, allow_outside: bool) -> tuple[tuple[Clip, ...], tuple[Skipped, ...]]:
    """The clips of a CSV table, and those that are skipped.

    `file_column` names each clip's file, relative to the table; columns other than that, speaker and gender are extra.
    Raises: CorpusError, as `read_rows` and `check_files` do.
    """
    columns = (file_column, *PERSON_COLUMNS)
    clips, skipped = [], []
    for row in read_rows(table, columns):
        name, speaker, gender = row[file_column], row["speaker"].strip(), normalise_gender(row["gender"])
        if gender is None:
            skipped.append((name, f"gender {row['gender']!r}; expected female or male"))
        elif not speaker:
            skipped.append((name, "no speaker; expected a name or number"))
        else:
            extra = {key: value for key, value in row.items() if key not in columns}
            clips.append(Clip(table.parent / name, name, speaker, gender, extra))
    check_files(table, (clip.name for clip in clips), allow_outside)
    return tuple(clips), tuple(skipped)


def read_rows(table: Path, columns: Iterable[str] = ()) -> list[dict[str, str]]:
    """The rows of a CSV file. Raises: CorpusError if it is empty, not UTF-8, or lacks one of the columns."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restkey="", restval="")
            header = reader.fieldnames or ()  # read while the file is open
            rows = [{key: value for key, value in row.items() if key} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{table}: {error}; expected a CSV file in UTF-8") from error
    if missing := [column for column in columns if column not in header]:
        raise CorpusError(f"{table}: columns {','.join(header) or 'nothing'}; expected also {', '.join(missing)}")
    if not rows:
        raise CorpusError(f"{table}: no rows; expected one a clip")
    if any("\0" in value for row in rows for value in row.values()):
        raise CorpusError(f"{table}: holds NUL bytes; expected a CSV file in UTF-8")
    return rows


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

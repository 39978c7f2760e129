"""Mend the journal of Optuna's studies after a power cut.

A cut tears the record that is being written. The next search writes its first record right behind the torn one, into
the same line, and from then on Optuna can read neither.
"""

from __future__ import annotations

import json
from pathlib import Path

from agr.common.cli import complain
from agr.common.files import write_atomic

RECORD = b'{"op_code"'  # how Optuna begins one
SHOWN = 60  # characters of a torn record


def mend(journal: Path) -> None:
    """Take torn records out of a journal, whose lock the caller holds, and tell what was torn on stderr.

    What is taken out is appended to a file beside it, `NAME.torn`. Raises: OSError; ValueError if the file holds no
    record at all and so is no journal.
    """
    if not journal.exists():
        return
    lines = journal.read_bytes().split(b"\n")
    whole, torn = [], []
    for number, line in enumerate(lines, start=1):
        at = _start_of_record(line)
        if line[:at]:
            torn.append((number, line[:at]))
        if line[at:]:
            whole.append(line[at:])
    if torn and not whole:
        raise ValueError("no record of a study in it")
    if not torn and not lines[-1]:
        return
    aside = journal.with_name(f"{journal.name}.torn")
    if torn:
        with aside.open("ab") as file:
            file.writelines(piece + b"\n" for _, piece in torn)
    write_atomic(journal, b"".join(line + b"\n" for line in whole))
    for number, piece in torn:
        shown = piece[:SHOWN].decode("utf-8", "backslashreplace").replace("\0", "\\0")
        kept = f"it is left out and kept in {aside}; the {len(whole)} whole records are used"
        complain(f"{journal}: line {number} holds a torn record, {shown!r}, as after a power cut; {kept}")


def _start_of_record(line: bytes) -> int:
    """Where the whole record begins that ends a line; the length of the line if it ends with none."""
    at = 0
    while at < len(line):
        if _is_record(line[at:]):
            return at
        following = line.find(RECORD, at + 1)
        at = len(line) if following < 0 else following
    return at


def _is_record(text: bytes) -> bool:
    try:
        found = json.loads(text)
    except ValueError:
        return False
    return isinstance(found, dict) and "op_code" in found

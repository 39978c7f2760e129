"""How somebody wrote a table: its encoding, what divides its columns, and which column is what.

table = read_table(Path("voices.csv"), {"speaker": "who"})
table.rows[0]["who"], table.columns["speaker"]     # 'ann', 'who'
"""

from __future__ import annotations

import argparse
import csv
import io
import re
import textwrap
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agr.errors import CorpusError
from agr.labels import CLASSES, plain

DIVIDERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
ROLES = {  # what a column may be called, the likeliest first; case, accents, blanks and punctuation aside
    "path": """
        path file filename filepath audiopath audiofile audiofilename audiofilepath wav wavpath wavfile wavname audio
        clip clippath recording sound soundfile fname image datei dateiname fichier archivo dosya
    """,
    "speaker": """
        speaker speakerid clientid spk spkid speakername subject subjectid participant participantid person personid
        talker talkerid reader readerid actor actorid user userid sprecher locuteur hablante konusmaci
    """,
    "gender": "gender sex speakergender speakersex genderlabel geschlecht sexe sexo genero sesso cinsiyet genre",
    "age": "age agegroup agerange ages speakerage ageyears alter edad idade eta yas",
}
EXPECTED = "a text in UTF-8 or UTF-16"
WANTED = ("path", "speaker", "gender")
HEAD = 2**16  # bytes that hold the first line
SHOWN = 200  # letters of a header in a message


@dataclass(frozen=True)
class Table:
    """`rows` by column; `columns`: which of these is the path, the speaker, the gender and the age, as far as known."""

    rows: Sequence[Mapping[str, str]]
    columns: Mapping[str, str]


def parse_columns(texts: Sequence[str]) -> dict[str, str]:
    """What `--columns` says: ROLE=COLUMN, and female=LABEL, male=LABEL. Raises: CorpusError."""
    found: dict[str, str] = {}
    for text in texts:
        role, _, column = text.partition("=")
        if role not in (*ROLES, *CLASSES) or not column or role in found:
            known = ", ".join(f"{each}=NAME" for each in (*ROLES, *CLASSES))
            raise CorpusError(f"--columns {text}: expected {known}, each at most once")
        found[role] = column
    for kinds in (ROLES, CLASSES):
        owner: dict[str, str] = {}
        for role, name in found.items():
            if role in kinds and owner.setdefault(name, role) != role:
                raise CorpusError(f"--columns: {owner[name]} and {role} are both {name}; expected another for each")
    return found


class _Columns(argparse.Action):
    """Keeps what `parse_columns` makes of the texts after --columns."""

    def __call__(self, parser: object, namespace: argparse.Namespace, values: Any, option: str | None = None) -> None:
        setattr(namespace, self.dest, parse_columns(values))


def add_columns(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add the flag --columns, whose value is that of `parse_columns`, None where it is not given."""
    text = "what a table calls its columns, as path=file speaker=who gender=sex, and its labels, as female=2 male=1"
    parser.add_argument("--columns", nargs="+", action=_Columns, metavar="ROLE=NAME", help=text)


def read_table(
    path: Path,
    declared: Mapping[str, str] | None = None,
    wanted: Sequence[str] = WANTED,
    quotes: bool = True,
    others: bool = True,
) -> Table:
    """Read a table in UTF-8 or UTF-16, divided by commas, semicolons, tabs or bars.

    declared: columns that the user named, by role. wanted: the roles that it must have. quotes: False where `"` is a
    letter like others. others: False where no columns but those of ROLES are needed. Raises: CorpusError if it cannot
    be read, a wanted column is missing, or it has no rows.
    """
    text, divider, dialect = _dialect(path, declared or {})
    lines = _cells(text, divider, quotes)
    try:
        header = next(lines, [])
        columns = find_columns(path, header, declared or {}, wanted, dialect)
        kept = {at: name for at, name in enumerate(header) if name and (others or name in columns.values())}
        found = list(lines)
        _check_quotes(path, found, divider, len(header))
        rows = [{name: line[at] if at < len(line) else "" for at, name in kept.items()} for line in found]
    except csv.Error as error:
        raise CorpusError(f"{path}: {error}; expected a CSV file") from error
    if not rows:
        raise CorpusError(f"{path}: no rows; expected one a clip")
    return Table(rows, columns)


def _check_quotes(path: Path, lines: Sequence[Sequence[str]], divider: str, columns: int) -> None:
    """Raises: CorpusError if a cell holds whole lines of the table, as after a quotation mark that is never closed."""
    for number, cells in enumerate(lines, 1):
        if any(part.count(divider) == columns - 1 for cell in cells for part in cell.splitlines()[1:]):
            raise CorpusError(
                f"{path}: row {number}: a quotation mark takes in the rows below; expected it to be closed"
            )


def known_columns(path: Path, declared: Mapping[str, str] | None = None) -> Mapping[str, str]:
    """The columns of a table by role, from its first line; none if it has not those that are declared."""
    try:
        head, divider, dialect = _dialect(path, declared or {}, first=True)
        return find_columns(path, next(_cells(head, divider), []), declared or {}, (), dialect)
    except (CorpusError, csv.Error):
        return {}


def _cells(text: str, divider: str, quotes: bool = True) -> Iterator[list[str]]:
    """The lines that are not blank, without blanks around their cells. Raises: csv.Error."""
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    for line in csv.reader(io.StringIO(text, newline=""), delimiter=divider, skipinitialspace=True, quoting=quoting):
        cells = [cell.strip() for cell in line]
        if any(cells):
            yield cells


def _dialect(path: Path, declared: Mapping[str, str], first: bool = False) -> tuple[str, str, str]:
    """The text of a table, or of its first line alone, what divides its columns, and both in words."""
    text, encoding = _text(path, HEAD if first else -1)
    stated = re.match(r"sep=(.)\r?\n", text)  # as Excel writes and reads it
    text = text[stated.end() :] if stated else text
    head = next(iter(text.splitlines()), "")
    divider = stated[1] if stated else _divider(head, declared)
    return head if first else text, divider, f"{encoding} divided by {DIVIDERS.get(divider, repr(divider))}"


def text_lines(path: Path) -> list[str]:
    """The lines of a file in UTF-8 or UTF-16 that are not blank. Raises: CorpusError."""
    return [line for line in _text(path)[0].splitlines() if line.strip()]


def first_line(path: Path) -> str:
    """The first line of a file, empty where it has none that can be read."""
    try:
        return next(iter(_text(path, HEAD)[0].splitlines()), "")
    except CorpusError:
        return ""


def _text(path: Path, size: int = -1) -> tuple[str, str]:
    """The text of the first `size` bytes, of all by default, and its encoding in words. Raises: CorpusError."""
    try:
        with path.open("rb") as file:
            data = file.read(size)
        encoding = "utf-8-sig"
        if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
            encoding = "utf-16"
        elif 0 in data[:2]:  # the first letter of a header is ASCII
            encoding = "utf-16-be" if data[0] == 0 else "utf-16-le"
        text = data.decode(encoding, "ignore" if len(data) == size else "strict")  # the last letter may be half
    except (OSError, UnicodeError) as error:
        raise CorpusError(f"{path}: {error}; expected {EXPECTED}") from error
    if "\0" in text:
        raise CorpusError(f"{path}: holds NUL bytes; expected {EXPECTED}")
    return text.lstrip("\r\n"), "UTF-16" if "16" in encoding else "UTF-8"


def _divider(head: str, declared: Mapping[str, str]) -> str:
    """What divides a header into the most columns that are known or named by the user, else into the most columns."""

    def worth(divider: str) -> tuple[int, int]:
        header = [cell.strip() for cell in next(csv.reader([head], delimiter=divider), [])]
        return sum(_column(header, role, declared) is not None for role in ROLES), len(header)

    return max(DIVIDERS, key=worth)


def _column(header: Sequence[str], role: str, declared: Mapping[str, str]) -> str | None:
    if role in declared:
        return declared[role] if declared[role] in header else None
    taken = [declared[each] for each in ROLES if each in declared]
    names = {re.sub(r"[\W_]+", "", plain(name)): name for name in reversed(header) if name not in taken}
    return next((names[each] for each in ROLES[role].split() if each in names), None)


def find_columns(
    source: object, header: Sequence[str], declared: Mapping[str, str], wanted: Sequence[str], dialect: str
) -> dict[str, str]:
    """The columns by role. Raises: CorpusError with all that helps to name the ones that are missing."""
    found = {role: _column(header, role, declared) for role in ROLES}
    if missing := [role for role in ROLES if found[role] is None and (role in wanted or role in declared)]:
        shown = textwrap.shorten(",".join(header), SHOWN, placeholder="...") if header else "nothing"
        expected = ", ".join(declared.get(role, role) for role in missing)
        remedy = " ".join(f"{role}=COLUMN" for role in missing)
        ask = f"expected also {expected}, or --columns {remedy}"
        raise CorpusError(f"{source}: columns {shown}; {ask}; read as {dialect}")
    return {role: column for role, column in found.items() if column is not None}

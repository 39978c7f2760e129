"""Tables as people write them: encodings, dividers, headers."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from agr.data.layouts.dialect import known_columns, parse_columns, read_table
from agr.errors import CorpusError

ROWS = [["path", "speaker", "gender"], ["a/1.wav", "Ünal", "F"], ["a/2.wav", "bob", "M"]]


def table(folder: Path, text: str, encoding: str = "utf-8", bom: bytes = b"") -> Path:
    path = folder / "voices.csv"
    path.write_bytes(bom + text.encode(encoding))
    return path


def refusal(path: Path, columns: dict[str, str] | None = None) -> str:
    with pytest.raises(CorpusError) as caught:
        read_table(path, columns)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("divider", [",", ";", "\t", "|", " ; ", ", "])
@pytest.mark.parametrize(
    ("encoding", "bom"),
    [
        ("utf-8", b""),
        ("utf-8", codecs.BOM_UTF8),
        ("utf-16", b""),  # which writes a byte order mark itself
        ("utf-16-be", codecs.BOM_UTF16_BE),
        ("utf-16-le", b""),
        ("utf-16-be", b""),
    ],
)
def test_encodings_dividers_and_line_ends(tmp_path: Path, end: str, divider: str, encoding: str, bom: bytes) -> None:
    text = end.join(divider.join(row) for row in ROWS) + end
    found = read_table(table(tmp_path, text, encoding, bom))
    assert [list(row.values()) for row in found.rows] == ROWS[1:]
    assert known_columns(tmp_path / "voices.csv").keys() == {"path", "speaker", "gender"}


def test_the_line_by_which_excel_states_the_divider_is_obeyed(tmp_path: Path) -> None:
    found = read_table(table(tmp_path, "sep=:\r\npath:speaker:gender\r\n1.wav:ann:f\r\n"))
    assert found.rows == [{"path": "1.wav", "speaker": "ann", "gender": "f"}]


def test_blank_lines_and_lines_of_dividers_alone_are_left_out(tmp_path: Path) -> None:
    found = read_table(table(tmp_path, "\n\npath;speaker;gender\n\n;;\n1.wav;ann;f\n ; ;\n"))
    assert [row["path"] for row in found.rows] == ["1.wav"]


def test_a_divider_inside_quotes_is_text(tmp_path: Path) -> None:
    found = read_table(table(tmp_path, 'path,speaker,gender\n"a;b,c.wav","Ann, B.",f\n'))
    assert found.rows == [{"path": "a;b,c.wav", "speaker": "Ann, B.", "gender": "f"}]


@pytest.mark.parametrize(
    "header",
    [
        "File Name,Client_ID,SEX",
        "AUDIO_FILEPATH,spk-id,Gender",
        "wav,Subject ID,Geschlecht",
        "Filename,SpeakerID,Género",
    ],
)
def test_headers_by_their_usual_names_in_any_case(tmp_path: Path, header: str) -> None:
    found = read_table(table(tmp_path, f"{header},Age Group\n1.wav,ann,f,20s\n"))
    assert list(found.columns) == ["path", "speaker", "gender", "age"]
    assert [found.rows[0][column] for column in found.columns.values()] == ["1.wav", "ann", "f", "20s"]


def test_the_likeliest_of_several_columns_is_taken(tmp_path: Path) -> None:
    found = read_table(table(tmp_path, "client_id,recording,path,speaker,gender\nx,y,1.wav,ann,f\n"))
    assert (found.columns["path"], found.columns["speaker"]) == ("path", "speaker")


def test_columns_that_the_user_names_come_first(tmp_path: Path) -> None:
    columns = {"path": "where?", "speaker": "who", "gender": "path"}
    found = read_table(table(tmp_path, "where?;who;path\n1,5.wav;ann;f\n"), columns)
    assert {role: found.rows[0][column] for role, column in found.columns.items()} == {
        "path": "1,5.wav",
        "speaker": "ann",
        "gender": "f",
    }


def test_what_is_unclear_is_one_line_with_all_that_helps(tmp_path: Path) -> None:
    path = table(tmp_path, "who;sex;where\nann;f;1.wav\n", "utf-16")
    assert refusal(path) == (
        f"{path}: columns who,sex,where; expected also path, speaker, or --columns path=COLUMN speaker=COLUMN; "
        "read as UTF-16 divided by semicolons"
    )
    assert "expected also file, speaker" in refusal(path, {"path": "file"})


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n\0\0", b"path,speaker,gender\n1.wav,a\0b,f\n", b"caf\xe9,b\n"])
def test_what_is_no_text_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "voices.csv"
    path.write_bytes(data)
    assert refusal(path).endswith("; expected a text in UTF-8 or UTF-16")
    assert known_columns(path).keys() <= {"path", "speaker", "gender"}


def test_a_very_long_header_is_cut_in_the_message(tmp_path: Path) -> None:
    assert len(refusal(table(tmp_path, ", ".join(f"column {at}" for at in range(500))))) < 500


def test_columns_option() -> None:
    assert parse_columns(["path=file name", "male=1"]) == {"path": "file name", "male": "1"}
    assert parse_columns([]) == {}


@pytest.mark.parametrize("text", ["path", "path=", "colour=red", "=x", ""])
def test_columns_option_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(CorpusError, match=r"^--columns .*: expected path=NAME, speaker=NAME, gender=NAME, age=NAME"):
        parse_columns([text])


def test_a_role_that_is_named_twice_is_refused() -> None:
    with pytest.raises(CorpusError, match="at most once"):
        parse_columns(["path=a", "path=b"])


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["path=file", "speaker=file"], "path and speaker are both file"),
        (["gender=who", "age=a", "speaker=who"], "gender and speaker are both who"),
        (["female=1", "male=1"], "female and male are both 1"),
    ],
)
def test_one_column_in_two_roles_and_one_label_of_both_genders_are_refused(texts: list[str], expected: str) -> None:
    with pytest.raises(CorpusError, match=f"^--columns: {expected}; expected another for each$"):
        parse_columns(texts)
    assert parse_columns(["gender=female", "female=female"]) == {"gender": "female", "female": "female"}


def test_a_column_that_is_declared_has_no_other_role(tmp_path: Path) -> None:
    path = table(tmp_path, "file,gender\n1.wav,f\n")
    with pytest.raises(CorpusError, match="expected also path, or --columns path=COLUMN"):
        read_table(path, {"speaker": "file"})


@pytest.mark.parametrize("row", ['clips/2.wav,"b,male', 'clips/2.wav,b,"male', '"clips/2.wav,b,male'])
def test_a_quotation_mark_that_is_never_closed_is_refused(tmp_path: Path, row: str) -> None:
    table = tmp_path / "voices.csv"
    rows = ["path,speaker,gender", "clips/1.wav,a,female", row, "clips/3.wav,c,male", "clips/4.wav,d,female"]
    table.write_text("\n".join(rows))
    with pytest.raises(CorpusError, match="row 2: a quotation mark takes in the rows below"):
        read_table(table)


def test_a_quoted_cell_may_hold_lines(tmp_path: Path) -> None:
    table = tmp_path / "voices.csv"
    table.write_text('path,speaker,gender,said\n1.wav,a,female,"one,\ntwo"\n2.wav,b,male,three\n')
    assert [row["said"] for row in read_table(table).rows] == ["one,\ntwo", "three"]

"""Columns of a table: their distinct values by number; texts that are made when they are asked for."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest

from agr.common import rows as module
from agr.common.files import content_digest
from agr.common.rows import Cells, Names, Rows, Texts, all_different, cells, encoded, joined, numbered

DICTS = [{"who": who, "kind": "x"} for who in ("b", "a", "b", "é", "")]


def tables() -> list[Sequence[Mapping[str, str]]]:
    """The same rows as dicts, as a table, and as a table of two parts of which one lacks a column."""
    table = Rows.read('who,kind\nb,x\na,x\nb,x\né,x\n"",x\n'.encode())
    parts = Rows.read(b"who,kind\nb,x\na,x\n"), Rows.read("kind,who\nx,b\nx,é\n".encode()), Rows.read(b"kind\nx\n")
    return [DICTS, table, Rows.join(parts)]


@pytest.mark.parametrize("longest", [module.LONGEST, 1], ids=["short", "long"])
@pytest.mark.parametrize("rows", tables(), ids=["dicts", "table", "joined"])
def test_values_are_found_by_their_numbers(
    monkeypatch: pytest.MonkeyPatch, rows: Sequence[Mapping[str, str]], longest: int
) -> None:
    monkeypatch.setattr(module, "LONGEST", longest)
    values, numbers = encoded(rows, "who")
    assert [values[number].as_py() for number in numbers] == ["b", "a", "b", "é", ""]
    assert len(values) == 4
    assert numbers.dtype == np.int64


def test_a_column_that_is_not_there_is_empty() -> None:
    for rows in tables():
        values, numbers = encoded(rows, "no such")
        assert (values.to_pylist(), numbers.tolist()) == ([""], [0] * 5)


def test_numbered_values_are_sorted() -> None:
    names, numbers = numbered(np.array(["b", "a", "b"]))
    assert (names.tolist(), numbers.tolist()) == (["a", "b"], [1, 0, 1])


def texts() -> list[tuple[list[str], Texts]]:
    """Texts that are made when they are asked for, and what they are."""
    names = Names(np.array(["a", "b", "é"]), np.array([1, 0, 1, 2], dtype=np.int32))
    column = cells(Rows.join([Rows.read(b"who\nb\na\n"), Rows.read("who\nb\né\n".encode())]), "who")
    assert isinstance(column, Cells)
    return [(["b", "a", "b", "é"], names), (["b", "a", "b", "é"], column)]


@pytest.mark.parametrize("known, found", texts(), ids=["names", "cells"])
def test_texts_are_used_like_an_array(known: list[str], found: Texts) -> None:
    array = np.array(known)
    assert (len(found), found.tolist(), list(found), found[3], found[-1]) == (4, known, known, "é", "é")
    rows = np.array([3, 0, 0])
    parts: tuple[Any, ...] = (rows, rows - 4, slice(1, 3), slice(0), array == "b", rows[:0], [])
    for part in parts:
        np.testing.assert_array_equal(found[part], array[part])
    for wrong in (4, -5, np.array([4]), np.array([True])):
        with pytest.raises(IndexError):
            found[wrong]
    np.testing.assert_array_equal(found == "b", array == "b")
    np.testing.assert_array_equal(found != "b", array != "b")
    np.testing.assert_array_equal(np.unique(found), np.unique(array))
    np.testing.assert_array_equal(found.some(rows), array[rows])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(found)), array)


def test_cells_are_taken_from_each_chunk_by_itself() -> None:
    parts = [digests(5), [], digests(9), digests(1)]
    whole, column = np.array([text for part in parts for text in part]), Cells(chunked(*parts))
    rows = np.array([14, 0, 5, 6, 4, 13, 14, 14, 1])
    np.testing.assert_array_equal(column[rows], whole[rows])
    np.testing.assert_array_equal(column.some(rows), whole[rows])
    assert joined([column.some(rows[:0]), column.some(rows[:0])]).tolist() == []


@pytest.mark.parametrize("index", [0, 1])
def test_joined_texts_are_those_of_the_parts(index: int) -> None:
    known, found = texts()[index]
    whole = joined([found, found.some(np.array([3]))])
    assert isinstance(whole, type(found))
    assert whole.tolist() == [*known, "é"]
    assert joined([found, np.array(["z"])]).tolist() == [*known, "z"]


def test_names_of_rows_are_the_distinct_ones_sorted() -> None:
    names = Names(np.array(["a", "b", "é"]), np.array([1, 0, 1, 2], dtype=np.int32))
    some = names.some(np.array([3, 0]))
    assert (some.values.tolist(), some.numbers.tolist()) == (["b", "é"], [1, 0])
    both = joined([some, Names(np.array(["a", "é"]), np.array([0, 1], dtype=np.int32))])
    assert isinstance(both, Names)
    assert (both.values.tolist(), both.numbers.tolist()) == (["a", "b", "é"], [2, 1, 0, 2])


def test_rows_come_back_mapped(tmp_path: Path) -> None:
    rows = Rows.read('who,kind\nb,x\n"",é\n'.encode())
    (tmp_path / "rows").write_bytes(rows.to_arrow())
    before = pyarrow.total_allocated_bytes()
    found = Rows.map(tmp_path / "rows", content_digest(rows.to_arrow()))
    assert pyarrow.total_allocated_bytes() == before
    assert list(found) == list(rows)
    with pytest.raises(ValueError, match="damaged"):
        Rows.map(tmp_path / "rows", content_digest(b""))


def digests(count: int) -> list[str]:
    return [content_digest(str(number).encode()) for number in range(count)]


def chunked(*parts: list[str], kind: pyarrow.DataType | None = None) -> pyarrow.ChunkedArray:
    return pyarrow.chunked_array([pyarrow.array(part, kind or pyarrow.string()) for part in parts])


@pytest.mark.parametrize("kind", [pyarrow.string(), pyarrow.large_string()], ids=str)
def test_digests_are_found_to_be_all_different(kind: pyarrow.DataType) -> None:
    some = digests(1000)
    assert all_different(chunked(some[:300], [], some[300:], kind=kind))
    assert all_different(chunked(some, kind=kind).slice(17, 500))
    assert not all_different(chunked(some[:300], [some[7]], kind=kind))
    assert not all_different(chunked(some, kind=kind).slice(0, 500).take([3, 9, 3]))


def test_texts_of_another_length_and_nulls_are_not_known_to_be_different() -> None:
    assert not all_different(chunked(["a", "b"]))
    assert not all_different(pyarrow.chunked_array([pyarrow.array([*digests(2), None])]))
    assert all_different(chunked([]))

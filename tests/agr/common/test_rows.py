"""Columns of a table: their distinct values by number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from agr.common import rows as module
from agr.common.rows import Rows, encoded, numbered

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

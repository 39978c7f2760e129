"""The rows of a CSV file as columns of Arrow: a million rows in 200 MB, where as many dicts take 1 GB."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow


LONGEST = 2**31 - 1  # bytes of an array of Arrow's type string


class Rows(Sequence[Mapping[str, str]]):
    """Rows of text by column names; a row lacks the columns that its table lacked before `join`."""

    def __init__(self, table: pyarrow.Table) -> None:
        """table: Every column is text."""
        self.table = table

    @classmethod
    def read(cls, data: bytes) -> Rows:
        """The rows of a CSV file in UTF-8 with a header. Raises: ValueError or csv.Error if it is none."""
        from pyarrow import BufferReader, string
        from pyarrow import csv as arrow

        names = next(csv.reader(io.TextIOWrapper(io.BytesIO(data), "utf-8", newline="")), [])
        texts = arrow.ConvertOptions(column_types=dict.fromkeys(names, string()), strings_can_be_null=False)
        parse = arrow.ParseOptions(newlines_in_values=True)
        return cls(arrow.read_csv(BufferReader(data), parse_options=parse, convert_options=texts))

    @classmethod
    def join(cls, parts: Sequence[Rows]) -> Rows:
        """The rows of several, in their order."""
        import pyarrow as pa

        return cls(pa.concat_tables([part.table for part in parts], promote_options="default"))

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @overload
    def __getitem__(self, index: int) -> Mapping[str, str]: ...
    @overload
    def __getitem__(self, index: slice) -> Rows: ...
    def __getitem__(self, index: int | slice) -> Mapping[str, str] | Rows:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        row: dict[str, Any] = self.table.slice(range(len(self))[index], 1).to_pylist()[0]
        return {name: value for name, value in row.items() if value is not None}

    def take(self, rows: NDArray[np.int64]) -> Rows:
        """Some of the rows, (m,)."""
        return Rows(self.table.take(rows))


def column(rows: Sequence[Mapping[str, str]], name: str, chosen: NDArray[np.int64] | None = None) -> list[str]:
    """The values of a column, "" where a row has none; chosen: the numbers of the rows, all unless given."""
    if not isinstance(rows, Rows):
        some = rows if chosen is None else [rows[row] for row in chosen.tolist()]
        return [row.get(name, "") for row in some]
    if name not in rows.table.column_names:
        return [""] * (len(rows) if chosen is None else len(chosen))
    found = rows.table.column(name)
    return (found if chosen is None else found.take(chosen)).fill_null("").to_pylist()  # type: ignore[no-any-return]


def encoded(rows: Sequence[Mapping[str, str]], name: str) -> tuple[pyarrow.Array, NDArray[np.int64]]:
    """The distinct values of a column, and for each row the number of its value among them, (n,); without sorting."""
    import pyarrow as pa

    if isinstance(rows, Rows) and name in rows.table.column_names:
        held = rows.table.column(name).fill_null("")
        values = (held if held.nbytes < LONGEST else held.cast(pa.large_string())).combine_chunks()
    else:
        values = pa.array(column(rows, name), pa.string())
    found = values.dictionary_encode()
    return found.dictionary, found.indices.to_numpy().astype(np.int64)


def numbered(values: NDArray[np.str_]) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    """The distinct values, sorted, (k,), and the number of each value among them, (n,)."""
    names, numbers = np.unique(values, return_inverse=True)
    return names, numbers

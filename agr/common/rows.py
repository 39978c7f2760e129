"""Very many rows and names in little memory: the rows of a CSV file as columns of Arrow, and names by their numbers.

A million rows take 200 MB, where as many dicts take 1 GB; nothing, if they are mapped from a file (`Rows.map`).
"""

from __future__ import annotations

import csv
import io
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from agr.common.files import content_digest

if TYPE_CHECKING:
    import pyarrow


MIXING = np.uint64(0x9E3779B97F4A7C15)  # an odd number, by which bits are mixed
Indices = NDArray[np.int64]
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
    def map(cls, path: Path, digest: str) -> Rows:
        """The rows that `to_arrow` wrote into a file, mapped.

        Raises: OSError; ValueError if the file has not this `content_digest`.
        """
        import pyarrow as pa

        with pa.memory_map(str(path)) as file:
            data = file.read_buffer()
        if content_digest(memoryview(data)) != digest:
            raise ValueError(f"{path}: damaged; expected the rows of a manifest")
        return cls(pa.ipc.open_file(data).read_all())

    def to_arrow(self) -> bytes:
        """All rows as a file that can be mapped."""
        import pyarrow as pa

        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, self.table.schema) as writer:
            writer.write_table(self.table)
        return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]

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


class Texts(ABC):
    """n texts, of which only those are made that are asked for; used like an array, (n,), of them."""

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes in memory, of which mapped ones are none."""

    @abstractmethod
    def of_rows(self, rows: Indices) -> NDArray[np.str_]:
        """Those of some rows, (m,)."""

    @abstractmethod
    def some(self, rows: Indices) -> Texts:
        """The same as texts that are made when they are asked for."""

    def __getitem__(self, rows: Any) -> Any:
        """As of an array: a text, or an array of those of a slice, of indices or of a mask."""
        if isinstance(rows, int | np.integer):
            return str(self.of_rows(np.array([range(len(self))[rows]]))[0])
        return self.of_rows(np.arange(len(self))[rows])

    def __iter__(self) -> Iterator[str]:
        return iter(self.tolist())

    def __eq__(self, other: object) -> Any:
        return np.asarray(self) == other

    def __ne__(self, other: object) -> Any:
        return np.asarray(self) != other

    __hash__ = None  # type: ignore[assignment]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)

    def tolist(self) -> list[str]:
        """All of them."""
        return list(self[:].tolist())


class Names(Texts):
    """Texts that are there many times: the distinct ones, and which of them each is."""

    def __init__(self, values: NDArray[np.str_], numbers: NDArray[np.int32]) -> None:
        """values: The distinct ones, sorted, (k,). numbers: of each text among them, (n,)."""
        self.values, self.numbers = values, numbers

    @property
    def nbytes(self) -> int:
        """As of two arrays."""
        return self.values.nbytes + self.numbers.nbytes

    def __len__(self) -> int:
        return len(self.numbers)

    def of_rows(self, rows: Indices) -> NDArray[np.str_]:
        """Those of some rows, (m,)."""
        return np.asarray(self.values[self.numbers[rows]])

    def some(self, rows: Indices) -> Names:
        """The same, with the distinct ones of these rows."""
        used, numbers = np.unique(self.numbers[rows], return_inverse=True)
        return Names(self.values[used], numbers.astype(np.int32))


class Cells(Texts):
    """The texts of a column of Arrow."""

    def __init__(self, values: pyarrow.ChunkedArray) -> None:
        """values: Without nulls."""
        self.values = values

    @property
    def nbytes(self) -> int:
        """None: they belong to a table."""
        return 0

    def __len__(self) -> int:
        return len(self.values)

    def __reduce__(self) -> tuple[Any, ...]:
        return np.asarray, (np.asarray(self),)

    def of_rows(self, rows: Indices) -> NDArray[np.str_]:
        """Those of some rows, (m,)."""
        return np.array([text for part in self._taken(rows) for text in part.to_pylist()], dtype=np.str_)

    def some(self, rows: Indices) -> Cells:
        """The same of some rows, (m,)."""
        import pyarrow as pa

        return Cells(pa.chunked_array(self._taken(rows), self.values.type))

    def _taken(self, rows: Indices) -> list[pyarrow.Array]:
        """Those of some rows, (m,), in parts; Arrow itself would join all chunks, of at most 2 GB, at first."""
        ends = np.cumsum([len(chunk) for chunk in self.values.chunks])
        chunks = np.searchsorted(ends, rows, side="right")
        runs = np.split(np.arange(len(rows)), np.flatnonzero(np.diff(chunks)) + 1) if len(rows) else ()
        found = []
        for run in runs:
            number = int(chunks[run[0]])
            chunk = self.values.chunk(number)
            found.append(chunk.take(rows[run] - int(ends[number]) + len(chunk)))
        return found


def joined(parts: Sequence[Texts | NDArray[np.str_]]) -> Texts | NDArray[np.str_]:
    """The texts of several, in their order."""
    import pyarrow as pa

    named = [part for part in parts if isinstance(part, Names)]
    cells = [part for part in parts if isinstance(part, Cells)]
    if len(cells) == len(parts):
        return Cells(pa.chunked_array([chunk for part in cells for chunk in part.values.chunks], pa.string()))
    if len(named) < len(parts):
        return np.concatenate([np.asarray(part) for part in parts])
    values, new = np.unique(np.concatenate([part.values for part in named]), return_inverse=True)
    each = np.split(new.astype(np.int32), np.cumsum([len(part.values) for part in named])[:-1])
    return Names(values, np.concatenate([own[part.numbers] for own, part in zip(each, named, strict=True)]))


def column(rows: Sequence[Mapping[str, str]], name: str, chosen: NDArray[np.int64] | None = None) -> list[str]:
    """The values of a column, "" where a row has none; chosen: the numbers of the rows, all unless given."""
    if not isinstance(rows, Rows):
        some = rows if chosen is None else [rows[row] for row in chosen.tolist()]
        return [row.get(name, "") for row in some]
    if name not in rows.table.column_names:
        return [""] * (len(rows) if chosen is None else len(chosen))
    found = rows.table.column(name)
    return (found if chosen is None else found.take(chosen)).fill_null("").to_pylist()  # type: ignore[no-any-return]


def cells(rows: Sequence[Mapping[str, str]], name: str) -> Texts | NDArray[np.str_]:
    """The values of a column, (n,), "" where a row has none; made when they are asked for, if that is possible."""
    if isinstance(rows, Rows) and name in rows.table.column_names and not rows.table.column(name).null_count:
        return Cells(rows.table.column(name))
    return np.array(column(rows, name), dtype=np.str_)


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


def all_different(values: pyarrow.ChunkedArray) -> bool:
    """Whether texts are surely distinct, found out in 16 bytes for each; only for texts of 32 characters of ASCII."""
    import pyarrow as pa

    keys = [np.zeros(0, dtype=np.uint64)]
    for chunk in (chunk for chunk in values.chunks if len(chunk)):
        _, ends, data = chunk.buffers()
        places = np.frombuffer(ends, np.int32 if pa.types.is_string(chunk.type) else np.int64)[
            chunk.offset : chunk.offset + len(chunk) + 1
        ]
        if chunk.null_count or not (np.diff(places) == 32).all():
            return False
        first, second, third, fourth = (
            np.frombuffer(data, np.uint8)[places[0] : places[-1]].reshape(-1, 32).view(np.uint64).T
        )
        keys.append((first * MIXING + second) * MIXING + (third * MIXING + fourth))
    found = np.sort(np.concatenate(keys))
    return not (found[1:] == found[:-1]).any()


def numbered(values: NDArray[np.str_]) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    """The distinct values, sorted, (k,), and the number of each value among them, (n,)."""
    names, numbers = np.unique(values, return_inverse=True)
    return names, numbers

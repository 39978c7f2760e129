"""Shards: Arrow files of about SIZE prepared clips, named by what is in them and mapped into memory.

    path = write(folder, outcomes, recipe)            # folder/shard-DIGEST.arrow
    Column(path, "pixels", recipe.image_shape)[0]     # (12, 98, 3), uint8

A shard has the columns TEXT of `Outcome`; `stored`, what the recipe stores of each clip, in C order; and `pixels`, the
images drawn from that, if the recipe keeps features. All processes of a machine share the pages that they read.
"""

from __future__ import annotations

import functools
import re
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agr.common.files import content_digest, file_digest, write_atomic
from agr.common.progress import Meter, silent_progress, terminal_progress
from agr.recipes.base import FRAMES, Recipe
from agr.recipes.voice_features import best_window

if TYPE_CHECKING:
    import pyarrow

SIZE = 4096  # clips on average, at most twice as many: 60 MB by the recipe `voice`
NAME = r"(shard|part)-[0-9a-f]{32}\.arrow"
RELEASED = 2**12, 16  # clips, and clips for each shard, read until shards are unmapped: of 4 GB, 2 are mapped
WHOLE, PART = "shard", "part"  # a part is of a shard of which clips are missing
PART_CLIPS, PART_SECONDS = 256, 2.0  # what a part has at most
QUICK = 10  # shards that are read or written within two seconds
TEXT = ("name", "stamp", "recipe", "recording", "reason", "samples", "note")
Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Outcome:
    """What became of one clip: what is stored and the digests of `copies.Heard`, or the `reason` why it was skipped.

    Valid while `stamp`, from the file's `stat`, and `recipe`, the recipe's digest, are unchanged.
    """

    name: str
    stamp: str
    recipe: str
    recording: str = ""
    reason: str = ""
    samples: str = ""
    note: str = ""  # what is missing of a recording that is used all the same
    stored: Bytes | None = None  # as the recipe stores it; None if it was skipped, or is in the shard `home`
    home: Path | None = None


def write(folder: Path, outcomes: Sequence[Outcome], recipe: Recipe, kind: str = WHOLE) -> Path:
    """Write a shard, or with kind PART one without images, atomically; returns its path."""
    import pyarrow as pa

    blank = np.zeros([FRAMES if n < 0 else n for n in recipe.stored_shape], dtype=np.uint8)
    stored = [blank if each.stored is None else each.stored for each in outcomes]
    columns = {name: pa.array([getattr(each, name) for each in outcomes], pa.string()) for name in TEXT}
    columns["stored"] = _packed(stored)
    if kind != PART and recipe.keeps_features:
        columns["pixels"] = _packed(recipe.images(np.stack([best_window(each) for each in stored])))
    table, sink = pa.record_batch(columns), pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_batch(table)
    data = sink.getvalue()
    path = folder / f"{kind}-{content_digest(data)}.arrow"
    write_atomic(path, data, durable=kind == WHOLE)
    return path


def _packed(clips: Sequence[Bytes] | Bytes) -> pyarrow.Array:
    """Clips one after the other, without a copy for each."""
    import pyarrow as pa

    ends = np.cumsum([0, *(clip.size for clip in clips)], dtype=np.int64)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(np.concatenate([clip.reshape(-1) for clip in clips]))]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(clips), buffers)


def read(path: Path) -> pyarrow.RecordBatch:
    """Map a shard into memory. Raises: OSError or ValueError if it is none."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).get_batch(0)


def progress(what: str, total: int, unit: str = "shards", quick: int = QUICK) -> AbstractContextManager[Meter]:
    """A display of progress, silent up to `quick` units."""
    return (terminal_progress if total > quick else silent_progress)(what, total, unit=unit)


def intact(path: Path) -> bool:
    """Whether a shard holds what its name says; reads all of it."""
    return file_digest(path) == path.stem.partition("-")[2]


def outcomes(path: Path, recipe: Recipe) -> Iterator[Outcome]:
    """What is in a shard by this recipe, without copying what is stored."""
    table, stored = read(path), Column(path, "stored", recipe.stored_shape)
    texts = [table.column(name).to_pylist() for name in TEXT]
    for row, values in enumerate(zip(*texts, strict=True)):
        found = Outcome(*values)
        if found.recipe == recipe.digest:
            yield replace(found, stored=None if found.reason else stored[row], home=path)


def found(folder: Path) -> list[Path]:
    """The shards and parts in a folder, by name."""
    return sorted(path for path in folder.iterdir() if re.fullmatch(NAME, path.name))


def groups(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cut names into groups of SIZE on average, after names that a checksum chooses: a new name changes one group."""
    start = 0
    for end, name in enumerate(names, 1):
        chosen = end - start >= SIZE // 2 and zlib.crc32(name.encode()) % (SIZE // 2) == 0
        if chosen or end - start == 2 * SIZE or end == len(names):
            yield names[start:end]
            start = end


class Writer:
    """Writes outcomes into shards as they come: a shard once all its clips are there, smaller PARTs of it until then.

    A kill loses the clips of the last PART_SECONDS, or PART_CLIPS. Nothing is ever written over: names tell contents.
    """

    def __init__(self, folder: Path, recipe: Recipe, names: Sequence[str], outcomes: dict[str, Outcome]) -> None:
        """names: Of all clips, in the order of the shards. outcomes: What is known of them; `add` adds to it."""
        self._folder, self._recipe, self._outcomes = folder, recipe, outcomes
        self._groups = list(groups(names))
        self._group_of = {name: number for number, group in enumerate(self._groups) for name in group}
        self._missing = Counter(self._group_of[name] for name in names if name not in outcomes)
        self._paths: dict[int, Path] = {}
        self._loose: dict[str, Outcome] = {}  # in no shard yet, but for parts
        self._parts: list[Path] = []
        self._parted, self._since = 0, 0.0  # how many of the loose ones are in a part, and since when others are not

    def add(self, outcome: Outcome) -> None:
        """Take in a clip that was missing."""
        number = self._group_of[outcome.name]
        if len(self._loose) == self._parted:
            self._since = time.monotonic()
        self._loose[outcome.name] = self._outcomes[outcome.name] = outcome
        self._missing[number] -= 1
        if not self._missing[number]:
            self._write(number)
        elif len(self._loose) - self._parted >= PART_CLIPS or time.monotonic() - self._since > PART_SECONDS:
            self._write_part()

    def close(self) -> list[Path]:
        """Write shards whose clips were there from the start, where they are not as they should be; all paths."""
        numbers = [number for number in range(len(self._groups)) if number not in self._paths]
        with progress("writing shards", len(numbers)) as advance:
            for number in numbers:
                self._write(number)
                advance(1)
        return [self._paths[number] for number in range(len(self._groups))]

    def _write(self, number: int) -> None:
        """Write a shard, unless it is there, and let go of what is in it."""
        group = self._groups[number]
        found = [self._outcomes[name] for name in group]
        homes = {each.home for each in found}
        home = homes.pop()
        there = not homes and home is not None and home.name.startswith(WHOLE) and len(read(home)) == len(group)
        self._paths[number] = home if there and home else write(self._folder, found, self._recipe)
        for name in group:
            self._outcomes[name] = replace(self._outcomes[name], stored=None)
            self._loose.pop(name, None)
        old, self._parted = self._parts, 0
        self._parts = []
        self._write_part()
        for path in old:
            if path not in self._parts:
                path.unlink()

    def _write_part(self) -> None:
        fresh = list(self._loose.values())[self._parted :]
        if fresh:
            self._parts.append(write(self._folder, fresh, self._recipe, PART))
        self._parted = len(self._loose)


class Column:
    """What a shard holds of each of its n clips; mapped when it is first read, pickled as a path."""

    def __init__(self, path: Path, name: str, shape: tuple[int, ...]) -> None:
        """shape: Of a clip; -1 frames stand for any number of them."""
        self.path, self.name, self.shape = path, name, shape

    def __reduce__(self) -> tuple[Any, ...]:
        return Column, (self.path, self.name, self.shape)

    @functools.cached_property
    def _buffers(self) -> tuple[Integers, Bytes]:
        """Where each clip begins, and the last one ends, (n + 1,); and all bytes."""
        column = read(self.path).column(self.name)
        _, ends, data = column.buffers()
        return np.frombuffer(ends, np.int64, len(column) + 1), np.frombuffer(data, np.uint8)

    def __len__(self) -> int:
        return len(self._buffers[0]) - 1

    @property
    def sizes(self) -> Integers:
        """Bytes of each clip, (n,)."""
        return np.diff(self._buffers[0])

    def __getitem__(self, row: int) -> Bytes:
        ends, data = self._buffers
        return data[ends[row] : ends[row + 1]].reshape(self.shape)

    def release(self) -> None:
        """Unmap the shard, until it is read again."""
        vars(self).pop("_buffers", None)

    def array(self) -> Bytes:
        """All clips, which have one shape: (n, *shape)."""
        ends, data = self._buffers
        return data[: ends[-1]].reshape(len(self), *self.shape)


@dataclass(frozen=True)
class Sharded:
    """Clips of several shards, read when they are asked for: `sharded[rows]` is an array, as of an array."""

    parts: tuple[Column | Bytes | list[Bytes], ...]
    rows: Integers  # of the clips, (n,), counted through all parts

    @functools.cached_property
    def _starts(self) -> Integers:
        return np.cumsum([0, *map(len, self.parts)], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an array."""
        return (len(self), *self.parts[0][0].shape)

    @property
    def nbytes(self) -> int:
        """Bytes in memory of what is not in shards."""
        return sum(part.nbytes for part in self.parts if isinstance(part, np.ndarray)) + self.rows.nbytes

    @functools.cached_property
    def _read(self) -> Counter[str]:
        return Counter()

    def _release(self, clips: int) -> None:
        """Unmap all shards now and then: what is mapped counts as memory of this process, though all share it.

        Mapping them again takes less than a hundredth of the time of training.
        """
        self._read["clips"] += clips
        if self._read["clips"] > max(RELEASED[0], RELEASED[1] * len(self.parts)):
            self._read.clear()
            for part in self.parts:
                if isinstance(part, Column):
                    part.release()

    def __getitem__(self, index: int | slice | Integers) -> Bytes:
        at = self.rows[index]
        self._release(at.size)
        part = np.searchsorted(self._starts, at, side="right") - 1
        if at.ndim == 0:
            return self.parts[part][int(at - self._starts[part])]
        found = np.empty((len(at), *self.parts[0][0].shape), dtype=np.uint8)
        for n, (which, row) in enumerate(zip(part.tolist(), (at - self._starts[part]).tolist(), strict=True)):
            found[n] = self.parts[which][row]
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)


Clips = Bytes | Sharded


def some(clips: Clips, rows: Integers) -> Clips:
    """Some of the clips, (m,)."""
    return Sharded(clips.parts, clips.rows[rows]) if isinstance(clips, Sharded) else clips[rows]


def moved(clips: Clips, where: Mapping[Path, Path]) -> Clips:
    """The same clips, with their shards elsewhere."""
    if not isinstance(clips, Sharded):
        return clips
    parts = (
        Column(where[part.path], part.name, part.shape) if isinstance(part, Column) else part for part in clips.parts
    )
    return Sharded(tuple(parts), clips.rows)


def join(sets: Sequence[Clips | list[Bytes]]) -> Clips:
    """The clips of several sets, in their order; in memory if none of them is sharded."""
    arrays = [each for each in sets if isinstance(each, np.ndarray)]
    if len(arrays) == len(sets):
        return np.concatenate(arrays)
    parts: list[Column | Bytes | list[Bytes]] = []
    rows, start = [], 0
    for each in sets:
        parts += each.parts if isinstance(each, Sharded) else [each]
        rows.append(start + (each.rows if isinstance(each, Sharded) else np.arange(len(each))))
        start = sum(map(len, parts))
    return Sharded(tuple(parts), np.concatenate(rows))


def mapped(paths: Sequence[Path], name: str, shape: tuple[int, ...], rows: Integers) -> Clips:
    """Clips of shards, `rows` of them: one array if there is one shard and all clips have one shape."""
    columns = tuple(Column(path, name, shape) for path in paths)
    if len(columns) > 1 or -1 in shape:
        return Sharded(columns, rows)
    whole = columns[0].array()
    return whole if np.array_equal(rows, np.arange(len(whole))) else whole[rows]

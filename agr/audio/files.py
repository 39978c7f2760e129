"""Sound files, opened with limits; what a folder holds."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from agr.audio.formats import HEAD, described, recognised
from agr.errors import AudioError, EmptyAudio, UnreadableAudio

SUFFIXES = frozenset(
    (
        *(".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".caf", ".au", ".snd"),
        *(".w64", ".rf64", ".m4a", ".m4b", ".mp4", ".mov", ".3gp", ".3g2", ".mkv", ".mka", ".webm", ".amr", ".awb"),
        *(".wma", ".asf", ".aac", ".ac3", ".avi"),
    )
)
THEIRS = frozenset({"thumbs.db", "desktop.ini"})
KINDS = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}  # the rest are devices
OURS = ("/dev/stdin", "/dev/fd/", "/proc/self/")  # what this process has open already: a pipe there has a writer
MAX_BYTES = 2**27  # of what is read at once: a pipe, bytes


def read_bytes(path: Path) -> bytes:
    """The file's bytes. Raises: UnreadableAudio if it cannot be opened; EmptyAudio; AudioError if over MAX_BYTES."""
    with opened(path, str(path)) as file:
        return read_stream(file, str(path))


def read_stream(file: BinaryIO, name: str) -> bytes:
    """What is left of an open file, pipe or device. Raises: EmptyAudio; AudioError where it is over MAX_BYTES."""
    size = size_of(file)
    data = file.read((size or MAX_BYTES) + 1) if size <= MAX_BYTES else b""
    if max(size, len(data)) > MAX_BYTES:
        raise AudioError(f"{name}: {size or 'endless'} bytes; expected at most {MAX_BYTES}")
    if not data:
        raise EmptyAudio(f"{name}: 0 bytes; expected a sound file")
    return data


@contextmanager
def opened(path: Path, name: str) -> Iterator[BinaryIO]:
    """An open file. Raises: UnreadableAudio if it is no regular file and not one of OURS, or cannot be read.

    A pipe without a writer, a socket or a device would let the reader wait for ever.
    """
    if "\0" in str(path):
        raise UnreadableAudio(f"{name}: no name that a file can have; expected a sound file")
    try:
        other = _irregular(path.stat().st_mode)
        if other and not is_ours(path):
            raise UnreadableAudio(f"{name}: {other}; expected a sound file")
        with path.open("rb", buffering=2**16) as file:
            yield file
    except OSError as error:
        raise UnreadableAudio(f"{name}: {error.strerror}; expected a sound file") from error


def is_ours(path: str | Path) -> bool:
    """Whether the path leads to what this process has open, and another process would find something else there."""
    return os.path.abspath(path).startswith(OURS)


def _irregular(mode: int) -> str | None:
    """What there is instead of a regular file, if so."""
    return None if stat.S_ISREG(mode) else KINDS.get(stat.S_IFMT(mode), "a device")


def size_of(file: BinaryIO) -> int:
    """Bytes of a file; 0 of what has no size, as a pipe."""
    try:
        return os.fstat(file.fileno()).st_size
    except OSError:
        return 0


def find(folder: Path) -> list[Path]:
    """Every sound file below a folder, in sorted order; told by content, or where that is damaged by its ending."""
    return [each.path for each in walk(folder) if each.other is None]


class Entry(NamedTuple):
    """Something in a folder."""

    path: Path
    other: str | None  # what it is if it is no sound file
    closed: bool = False  # whether what it holds is not known


def walk(folder: Path) -> Iterator[Entry]:
    """What is below a folder, in sorted order. Links to files are followed, links to folders are not.

    Left out without a word is what only a system reads: THEIRS, and what is no sound and named `.something`.
    """
    waiting = [(folder, True)]  # the next one last
    while waiting:
        path, is_folder = waiting.pop()
        if is_folder:
            try:
                with os.scandir(path) as entries:
                    found = sorted(entries, key=lambda entry: entry.name, reverse=True)
                waiting += [(path / entry.name, entry.is_dir(follow_symlinks=False)) for entry in found]
            except OSError as error:
                yield Entry(path, f"a folder that cannot be read: {error.strerror}", closed=True)
            continue
        entry = _entry(path)
        if entry.other is None or not (path.name.startswith(".") or path.name.lower() in THEIRS):
            yield entry


def _entry(path: Path) -> Entry:
    """What a path that is no folder of its own leads to."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return Entry(path, "a link to a folder, which is not followed", closed=True)
        if other := _irregular(mode):
            return Entry(path, other, closed=True)
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            return Entry(path, None)
        with path.open("rb", buffering=0) as file:

            def part(at: int, size: int) -> bytes:
                file.seek(at)
                return file.read(size)

            return Entry(path, None if recognised(part) else described(part(0, HEAD)))
    except OSError as error:
        return Entry(path, f"cannot be read: {error.strerror}", closed=True)

"""Files, pipes and devices, read with limits; the sound files of a folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

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
MAX_BYTES = 2**27  # of what is read at once: a pipe, a device, bytes


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
    """An open file. Raises: UnreadableAudio where the system says that it cannot be read."""
    try:
        with path.open("rb", buffering=2**16) as file:
            yield file
    except OSError as error:
        raise UnreadableAudio(f"{name}: {error.strerror}; expected a sound file") from error


def size_of(file: BinaryIO) -> int:
    """Bytes of a file; 0 of what has no size, as a pipe."""
    try:
        return os.fstat(file.fileno()).st_size
    except OSError:
        return 0


def find(folder: Path) -> list[Path]:
    """Every sound file below a folder, in sorted order; told by content, or where that is damaged by its ending."""
    return [path for path, other in walk(folder) if other is None]


def walk(folder: Path) -> Iterator[tuple[Path, str | None]]:
    """What is below a folder, in sorted order: sound files with None, everything else with what it is.

    Left out without a word is what only a system reads: THEIRS, and what is no sound and named `.something`.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield folder, f"a folder that cannot be read: {error.strerror}"
        return
    for entry in entries:
        path = folder / entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from walk(path)
            continue
        what = _other(path)
        if what is None or not (entry.name.startswith(".") or entry.name.lower() in THEIRS):
            yield path, what


def _other(path: Path) -> str | None:
    """None for a sound file, or what else there is."""
    try:
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            return "a link to a folder, which is not followed"
        if not stat.S_ISREG(kind):
            return "no regular file"
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            return None
        with path.open("rb", buffering=0) as file:

            def part(at: int, size: int) -> bytes:
                file.seek(at)
                return file.read(size)

            return None if recognised(part) else described(part(0, HEAD))
    except OSError as error:
        return f"cannot be read: {error.strerror}"

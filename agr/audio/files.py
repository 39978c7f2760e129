"""Files, pipes and devices, read with limits; the sound files of a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from agr.errors import AudioError, EmptyAudio, UnreadableAudio

EXTENSIONS = frozenset({".wav", ".flac", ".ogg", ".mp3"})
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
    """Every sound file below a folder, by extension, in sorted order."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS and path.is_file())

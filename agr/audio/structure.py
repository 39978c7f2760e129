"""A sound file as libsndfile is given it, and what libsndfile does not notice about it.

libsndfile reads a cut-off WAV without a word, so its own structure is asked. Only headers are read for it.
"""

from __future__ import annotations

import io
import struct
from typing import Any, BinaryIO

PIPED_BYTES = 0x7FFFF000  # a WAV written to a pipe promises 0 bytes of samples, or this many (sox), or more
MOST_CHUNKS = 4096  # of a WAV before its samples


class SoundStream:
    """A seekable file whose errors end a read or a seek, as libsndfile's callbacks cannot raise.

    overlay: a place, and the bytes that are read there.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        """Give `file`, of `size` bytes, to libsndfile."""
        self._file, self.size = file, size
        self.overlay = 0, b""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; where that is impossible, stay."""
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return self.tell()

    def tell(self) -> int:
        """Where the next read begins."""
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as the file reaches; returns the bytes read."""
        start = self.tell()
        try:
            count = int(self._file.readinto(buffer))  # type: ignore[attr-defined]
        except OSError:
            return 0
        at, field = self.overlay
        for position, value in enumerate(field, at - start):
            if 0 <= position < count:
                buffer[position] = value.to_bytes(1, "big")
        return count

    def read(self, size: int) -> bytes:
        """As many bytes, fewer at the end."""
        buffer = bytearray(size)
        return bytes(buffer[: self.readinto(buffer)])

    def part(self, at: int, size: int) -> bytes:
        """Bytes from `at`, fewer at the end; the position is afterwards at the file's beginning."""
        self.seek(at)
        data = self._file.read(size)
        self.seek(0)
        return data


def promised_share(stream: SoundStream) -> float:
    """How many times the samples that are there a WAV promises, 1 or more; 1 for other formats.

    Of a WAV written to a pipe, the true length is filled in.
    """
    head = stream.part(0, 12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return 1.0
    start, promised = _wav_samples(stream)
    found = stream.size - start
    if _was_piped(stream, start, promised):
        stream.overlay = start - 4, struct.pack("<I", found)
        return 1.0
    return promised / found if 0 < found < promised else 1.0


def _wav_samples(stream: SoundStream) -> tuple[int, int]:
    """Where the `data` chunk's samples start, and the bytes it promises; (size, 0) without such a chunk."""
    at = 12
    for _ in range(MOST_CHUNKS):
        header = stream.part(at, 8)
        if len(header) < 8:
            break
        chunk, size = struct.unpack("<4sI", header)
        if chunk == b"data":
            return at + 8, size
        at += 8 + size + size % 2
    return stream.size, 0


def _was_piped(stream: SoundStream, start: int, promised: int) -> bool:
    """Whether the program that wrote this WAV could not go back to its header; samples start at byte `start`."""
    file_size = int.from_bytes(stream.part(4, 4), "little")  # of what follows these 8 bytes
    nothing_after = file_size + 8 <= start or file_size >= PIPED_BYTES
    return start < stream.size and (promised >= PIPED_BYTES or (promised == 0 and nothing_after))

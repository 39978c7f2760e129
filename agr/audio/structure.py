"""A sound file as libsndfile is given it, and what libsndfile does not notice about it.

libsndfile reads a cut-off WAV without a word, so its own structure is asked. Only headers are read for it.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

PIPED_BYTES = 0x7FFFF000  # a WAV written to a pipe promises 0 bytes of samples, or this many (sox), or more
UNKNOWN = 0xFFFFFFFF  # the size of what an AU or RF64 does not know, or has written elsewhere
LIMITLESS = 2**40  # bytes of samples: as many are no promise
MOST_CHUNKS = 4096  # before the samples


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


@dataclass(frozen=True)
class Chunks:
    """How a format lays out its chunks: a name and a size each."""

    header: struct.Struct
    samples: bytes  # the name of the chunk that holds the samples
    first: int = 12  # byte at which the first one starts
    counted: int = 0  # bytes of the header that the size includes
    align: int = 2


_RIFF = Chunks(struct.Struct("<4sI"), b"data")
_LAYOUTS = {
    (b"RIFF", b"WAVE"): _RIFF,
    (b"RF64", b"WAVE"): _RIFF,
    (b"RIFX", b"WAVE"): Chunks(struct.Struct(">4sI"), b"data"),
    (b"FORM", b"AIFF"): Chunks(struct.Struct(">4sI"), b"SSND"),
    (b"FORM", b"AIFC"): Chunks(struct.Struct(">4sI"), b"SSND"),
    (b"riff", b"\xa5\xd6\x28\xdb"): Chunks(struct.Struct("<4s12xQ"), b"data", first=40, counted=24, align=8),
}


def promised_share(stream: SoundStream) -> float:
    """How many times the samples that are there the header promises, 1 or more; 1 where it does not say.

    WAV, RF64, W64, AIFF and AU are asked. Of a WAV written to a pipe, the true length is filled in.
    """
    start, promised = _samples(stream)
    found = stream.size - start
    if stream.part(0, 4) == b"RIFF" and _was_piped(stream, start, promised):
        stream.overlay = start - 4, struct.pack("<I", found)
        return 1.0
    return promised / found if 0 < found < promised < LIMITLESS else 1.0


def _samples(stream: SoundStream) -> tuple[int, int]:
    """Where the samples start, and the bytes of them that are promised; (size, 0) where nothing says so."""
    head = stream.part(0, 12)
    if head[:4] == b".snd" and len(head) == 12:
        offset, size = struct.unpack(">II", head[4:])
        return offset, 0 if size == UNKNOWN else size
    layout = _LAYOUTS.get((head[:4], head[8:12]))
    if layout is None:
        return stream.size, 0
    at = layout.first
    for _ in range(MOST_CHUNKS):
        header = stream.part(at, layout.header.size)
        if len(header) < layout.header.size:
            break
        name, size = layout.header.unpack(header)
        size -= min(layout.counted, size)
        if name == layout.samples:
            return at + layout.header.size, _size_64(stream) if head[:4] == b"RF64" and size == UNKNOWN else size
        at += layout.header.size + size + -size % layout.align
    return stream.size, 0


def _size_64(stream: SoundStream) -> int:
    """The size of the samples in an RF64's first chunk, `ds64` (EBU Tech 3306, 4.2)."""
    return int.from_bytes(stream.part(28, 8), "little") if stream.part(12, 4) == b"ds64" else 0


def _was_piped(stream: SoundStream, start: int, promised: int) -> bool:
    """Whether the program that wrote this WAV could not go back to its header; samples start at byte `start`."""
    file_size = int.from_bytes(stream.part(4, 4), "little")  # of what follows these 8 bytes
    nothing_after = file_size + 8 <= start or file_size >= PIPED_BYTES
    return start < stream.size and (promised >= PIPED_BYTES or (promised == 0 and nothing_after))

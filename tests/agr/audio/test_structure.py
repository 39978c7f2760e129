"""What libsndfile is given: streams that never raise, lengths filled in, and what a header promises."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
import soundfile

from agr.audio.structure import MOST_CHUNKS, SoundStream, promised_share


def stream(data: bytes) -> SoundStream:
    return SoundStream(io.BytesIO(data), len(data))


def riff(*chunks: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 4 + sum(map(len, chunks))) + b"WAVE" + b"".join(chunks)


def chunk(name: bytes, size: int, data: bytes = b"") -> bytes:
    return name + struct.pack("<I", size) + data


@pytest.mark.parametrize(("offset", "whence"), [(-1, 0), (2**63 - 1, 1), (0, 7)])
def test_a_seek_to_nowhere_stays(offset: int, whence: int) -> None:
    given = stream(bytes(range(20)))
    assert given.seek(7) == 7
    assert given.seek(offset, whence) == given.tell() == 7


def test_a_read_that_fails_is_an_end() -> None:
    class Broken(io.BytesIO):
        def readinto(self, buffer: Any) -> int:
            raise OSError("input/output error")

    assert SoundStream(Broken(b"12345"), 5).readinto(bytearray(3)) == 0


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7, 20])
@pytest.mark.parametrize("at", [0, 1, 9, 16])
def test_an_overlay_is_read_wherever_a_read_begins(step: int, at: int) -> None:
    data = bytes(range(20))
    given = stream(data)
    given.overlay = at, b"WXYZ"
    read = b""
    buffer = bytearray(step)
    while count := given.readinto(memoryview(buffer).cast("c")):
        read += bytes(buffer[:count])
    assert read == data[:at] + b"WXYZ" + data[at + 4 :]


@pytest.mark.parametrize("promised", [0, 0x7FFFF000, 0xFFFFFFFF])
def test_a_piped_wav_gets_its_true_length(promised: int) -> None:
    given = stream(b"RIFF\xff\xff\xff\xffWAVE" + chunk(b"fmt ", 4, b"1234") + chunk(b"data", promised, bytes(100)))
    assert promised_share(given) == 1
    given.seek(28)
    buffer = bytearray(4)
    given.readinto(memoryview(buffer).cast("c"))
    assert struct.unpack("<I", buffer) == (100,)


def test_a_chunk_of_odd_size_is_followed_by_a_byte_that_does_not_count() -> None:
    assert promised_share(stream(riff(chunk(b"LIST", 3, b"abc\0"), chunk(b"data", 4, b"1234")))) == 1
    assert promised_share(stream(riff(chunk(b"LIST", 3, b"abc\0"), chunk(b"data", 5, b"1234")))) == 5 / 4


def test_endless_chunks_are_not_followed_to_their_end() -> None:
    class Counted(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1) -> bytes:
            self.reads += 1
            return super().read(size)

    file = Counted(riff(*[chunk(b"junk", 0)] * (3 * MOST_CHUNKS), chunk(b"data", 9)))
    assert promised_share(SoundStream(file, len(file.getvalue()))) == 1
    assert file.reads < MOST_CHUNKS + 10


@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU"])
@pytest.mark.parametrize("part", [0.25, 0.5, 1.0])
def test_what_a_header_promises_is_set_against_what_is_there(kind: str, part: float) -> None:
    data = io.BytesIO()
    soundfile.write(data, np.zeros(50_000), 8_000, format=kind, subtype="PCM_16")
    cut = data.getvalue()[: int(part * len(data.getvalue()))]
    assert promised_share(stream(cut)) == pytest.approx(1 / part, rel=0.02)


@pytest.mark.parametrize(
    "data", [b".snd" + struct.pack(">II", 24, 0xFFFFFFFF) + bytes(50), b"RIFF", b"", b"OggS" + bytes(50)]
)
def test_what_promises_nothing_misses_nothing(data: bytes) -> None:
    assert promised_share(stream(data)) == 1

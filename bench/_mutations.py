"""Sound files, spoiled: seeds of libsndfile and FFmpeg, and ways to damage them that know how the formats are built.

    file = mutated(seeds(), seed=0, number=17)        # the same bytes every time

A file is damaged one to four times over, most of them once. Sizes, counts, rates and channels take extreme values;
chunks, pages and blocks are dropped, doubled, swapped or said to be longer; formats are spliced and put into each
other. Checksums of Ogg pages are made right again in most files, as a decoder looks no further where they are wrong.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable, Sequence

import _av_seeds
import numpy as np
import soundfile

Random = np.random.Generator
WAVS = ("PCM_16", "PCM_24", "PCM_32", "PCM_U8", "FLOAT", "DOUBLE", "IMA_ADPCM", "MS_ADPCM", "ALAW", "ULAW", "GSM610")
BOXES = rb"ftyp|moov|trak|mdia|minf|stbl|st[ts]d|stsz|stsc|stco|elst|edts|mdhd|tkhd|mvhd|esds|alac|mp4a|samr|dref|mdat"
SERIAL = 1234567  # of Ogg streams: libsndfile draws another every time
EXTREMES: tuple[int, ...] = (
    *(0, 1, 2, 3, 7, 8, 0x7F, 0x80, 0xFF, 0x100, 1024, 1025, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFE),
    *(0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, 2**32, 2**36 - 1, 2**62, 2**63 - 1, 2**64 - 1),
)
RATES = (0, 1, 3_999, 4_000, 8_000, 11_025, 44_100, 192_000, 192_001, 655_350, 0x7FFFFFFF, 0xFFFFFFFF)
TAGS = (0, 1, 2, 3, 6, 7, 0x11, 0x31, 0x50, 0x55, 0x674F, 0xFFFE, 0xFFFF)
_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


def seeds(seconds: float = 0.15) -> list[bytes]:
    """Whole files of every format and depth, in one, two and three channels; the same bytes on every call."""
    rng = np.random.default_rng(0)
    kinds = [*(("WAV", subtype) for subtype in WAVS), ("WAVEX", "PCM_16"), ("RF64", "PCM_16"), ("W64", "PCM_16")]
    kinds += [("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")]
    kinds += [("AIFF", "PCM_16"), ("AU", "PCM_16"), ("CAF", "PCM_16")]
    made = []
    for number, (kind, subtype) in enumerate(kinds * 2):
        rate = (8_000, 16_000, 48_000)[number % 3] if subtype != "GSM610" else 8_000
        most = {"GSM610": 1, "IMA_ADPCM": 2, "MS_ADPCM": 2, "MPEG_LAYER_III": 2}.get(subtype, 3)
        channels = 1 + number % most
        y = np.sin(np.arange(int(seconds * rate)) * 900 / rate)[:, None] * np.linspace(0.3, 0.5, channels)
        buffer = io.BytesIO()
        noisy = y + 0.02 * rng.standard_normal(y.shape)
        soundfile.write(buffer, noisy, rate, format=kind, subtype=subtype)
        made.append(_steady(buffer.getvalue()))
    return [*made, *_av_seeds.seeds(seconds)]


def mutated(originals: Sequence[bytes], seed: int, number: int) -> bytes:
    """The file of that number."""
    rng = np.random.default_rng([seed, number])
    data = originals[int(rng.integers(len(originals)))]
    for _ in range(min(int(rng.geometric(0.6)), 4)):
        ways = _ways(data) if rng.random() < 0.6 else _ANY
        data = ways[int(rng.integers(len(ways)))](data, rng, originals)[: 2**20]
    return data


def _place(data: bytes, rng: Random) -> int:
    """Somewhere, in the first 128 bytes more often than elsewhere."""
    return int(rng.integers(max(1, min(len(data), 128) if rng.random() < 0.3 else len(data))))


def _put(data: bytes, at: int, field: bytes) -> bytes:
    return data[:at] + field + data[at + len(field) :]


def _extreme(rng: Random, size: int, order: str = "") -> bytes:
    """An integer at the edge of some range, of so many bytes."""
    little = order == "<" or (not order and rng.random() < 0.5)
    value = EXTREMES[int(rng.integers(len(EXTREMES)))] % (1 << 8 * size)
    return value.to_bytes(size, "little" if little else "big")


def _chosen(rng: Random, values: Sequence[int]) -> int:
    return int(values[int(rng.integers(len(values)))])


def _flip(data: bytes, rng: Random, originals: Sequence[bytes]) -> bytes:
    spoiled = bytearray(data)
    for _bit in range(int(rng.integers(1, 33)) if data else 0):
        spoiled[_place(data, rng)] ^= 1 << int(rng.integers(8))
    return bytes(spoiled)


def _overwrite(data: bytes, rng: Random, originals: Sequence[bytes]) -> bytes:
    return _put(data, _place(data, rng), _extreme(rng, _chosen(rng, (1, 2, 4, 8))))


def _cut(data: bytes, rng: Random, originals: Sequence[bytes]) -> bytes:
    return data[: int(rng.integers(len(data) + 1))]


def _drop(data: bytes, rng: Random, originals: Sequence[bytes]) -> bytes:
    at = _place(data, rng)
    return data[:at] + data[at + int(rng.integers(1, 200)) :]


def _repeat(data: bytes, rng: Random, originals: Sequence[bytes]) -> bytes:
    at, size = _place(data, rng), int(rng.integers(1, 400))
    return data[:at] + data[at : at + size] * int(rng.integers(2, 20)) + data[at + size :]


def _insert(data: bytes, rng: Random, originals: Sequence[bytes]) -> bytes:
    at, size = _place(data, rng), int(rng.integers(1, 300))
    return data[:at] + (rng.bytes(size) if rng.random() < 0.5 else bytes(size)) + data[at:]


def _splice(data: bytes, rng: Random, originals: Sequence[bytes]) -> bytes:
    other = originals[int(rng.integers(len(originals)))]
    return data[: int(rng.integers(len(data) + 1))] + other[int(rng.integers(len(other))) :]


def _nest(data: bytes, rng: Random, originals: Sequence[bytes]) -> bytes:
    """Put into the samples of a WAV, with any format tag."""
    head = originals[int(rng.integers(len(WAVS)))][:36]
    tag = struct.pack("<H", _chosen(rng, TAGS))
    return _put(head, 20, tag) + b"data" + struct.pack("<I", len(data)) + data


def _tagged(data: bytes, rng: Random, originals: Sequence[bytes]) -> bytes:
    """An ID3 tag before or behind, whose size may be wrong."""
    if rng.random() < 0.3:
        return data + b"TAG" + rng.bytes(125)
    body = bytes(rng.bytes(int(rng.integers(0, 300))))
    size = len(body) if rng.random() < 0.4 else int(rng.integers(2**28))
    packed = bytes(size >> shift & 127 for shift in (21, 14, 7, 0))
    return b"ID3" + bytes([int(rng.integers(2, 6)), 0, int(rng.integers(256))]) + packed + body + data


def _chunks(data: bytes) -> list[bytes]:
    """The chunks of a RIFF file, each with its head."""
    at, found = 12, []
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        found.append(data[at : at + 8 + size + size % 2])
        at += 8 + size + size % 2
    return found


def _riff_chunks(data: bytes, rng: Random, originals: Sequence[bytes]) -> bytes:
    """Chunks in another order, more than once, not at all, of another size, or with others between."""
    chunks = _rearranged(_chunks(data), rng)
    if rng.random() < 0.5:
        kind = (b"LIST", b"fact", b"cue ", b"smpl", b"bext", b"PEAK", b"id3 ", b"ds64", b"fmt ")[int(rng.integers(9))]
        body = _extreme(rng, 4) * int(rng.integers(0, 40))
        size = struct.pack("<I", len(body)) if rng.random() < 0.6 else _extreme(rng, 4, "<")
        chunks.insert(int(rng.integers(len(chunks) + 1)), kind + size + body)
    return data[:12] + b"".join(chunks)


def _riff_sizes(data: bytes, rng: Random, originals: Sequence[bytes]) -> bytes:
    chunks = _chunks(data)
    if not chunks or rng.random() < 0.2:
        return _put(data, 4, _extreme(rng, 4, "<"))
    number = int(rng.integers(len(chunks)))
    chunks[number] = _put(chunks[number], 4, _extreme(rng, 4, "<"))
    return data[:12] + b"".join(chunks)


def _riff_format(data: bytes, rng: Random, originals: Sequence[bytes]) -> bytes:
    """Another format tag, number of channels, rate, bytes a second, alignment or depth."""
    at = data.find(b"fmt ")
    if at < 0:
        return data
    field = int(rng.integers(6))
    value = (_chosen(rng, TAGS), _chosen(rng, EXTREMES), _chosen(rng, RATES), *(_chosen(rng, EXTREMES),) * 3)[field]
    offset, size = ((8, 2), (10, 2), (12, 4), (16, 4), (20, 2), (22, 2))[field]
    return _put(data, at + offset, (value % 256**size).to_bytes(size, "little"))


def _rearranged(parts: list[bytes], rng: Random) -> list[bytes]:
    parts = list(parts)
    for _ in range(int(rng.integers(1, 3)) if parts else 0):
        one, other = (int(rng.integers(len(parts))) for _ in range(2))
        way = int(rng.integers(3))
        if way == 0:
            parts[one], parts[other] = parts[other], parts[one]
        elif way == 1:
            parts.insert(one, parts[other])
        elif len(parts) > 1:
            del parts[one]
    return parts


def _pages(data: bytes) -> list[bytes]:
    """The pages of an Ogg file."""
    starts = [found.start() for found in re.finditer(b"OggS", data)]
    return [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]


def _ogg_pages(data: bytes, rng: Random, originals: Sequence[bytes]) -> bytes:
    return b"".join(_rearranged(_pages(data), rng))


def _ogg_fields(data: bytes, rng: Random, originals: Sequence[bytes]) -> bytes:
    """Version, flags, position, serial, number, segments or content of a page; mostly with the right checksum."""
    pages = _pages(data)
    number = int(rng.integers(len(pages))) if pages else 0
    for _ in range(int(rng.integers(1, 4)) if pages else 0):
        field, size = ((4, 1), (5, 1), (6, 8), (14, 4), (18, 4), (26, 1), (27, 1), (28, 4), (35, 4))[
            int(rng.integers(9))
        ]
        pages[number] = _put(pages[number], field, _extreme(rng, size, "<"))
        if rng.random() < 0.5:
            inside = int(rng.integers(28, max(29, min(len(pages[number]), 80))))
            pages[number] = _put(pages[number], inside, _extreme(rng, _chosen(rng, (1, 2, 4)), "<"))
    right = rng.random() < 0.8
    return b"".join(_checksummed(page) if right else page for page in pages)


def _checksummed(page: bytes) -> bytes:
    """With the checksum of RFC 3533: zlib's, bit-reversed, from 0."""
    if len(page) < 27:
        return page
    blank = _put(page, 22, bytes(4))
    crc = zlib.crc32(blank.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return _put(page, 22, int(f"{crc:032b}"[::-1], 2).to_bytes(4, "little"))


def _steady(data: bytes) -> bytes:
    """Without what differs from call to call: an Ogg's pages carry SERIAL, a WAV's PEAK chunk no time."""
    if data[:4] == b"OggS":
        return b"".join(_checksummed(_put(page, 14, struct.pack("<I", SERIAL))) for page in _pages(data))
    peak = data.find(b"PEAK", 0, 200)
    return data if peak < 0 else _put(data, peak + 12, bytes(4))


def _flac_blocks(data: bytes, rng: Random, originals: Sequence[bytes]) -> bytes:
    """The first metadata block's fields, a block's type or length, or blocks that are not there."""
    way = int(rng.integers(4))
    if way == 0:  # rate (20 bits), channels (3), depth (5) and frames (36)
        return _put(data, 18, _extreme(rng, 8) if rng.random() < 0.5 else rng.bytes(8))
    if way == 1:
        return _put(data, 4, bytes([int(rng.integers(256))]) + _extreme(rng, 3))
    if way == 2:
        return _put(data, 8, _extreme(rng, 2) + _extreme(rng, 2))  # smallest and largest block
    body = rng.bytes(int(rng.integers(0, 200)))
    size = len(body) if rng.random() < 0.5 else int.from_bytes(_extreme(rng, 3), "big")
    return data[:42] + bytes([int(rng.integers(128))]) + size.to_bytes(3, "big") + body + data[42:]


def _mp3_frames(data: bytes, rng: Random, originals: Sequence[bytes]) -> bytes:
    """Other frame headers, and Xing headers that promise anything."""
    starts = [found.start() for found in re.finditer(rb"\xff[\xe0-\xff]", data)]
    for _ in range(int(rng.integers(1, 4)) if starts else 0):
        at = _chosen(rng, starts)
        data = _put(data, at + 1, bytes([0xE0 | int(rng.integers(32))]) + rng.bytes(2))
    at = max(data.find(b"Xing"), data.find(b"Info"))
    if at >= 0 and rng.random() < 0.6:
        return _put(data, at + 4, _extreme(rng, 4, ">") + _extreme(rng, 4, ">") + _extreme(rng, 4, ">"))
    return _put(data, 36, b"Xing" + _extreme(rng, 4, ">") + _extreme(rng, 4, ">")) if rng.random() < 0.3 else data


def _boxes(data: bytes, rng: Random, originals: Sequence[bytes]) -> bytes:
    """Of an MP4: boxes of another size or name, and other numbers in the tables of samples."""
    starts = [found.start() - 4 for found in re.finditer(BOXES, data) if found.start() >= 4]
    for _ in range(int(rng.integers(1, 4)) if starts else 0):
        at = _chosen(rng, starts)
        place = at + _chosen(rng, (0, 4, 8, 12, 16, 20, 24))
        data = _put(data, place, _extreme(rng, 4, ">") if rng.random() < 0.7 else rng.bytes(4))
    return data


Way = Callable[[bytes, Random, Sequence[bytes]], bytes]
_ANY: tuple[Way, ...] = (_flip, _overwrite, _overwrite, _cut, _drop, _repeat, _insert, _splice, _nest, _tagged)
_RIFF: tuple[Way, ...] = (_riff_chunks, _riff_sizes, _riff_format, _riff_format)
_OGG: tuple[Way, ...] = (_ogg_pages, _ogg_fields, _ogg_fields)


def _ways(data: bytes) -> tuple[Way, ...]:
    """How to damage a file of this format."""
    if data[:1] == b"\xff" or data[:3] == b"ID3":
        return (_mp3_frames,)
    if data[4:8] == b"ftyp":
        return (_boxes, _boxes)
    return {b"RIFF": _RIFF, b"RF64": _RIFF, b"OggS": _OGG, b"fLaC": (_flac_blocks,)}.get(data[:4], _ANY)

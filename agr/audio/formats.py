"""What is in a file, told by its content: which kind of sound, or what else it is.

The table is also what FFmpeg is allowed to read: each kind names one demuxer, none of which opens other files.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

HEAD = 2**12  # bytes that are looked at
Part = Callable[[int, int], bytes]  # so many bytes of a file, from a place


@dataclass(frozen=True)
class Format:
    """A kind of sound file."""

    name: str
    demuxer: str | None  # of FFmpeg; None: only libsndfile reads it
    sndfile: bool = False  # whether libsndfile is tried first
    promises: bool = True  # whether the duration that FFmpeg tells is one that the file promises, no estimate


_MP3 = Format("MP3", "mp3", sndfile=True, promises=False)
_AAC = Format("AAC", "aac", promises=False)
_ASF = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"
_W64 = b"riff\x2e\x91\xcf\x11"
_MAGIC: tuple[tuple[re.Pattern[bytes], Format], ...] = tuple(
    (re.compile(pattern, re.DOTALL), kind)
    for pattern, kind in (
        (rb"(RIFF|RF64|BW64|RIFX)....WAVE", Format("WAV", "wav", sndfile=True)),
        (re.escape(_W64), Format("W64", "w64", sndfile=True)),
        (rb"RIFF....AVI ", Format("AVI", "avi")),
        (rb"FORM....AIF[FC]", Format("AIFF", "aiff", sndfile=True)),
        (rb"FORM....(8SVX|16SV)", Format("SVX", "iff", sndfile=True)),
        (rb"caff\x00\x01", Format("CAF", "caf", sndfile=True)),
        (rb"\.snd|dns\.", Format("AU", "au", sndfile=True)),
        (rb"fLaC", Format("FLAC", "flac", sndfile=True)),
        (rb"OggS", Format("Ogg", "ogg", sndfile=True, promises=False)),
        (rb"#!AMR", Format("AMR", "amr", promises=False)),
        (rb"....(ftyp|moov|mdat|wide|pnot|(free|skip)....(....)?.*(moov|mdat))", Format("MPEG-4", "mov")),
        (rb"\x1a\x45\xdf\xa3", Format("Matroska", "matroska")),
        (re.escape(_ASF), Format("ASF", "asf")),
        (rb"FLV\x01", Format("FLV", "flv")),
        (rb"\x0b\x77...[\x58-\x8f]", Format("E-AC-3", "eac3", promises=False)),
        (rb"\x0b\x77...[\x00-\x57]", Format("AC-3", "ac3", promises=False)),
        (rb"(\x7f\xfe\x80\x01|\xfe\x7f\x01\x80)", Format("DTS", "dts", promises=False)),
        (rb"G.{187}G.{187}G", Format("MPEG-TS", "mpegts", promises=False)),
        (rb"\x00\x00\x01\xba", Format("MPEG-PS", "mpeg", promises=False)),
        (rb"wvpk", Format("WavPack", "wv")),
        (rb"MAC ", Format("APE", "ape")),
        (rb"TTA1", Format("TTA", "tta")),
        (rb"MP\+", Format("Musepack", "mpc")),
        (rb"MPCK", Format("Musepack", "mpc8")),
        (rb"DSD ", Format("DSF", "dsf")),
        (rb"NIST_1A\n", Format("SPHERE", "nistsphere", sndfile=True)),
        (rb"Creative Voice File", Format("VOC", "voc", sndfile=True)),
        (rb"(\x64\xa3[\x01-\x04]\x00|\x00[\x01-\x04]\xa3\x64)", Format("IRCAM", "ircam", sndfile=True)),
        (rb"( paf|fap )", Format("PAF", None, sndfile=True)),
        (rb"PVF1\n", Format("PVF", "pvf", sndfile=True)),
        (rb"2BIT", Format("AVR", "avr", sndfile=True)),
    )
)
_OTHERS: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), what)
    for pattern, what in (
        (
            rb"\xff\xd8\xff|\x89PNG|GIF8|BM....\x00\x00\x00\x00|II\*\x00|MM\x00\*|RIFF....WEBP|\x00\x00\x01\x00",
            "an image",
        ),
        (rb"....ftyp(heic|heix|mif1|msf1|avif)", "an image"),
        (rb"%PDF", "a PDF document"),
        (rb"PK\x03\x04|\x1f\x8b|BZh|7z\xbc\xaf|\xfd7zXZ|Rar!", "an archive"),
        (rb"SQLite format 3", "a database"),
        (rb"MThd", "MIDI, notes without sound"),
        (rb"\x7fELF|MZ", "a program"),
        (rb"(\s|\xef\xbb\xbf)*(\[playlist\]|#EXTM3U|<\?xml|<!DOCTYPE|<html|\{)", "text"),
    )
)
_SYNC = re.compile(rb"\xff[\xe0-\xff]")
_KBITS = {  # of MPEG audio, by whether it is version 1, and by layer (ISO 11172-3, 13818-3)
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def recognised(part: Part) -> Format | None:
    """The kind of sound file, told by its first bytes and by what stands behind an ID3 tag; None for what is none."""
    start = _behind_tags(part)
    head = part(start, HEAD)
    if any(pattern.match(head) for pattern, _ in _OTHERS):
        return None
    for pattern, kind in _MAGIC:
        if pattern.match(head):
            return kind
    return _frames(head) or (_MP3 if start else None)


def described(head: bytes) -> str:
    """What a file that is no sound is, for a message."""
    if not head:
        return "an empty file"
    for pattern, what in _OTHERS:
        if pattern.match(head):
            return what
    if not head.strip(b"\x00"):
        return "nothing but zeros"
    return "text" if _is_text(head) else "data of an unknown kind"


def _behind_tags(part: Part) -> int:
    """Where the sound starts: after ID3v2 tags (id3.org, ID3v2.4.0, 3.1)."""
    start = 0
    for _ in range(8):
        head = part(start, 10)
        if head[:3] != b"ID3" or len(head) < 10:
            break
        start += 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    return start


def _is_text(head: bytes) -> bool:
    """Whether bytes look like text in UTF-8, UTF-16 or an 8-bit code."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return True
    return not re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]", head)


def _frames(head: bytes) -> Format | None:
    """MP3 or AAC without a container: frames, each of which says where the next one starts, here three in a row."""
    if _is_text(head):
        return None
    for match in _SYNC.finditer(head):
        at, count = match.start(), 0
        while count < 3 and (size := _frame_size(head[at : at + 7])):
            at, count = at + size, count + 1
        if count == 3 or (count and match.start() == 0 and at >= len(head)):
            start = head[match.start() + 1]
            return _MP3 if start & 6 else _AAC
    return None


def _frame_size(header: bytes) -> int:
    """Bytes of the frame of MPEG audio or ADTS that starts so; 0 where none does."""
    if len(header) < 7 or header[0] != 0xFF or header[1] < 0xE0:
        return 0
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    if layer == 4:  # ADTS (ISO 13818-7, 6.2)
        size = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
        return size if header[1] >= 0xF0 and header[2] >> 2 & 15 < 13 and size > 7 else 0
    bits, rate = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or not 0 < bits < 15 or rate == 3:
        return 0
    hz = (44_100, 48_000, 32_000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
    kbits, padding = _KBITS[version == 3, layer][bits - 1], header[2] >> 1 & 1
    if layer == 1:
        return (12_000 * kbits // hz + padding) * 4
    return (72_000 if layer == 3 and version != 3 else 144_000) * kbits // hz + padding

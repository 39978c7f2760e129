"""Which kind of sound is in a file, told by its content, and what else a file may be."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile

from agr.audio.formats import described, recognised


def kind(data: bytes) -> str | None:
    found = recognised(lambda at, size: data[at : at + size])
    return None if found is None else found.name


def written(form: str, rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    y = 0.1 * np.random.default_rng(0).standard_normal(rate)
    soundfile.write(file, y, rate, format=form, subtype=soundfile.default_subtype(form))
    return file.getvalue()


@pytest.mark.parametrize(
    ("form", "name"),
    [
        *(("WAV", "WAV"), ("WAVEX", "WAV"), ("RF64", "WAV"), ("W64", "W64"), ("AIFF", "AIFF"), ("CAF", "CAF")),
        *(("AU", "AU"), ("FLAC", "FLAC"), ("OGG", "Ogg"), ("MP3", "MP3"), ("SVX", "SVX"), ("NIST", "SPHERE")),
        *(("VOC", "VOC"), ("IRCAM", "IRCAM"), ("PAF", "PAF"), ("PVF", "PVF"), ("AVR", "AVR")),
    ],
)
def test_what_libsndfile_writes_is_recognised(form: str, name: str) -> None:
    assert kind(written(form)) == name


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
def test_an_mp3_is_told_by_its_frames_after_tags_and_a_little_rubbish(rate: int) -> None:
    data = written("MP3", rate)
    tag = b"ID3\4\0\0" + bytes([0, 0, 2, 5]) + bytes(256 + 5)
    assert [kind(data), kind(tag + data), kind(tag + tag + data), kind(bytes(300) + data)] == ["MP3"] * 4
    assert kind(tag + written("FLAC")) == "FLAC"


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"path,speaker,gender\na.wav,1,f\n", "text"),
        ("Größe\n".encode("utf-16"), "text"),
        ("Größe\n".encode("latin-1"), "text"),
        (b"#EXTM3U\nhttp://example.org/a.mp3\n", "text"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "text"),
        (b"v=0\no=- 0 0 IN IP4 127.0.0.1\n", "text"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "an image"),
        (b"\xff\xd8\xff\xe0" + bytes(50), "an image"),
        (b"\0\0\0\x18ftypheic" + bytes(50), "an image"),
        (b"RIFF" + struct.pack("<I", 50) + b"WEBPVP8 ", "an image"),
        (b"%PDF-1.7\n%\xe2\xe3", "a PDF document"),
        (b"PK\3\4" + bytes(50), "an archive"),
        (b"MThd\0\0\0\6", "MIDI, notes without sound"),
        (bytes(5_000), "nothing but zeros"),
        (b"", "an empty file"),
        (np.random.default_rng(5).bytes(4_096), "data of an unknown kind"),
    ],
)
def test_what_is_no_sound_is_not_taken_for_any_and_is_called_what_it_is(head: bytes, what: str) -> None:
    assert kind(head) is None
    assert described(head) == what

"""Folders walked by content."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from agr.audio.files import find, walk


@pytest.fixture
def sound() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, 0.1 * np.random.default_rng(0).standard_normal(4_000), 8_000, format="FLAC")
    return file.getvalue()


def placed(folder: Path, name: str, data: bytes) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def test_sounds_are_found_by_content_or_where_that_is_damaged_by_name_in_sorted_order(
    tmp_path: Path, sound: bytes
) -> None:
    names = ["B.WAV", "a", "a.d/z.mp3", "a/x", "c.txt", "sub/.hidden", "sub/noise.m4a"]
    for name in names:
        placed(tmp_path, name if name != "a" else "a0", b"damaged" if name == "sub/noise.m4a" else sound)
    placed(tmp_path, "notes.txt", b"text")
    placed(tmp_path, "sub/.DS_Store", bytes(range(256)))
    found = [path.relative_to(tmp_path).as_posix() for path in find(tmp_path)]
    assert found == ["B.WAV", "a/x", "a.d/z.mp3", "a0", "c.txt", "sub/.hidden", "sub/noise.m4a"]
    assert found == [path.as_posix() for path in sorted(map(Path, found))]


def test_everything_else_is_named_with_what_it_is(tmp_path: Path, sound: bytes) -> None:
    placed(tmp_path, "a.csv", b"a,b\n1,2\n")
    placed(tmp_path, "b.dat", b"")
    placed(tmp_path, "deep/c.png", b"\x89PNG\r\n")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path)
    placed(tmp_path, "s", sound)
    (tmp_path / "t").symlink_to(tmp_path / "s")
    assert [(path.relative_to(tmp_path).as_posix(), other) for path, other in walk(tmp_path)] == [
        ("a.csv", "text"),
        ("b.dat", "an empty file"),
        ("deep/c.png", "an image"),
        ("gone", "cannot be read: No such file or directory"),
        ("loop", "a link to a folder, which is not followed"),
        ("s", None),
        ("t", None),
    ]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_a_folder_is_named_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    assert list(walk(tmp_path)) == [(tmp_path / "pipe.wav", "no regular file")]


@pytest.mark.parametrize("name", ["Thumbs.db", "desktop.ini", ".DS_Store", "._voice.m4a"])
def test_what_only_a_system_reads_is_left_out(tmp_path: Path, name: str) -> None:
    placed(tmp_path, name, b"\0\5\x16\7\0\2\0\0Mac OS X")
    assert list(walk(tmp_path)) == []

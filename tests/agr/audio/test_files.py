"""Folders walked by content."""

from __future__ import annotations

import io
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from agr.audio.files import find, read_bytes, walk
from agr.errors import UnreadableAudio


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
    assert [(each.path.relative_to(tmp_path).as_posix(), each.other, each.closed) for each in walk(tmp_path)] == [
        ("a.csv", "text", False),
        ("b.dat", "an empty file", False),
        ("deep/c.png", "an image", False),
        ("gone", "cannot be read: No such file or directory", True),
        ("loop", "a link to a folder, which is not followed", True),
        ("s", None, False),
        ("t", None, False),
    ]


def pipe(path: Path) -> None:
    os.mkfifo(path)


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


SPECIAL = [(pipe, "a named pipe"), (bound_socket, "a socket"), (device, "a device")]


@pytest.mark.skipif(os.name != "posix", reason="needs named pipes, sockets and devices")
@pytest.mark.parametrize(("make", "other"), SPECIAL)
def test_what_would_be_waited_for_is_named_and_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], other: str
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    path = Path("odd.wav")
    make(path)
    assert list(walk(tmp_path)) == [(tmp_path / path, other, True)]
    with pytest.raises(UnreadableAudio, match=rf"^odd\.wav: {other}; expected a sound file$"):
        read_bytes(path)


@pytest.mark.skipif(not os.path.exists("/dev/fd/0"), reason="needs /dev/fd")
def test_a_pipe_that_is_open_already_is_read(sound: bytes) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading), os.fdopen(writing, "wb") as file:
        file.write(sound[:1_000])
        file.close()
        assert read_bytes(Path(f"/dev/fd/{reading}")) == sound[:1_000]


@pytest.mark.skipif(sys.platform != "linux", reason="needs paths of over 2,000 bytes")
def test_folders_may_be_nested_deeper_than_calls_may(tmp_path: Path, sound: bytes) -> None:
    depth = sys.getrecursionlimit() + 200
    folder = tmp_path
    for _ in range(depth):  # one at a time: makedirs is recursive itself
        folder /= "d"
        folder.mkdir()
    placed(folder, "voice.wav", sound)
    assert find(tmp_path) == [folder / "voice.wav"]
    for _ in range(depth):  # and so is the removal of temporary folders
        for path in (folder / "voice.wav", folder):
            if path.is_file():
                path.unlink()
            elif path.is_dir():
                path.rmdir()
        folder = folder.parent


@pytest.mark.parametrize("name", ["Thumbs.db", "desktop.ini", ".DS_Store", "._voice.m4a"])
def test_what_only_a_system_reads_is_left_out(tmp_path: Path, name: str) -> None:
    placed(tmp_path, name, b"\0\5\x16\7\0\2\0\0Mac OS X")
    assert list(walk(tmp_path)) == []


def test_a_name_that_no_file_can_have_is_one_line() -> None:
    with pytest.raises(UnreadableAudio, match=r"^a\x00b: no name that a file can have; expected a sound file$"):
        read_bytes(Path("a\0b"))

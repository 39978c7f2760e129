"""A file is there whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agr.files import write_atomic


def test_it_writes_replaces_and_makes_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.bin"
    write_atomic(path, b"first, and longer")
    write_atomic(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("step", ["fdopen", "replace"])
def test_a_failure_leaves_the_old_file_and_no_debris(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "c.bin"
    write_atomic(path, b"old")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_while_it_is_written_the_file_has_another_name_in_the_same_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def look(source: str, target: Path) -> None:
        temporary = Path(source)
        seen.append((temporary.parent, temporary.suffix, temporary.read_bytes(), target.exists()))

    monkeypatch.setattr(os, "replace", look)
    write_atomic(tmp_path / "x.jpg", b"image")
    assert seen == [(tmp_path, ".tmp", b"image", False)]

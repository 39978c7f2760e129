"""Atomic writes, and the digest that recordings are known by."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agr.common.files import content_digest, write_atomic


def test_content_digest_is_the_one_that_bundles_and_manifests_hold() -> None:
    assert content_digest(b"") == "e3b0c44298fc1c149afbf4c8996fb924"


def test_write_replaces_the_file_and_makes_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.bin"
    write_atomic(path, b"first, and longer")
    write_atomic(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("step", ["agr.common.files.FileIO", "os.replace"])
def test_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "c.bin"
    write_atomic(path, b"old")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(step, full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_temporary_file_is_in_the_same_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def look(source: str, target: Path) -> None:
        temporary = Path(source)
        seen.append((temporary.parent, temporary.suffix, temporary.read_bytes(), target.exists()))

    monkeypatch.setattr(os, "replace", look)
    write_atomic(tmp_path / "x.jpg", b"image")
    assert seen == [(tmp_path, ".tmp", b"image", False)]

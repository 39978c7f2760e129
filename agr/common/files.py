"""Atomic writes, and digests of files and folders."""

from __future__ import annotations

import hashlib
import os
from io import FileIO
from pathlib import Path


def content_digest(data: bytes | memoryview) -> str:
    """32 hex digits of SHA-256 by which a recording is known, whatever its file is called."""
    return hashlib.sha256(data).hexdigest()[:32]


def file_digest(path: Path) -> str:
    """The `content_digest` of a file of any size. Raises: OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def tree_digest(folder: Path) -> str:
    """SHA-256, in hex, of the names and contents of all plain files below a folder. Raises: OSError."""
    files = ((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*") if path.is_file())
    digest = hashlib.sha256()
    for name, path in sorted(files):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{content} {name}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def write_atomic(path: Path, data: bytes, durable: bool = False) -> None:
    """Write to a temporary sibling, then rename: a kill leaves the old file, the new one, or none.

    durable: A power cut does so too; the disk is waited for.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{os.getpid()}.tmp")
    try:
        with _new_file(temporary) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _new_file(path: str) -> FileIO:
    """Without a buffer or pathlib: for ten thousands of images they would cost more than the disk."""
    try:
        return FileIO(path, "w")
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return FileIO(path, "w")

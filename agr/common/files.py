"""Atomic writes, and digests of files and folders."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def content_digest(data: bytes) -> str:
    """32 hex digits of SHA-256 by which a recording is known, whatever its file is called."""
    return hashlib.sha256(data).hexdigest()[:32]


def tree_digest(folder: Path) -> str:
    """SHA-256, in hex, of the names and contents of all plain files below a folder. Raises: OSError."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    digest = hashlib.sha256()
    for name in sorted(files):
        with files[name].open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{content} {name}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def write_atomic(path: Path, data: bytes) -> None:
    """Write to a temporary sibling, then rename: a kill leaves the old file, the new one, or none."""
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{os.getpid()}.tmp")
    try:
        _write(temporary, data)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _write(path: str, data: bytes) -> None:
    """Write with plain system calls: for ten thousands of images pathlib would cost more than the disk."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
    try:
        file = os.open(path, flags, 0o666)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        file = os.open(path, flags, 0o666)
    with os.fdopen(file, "wb", buffering=0) as stream:
        view = memoryview(data)
        while view:
            view = view[stream.write(view) :]

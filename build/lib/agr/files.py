"""Files that nobody ever sees half of, and one digest for all files of a folder."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def tree_digest(folder: Path) -> str:
    """SHA-256, in hex, of the names and the contents of all plain files below a folder. Raises: OSError."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    whole = hashlib.sha256()
    for name in sorted(files):
        with files[name].open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(f"{content} {name}\n".encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


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
    """Plain calls of the system: images are written by the ten thousand, and pathlib costs more than the disk."""
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

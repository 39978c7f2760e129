"""Files in a folder, or behind any URI that pyarrow.fs or fsspec can open (s3://..., gs://...)."""

from __future__ import annotations

import os
import re
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pyarrow import ArrowInvalid, ArrowNotImplementedError
from pyarrow import fs as arrow

from agr.common.credentials import hide
from agr.common.processes import driver, is_dead
from agr.errors import SettingsError

TEMPORARY = ".tmp"
PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds between two attempts to read from a network


@dataclass(frozen=True)
class StoredFile:
    """A file in a storage."""

    name: str  # its path below the root
    size: int  # in bytes
    changed: float  # when it was last written, in seconds since 1970; 0 where the storage does not say


class Storage:
    """Files below one root. Writes are atomic; the methods raise OSError if the storage does not answer."""

    def __init__(self, uri: str) -> None:
        """Open a path or URI; nothing is written. Raises: SettingsError if the URI cannot be opened."""
        self._system, self._root = _open(uri)
        self._local = isinstance(self._system, arrow.LocalFileSystem)

    def write(self, name: str, data: bytes) -> None:
        """Write a file atomically: by renaming a temporary file on a disk, by one upload to an object store."""
        path = f"{self._root}/{name}"
        target = f"{path}.{driver().replace(':', '-')}-{uuid.uuid4().hex[:8]}{TEMPORARY}" if self._local else path
        if self._local:
            self._system.create_dir(os.path.dirname(path), recursive=True)
        try:
            with self._system.open_output_stream(target) as stream:
                stream.write(data)
            if target != path:
                self._system.move(target, path)
        except BaseException:
            if target != path:
                Path(target).unlink(missing_ok=True)
            raise

    def link(self, path: Path, name: str) -> bool:
        """Give a file of this machine a second name here, which takes no room; returns whether that was possible."""
        if self._local:
            with suppress(OSError):
                target = Path(self._root, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.hardlink_to(path)
                return True
        return False

    def path(self, name: str) -> Path | None:
        """Where a file lies, if this machine sees the storage as a folder."""
        return Path(self._root, name) if self._local else None

    def read(self, name: str, limit: int | None = None) -> bytes | None:
        """Read a file, or its first `limit` bytes; None if there is no such file."""
        found = self.head(name, limit)
        return found[0] if found else None

    def head(self, name: str, limit: int | None = None) -> tuple[bytes, int] | None:
        """Read a file's first `limit` bytes (None: all) and its size in bytes; None if there is no such file."""
        for pause in () if self._local else PAUSES:
            with suppress(OSError):
                return self._head(name, limit)
            time.sleep(pause)
        return self._head(name, limit)

    def _head(self, name: str, limit: int | None) -> tuple[bytes, int] | None:
        try:
            with self._system.open_input_file(f"{self._root}/{name}") as stream:
                return bytes(stream.read(limit)), int(stream.size())
        except FileNotFoundError:
            return None

    def delete(self, name: str) -> None:
        """Delete a file if it exists."""
        with suppress(FileNotFoundError):
            self._system.delete_file(f"{self._root}/{name}")

    def clear(self) -> None:
        """Delete all files, and the root itself."""
        with suppress(FileNotFoundError):
            self._system.delete_dir(self._root)

    def abandoned(self) -> Iterator[str]:
        """The names of temporary files whose writers were killed on this machine."""
        host = socket.gethostname()
        writer = rf"\.{re.escape(host)}-(\d+)(?:-(\d+))?-[0-9a-f]{{8}}{re.escape(TEMPORARY)}$"
        for file in self.files(TEMPORARY) if self._local else ():
            found = re.search(writer, file.name)  # earlier versions wrote names without the start of the process
            if found and is_dead(f"{host}:{found[1]}:{found[2] or ''}"):
                yield file.name

    def files(self, suffix: str, folder: str = "") -> Iterator[StoredFile]:
        """All files, or all files in a folder and its subfolders, whose names end with `suffix`."""
        top = f"{self._root}/{folder}" if folder else self._root
        selector = arrow.FileSelector(top, allow_not_found=True, recursive=True)
        for info in self._system.get_file_info(selector):
            if info.is_file and info.path.endswith(suffix):
                changed = info.mtime.timestamp() if info.mtime else 0.0
                yield StoredFile(info.path[len(self._root) + 1 :], info.size, changed)


def absolute(uri: str) -> str:
    """Make a path absolute; of a URI, only slashes at its end are removed."""
    return uri.rstrip("/") if "://" in uri else os.path.abspath(uri)


def below(uri: str, name: str) -> str:
    """The URI of `name` inside `uri`; a query such as ?region=... stays at the end."""
    head, mark, settings = uri.partition("?") if "://" in uri else (uri, "", "")
    return f"{head.rstrip('/')}/{name}{mark}{settings}"


def _open(uri: str) -> tuple[arrow.FileSystem, str]:
    if "://" not in uri:
        return arrow.LocalFileSystem(), os.path.abspath(uri)
    wanted = "a folder or bucket that can be reached"
    try:
        try:
            system, root = arrow.FileSystem.from_uri(uri)
        except (ArrowInvalid, ArrowNotImplementedError):
            import fsspec

            wanted = "a path, or a URI of pyarrow.fs or fsspec"
            found, root = fsspec.core.url_to_fs(uri)
            system = arrow.PyFileSystem(arrow.FSSpecHandler(found))
    except (ValueError, ImportError, OSError) as error:
        raise SettingsError(hide(f"{uri}: {error}; expected {wanted}", uri)) from None
    return system, str(root).rstrip("/")

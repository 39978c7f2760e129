"""Whole files by name, on a local disk or behind any URI that pyarrow.fs or fsspec can open (s3://..., gs://...).

storage = Storage("s3://bucket/stages")
storage.write("ab/x", b"data")
storage.read("ab/x")
"""

from __future__ import annotations

import os
import re
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pyarrow import ArrowInvalid, ArrowNotImplementedError
from pyarrow import fs as arrow

from agr.common.credentials import hide
from agr.errors import SettingsError

TEMPORARY = ".tmp"
HOST = socket.gethostname()
PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds between two attempts to read from a network
T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """A file in a storage.

    Attributes:
        name: Its path below the root.
        size: In bytes.
        changed: When it was last written, in seconds since 1970; 0 where the storage does not say.
    """

    name: str
    size: int
    changed: float


class Storage:
    """Whole files below one root; a reader sees a file whole or not at all.

    The methods raise OSError if the storage does not answer.
    """

    def __init__(self, uri: str) -> None:
        """Open the storage without writing anything.

        Args:
            uri: A path, or a URI that pyarrow.fs or fsspec can open.

        Raises:
            SettingsError: If the URI cannot be opened.
        """
        self._system, self._root = _open(uri)
        self._local = isinstance(self._system, arrow.LocalFileSystem)

    def write(self, name: str, data: bytes) -> None:
        """Write a file atomically: by renaming a temporary file on a disk, by one upload to an object store."""
        path = f"{self._root}/{name}"
        target = f"{path}.{HOST}-{os.getpid()}-{uuid.uuid4().hex[:8]}{TEMPORARY}" if self._local else path
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

    def read(self, name: str, limit: int | None = None) -> bytes | None:
        """Read a file, or its first `limit` bytes; None if there is no such file."""

        def read() -> bytes | None:
            try:
                with self._system.open_input_file(f"{self._root}/{name}") as stream:
                    return bytes(stream.read(limit))
            except FileNotFoundError:
                return None

        return self._patiently(read)

    def head(self, name: str, limit: int) -> tuple[bytes, int] | None:
        """Read a file's first `limit` bytes and its size in bytes; None if there is no such file."""

        def read() -> tuple[bytes, int] | None:
            try:
                with self._system.open_input_file(f"{self._root}/{name}") as stream:
                    return bytes(stream.read(limit)), int(stream.size())
            except FileNotFoundError:
                return None

        return self._patiently(read)

    def delete(self, name: str) -> None:
        """Delete a file if it exists."""
        try:
            self._system.delete_file(f"{self._root}/{name}")
        except FileNotFoundError:
            return

    def _patiently(self, call: Callable[[], T]) -> T:
        """Repeat a call that fails on a network storage, with pauses; on a local disk it is made once."""
        for pause in () if self._local else PAUSES:
            try:
                return call()
            except OSError:
                time.sleep(pause)
        return call()

    def clear(self) -> None:
        """Delete all files, and the root itself."""
        try:
            self._system.delete_dir(self._root)
        except FileNotFoundError:
            return

    def half_written(self) -> Iterator[tuple[str, int]]:
        """Temporary files of processes of this machine, living or killed: their names and process ids."""
        for entry in self.entries(TEMPORARY) if self._local else ():
            writer = re.search(rf"\.{re.escape(HOST)}-(\d+)-[0-9a-f]{{8}}{re.escape(TEMPORARY)}$", entry.name)
            if writer:
                yield entry.name, int(writer[1])

    def entries(self, suffix: str, folder: str = "") -> Iterator[Entry]:
        """All files, or all files of a folder, whose names end with `suffix`."""
        top = f"{self._root}/{folder}" if folder else self._root
        selector = arrow.FileSelector(top, allow_not_found=True, recursive=True)
        for info in self._system.get_file_info(selector):
            if info.is_file and info.path.endswith(suffix):
                changed = info.mtime.timestamp() if info.mtime else 0.0
                yield Entry(info.path[len(self._root) + 1 :], info.size, changed)


def absolute(uri: str) -> str:
    """An absolute path for a path; any other URI unchanged, less a slash at its end."""
    return uri.rstrip("/") if "://" in uri else os.path.abspath(uri)


def below(uri: str, name: str) -> str:
    """The URI of `name` inside `uri`; a query such as ?region=... stays at the end."""
    head, mark, settings = uri.partition("?") if "://" in uri else (uri, "", "")
    return f"{head.rstrip('/')}/{name}{mark}{settings}"


def _open(uri: str) -> tuple[arrow.FileSystem, str]:
    if "://" not in uri:
        return arrow.LocalFileSystem(), os.path.abspath(uri)
    try:
        system, root = arrow.FileSystem.from_uri(uri)
    except (ArrowInvalid, ArrowNotImplementedError):
        system, root = _open_fsspec(uri)
    except OSError as error:
        why = f"{uri}: {error}; expected a folder or bucket that can be reached"
        raise SettingsError(hide(why, uri)) from None
    return system, root.rstrip("/")


def _open_fsspec(uri: str) -> tuple[arrow.FileSystem, str]:
    import fsspec

    try:
        system, root = fsspec.core.url_to_fs(uri)
    except (ValueError, ImportError, OSError) as error:
        why = f"{uri}: {error}; expected a path, or a URI of pyarrow.fs or fsspec"
        raise SettingsError(hide(why, uri)) from None
    return arrow.PyFileSystem(arrow.FSSpecHandler(system)), str(root)

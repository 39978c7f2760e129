"""Files by name, on this machine's disk or behind any URI that pyarrow.fs or fsspec opens (s3://..., gs://...)."""

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

from agr.credentials import hide
from agr.errors import SettingsError

TEMPORARY = ".tmp"
HOST = socket.gethostname()
PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds before a store behind a network is asked again
T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """A file: its name below the root, its bytes, the time of its last change in seconds since 1970."""

    name: str
    size: int
    changed: float


class Storage:
    """Whole files below one root. A file is seen whole or not at all."""

    def __init__(self, uri: str) -> None:
        """Raises: SettingsError for a URI that nothing here can open."""
        self._system, self._root = _open(uri)
        self._local = isinstance(self._system, arrow.LocalFileSystem)

    def write(self, name: str, data: bytes) -> None:
        """Write a file: on a disk by renaming a temporary one, in an object store by its own atomic put."""
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
        """A file's bytes, or its first `limit`; None if there is no such file."""

        def read() -> bytes | None:
            try:
                with self._system.open_input_file(f"{self._root}/{name}") as stream:
                    return bytes(stream.read(limit))
            except FileNotFoundError:
                return None

        return self._patiently(read)

    def head(self, name: str, limit: int) -> tuple[bytes, int] | None:
        """A file's first `limit` bytes and how many it has in all; None if there is no such file."""

        def read() -> tuple[bytes, int] | None:
            try:
                with self._system.open_input_file(f"{self._root}/{name}") as stream:
                    return bytes(stream.read(limit)), int(stream.size())
            except FileNotFoundError:
                return None

        return self._patiently(read)

    def delete(self, name: str) -> None:
        """Remove a file if it is there."""
        try:
            self._system.delete_file(f"{self._root}/{name}")
        except FileNotFoundError:
            return

    def _patiently(self, call: Callable[[], T]) -> T:
        """Repeat a call that a network may have kept from succeeding; a disk answers at once."""
        for pause in () if self._local else PAUSES:
            try:
                return call()
            except OSError:
                time.sleep(pause)
        return call()

    def clear(self) -> None:
        """Remove every file, and the root itself."""
        try:
            self._system.delete_dir(self._root)
        except FileNotFoundError:
            return

    def half_written(self) -> Iterator[tuple[str, int]]:
        """Files that processes of this machine are writing, or died writing: name and process id."""
        for entry in self.entries(TEMPORARY) if self._local else ():
            writer = re.search(rf"\.{re.escape(HOST)}-(\d+)-[0-9a-f]{{8}}{re.escape(TEMPORARY)}$", entry.name)
            if writer:
                yield entry.name, int(writer[1])

    def entries(self, suffix: str) -> Iterator[Entry]:
        """Every file whose name ends so."""
        selector = arrow.FileSelector(self._root, allow_not_found=True, recursive=True)
        for info in self._system.get_file_info(selector):
            if info.is_file and info.path.endswith(suffix):
                changed = info.mtime.timestamp() if info.mtime else 0.0
                yield Entry(info.path[len(self._root) + 1 :], info.size, changed)


def absolute(uri: str) -> str:
    """A path as it is known from any folder of this machine; any other URI as it is."""
    return uri.rstrip("/") if "://" in uri else os.path.abspath(uri)


def below(uri: str, name: str) -> str:
    """A place inside another, past the settings at the end of a URI (s3://bucket?region=...)."""
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

"""Files by name, on this machine's disk or behind any URI that pyarrow.fs or fsspec opens (s3://..., gs://...)."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pyarrow import ArrowInvalid, ArrowNotImplementedError
from pyarrow import fs as arrow

from agr.errors import SettingsError

TEMPORARY = ".tmp"


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
        target = f"{path}.{os.getpid()}-{uuid.uuid4().hex[:8]}{TEMPORARY}" if self._local else path
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
        try:
            with self._system.open_input_file(f"{self._root}/{name}") as stream:
                return bytes(stream.read(limit))
        except FileNotFoundError:
            return None

    def delete(self, name: str) -> None:
        """Remove a file if it is there."""
        try:
            self._system.delete_file(f"{self._root}/{name}")
        except FileNotFoundError:
            return

    def entries(self, suffix: str) -> Iterator[Entry]:
        """Every file whose name ends so."""
        selector = arrow.FileSelector(self._root, allow_not_found=True, recursive=True)
        for info in self._system.get_file_info(selector):
            if info.is_file and info.path.endswith(suffix):
                changed = info.mtime.timestamp() if info.mtime else 0.0
                yield Entry(info.path[len(self._root) + 1 :], info.size, changed)


def _open(uri: str) -> tuple[arrow.FileSystem, str]:
    if "://" not in uri:
        return arrow.LocalFileSystem(), os.path.abspath(uri)
    try:
        system, root = arrow.FileSystem.from_uri(uri)
    except (ArrowInvalid, ArrowNotImplementedError):
        system, root = _open_fsspec(uri)
    except OSError as error:
        raise SettingsError(f"{uri}: {error}; expected a folder or bucket that can be reached") from error
    return system, root.rstrip("/")


def _open_fsspec(uri: str) -> tuple[arrow.FileSystem, str]:
    import fsspec

    try:
        system, root = fsspec.core.url_to_fs(uri)
    except (ValueError, ImportError, OSError) as error:
        raise SettingsError(f"{uri}: {error}; expected a path, or a URI of pyarrow.fs or fsspec") from error
    return arrow.PyFileSystem(arrow.FSSpecHandler(system)), str(root)

"""Shards of prepared clips for the nodes of a cluster: once in a storage that all see, once on the disk of each node.

place = publish(paths, "s3://bucket/agr/shards")  # by the driver
place.fetch()                                     # on a node: where each of these shards lies there
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agr.common.credentials import hide
from agr.common.files import content_digest, write_atomic
from agr.common.places import cache_folder
from agr.common.waiting import locked
from agr.data import shards
from agr.errors import CorpusError
from search.stages.storage import Storage

LOCK = ".lock"
IDLE_SECONDS = 7 * 86_400.0  # after which a shard for which no trial began gives room to others


@dataclass(frozen=True)
class ShardPlace:
    """Shards in a storage. The name of a shard tells its content, so what has the name and size is the shard."""

    uri: str
    sizes: Mapping[Path, int]  # in bytes, by the path on the driver's machine

    def fetch(self) -> dict[Path, Path]:
        """Bring what this machine lacks into its cache, one process for all; returns where each shard lies.

        Where its disk is too small, shards of other searches make room that no trial began with for IDLE_SECONDS; is
        it still too small, shards stay in the storage, if that is a folder here, and are read there, checked by size.
        Raises: CorpusError if the storage lacks a shard or damages it, or the disk is too small; OSError.
        """
        folder = (cache_folder() or Path(tempfile.gettempdir(), "agr")) / "shards"
        found = {path: path if _there(path, size) else folder / path.name for path, size in self.sizes.items()}
        for path in found.values():
            if path.parent == folder:
                with suppress(OSError):
                    os.utime(path)  # it is in use
        if self._lacking(found):
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder / LOCK, "fetch shards"):
                found |= self._fill(folder, self._lacking(found))
        return found

    def _lacking(self, found: Mapping[Path, Path]) -> dict[Path, Path]:
        return {at: path for at, path in found.items() if not _there(path, self.sizes[at])}

    def _fill(self, folder: Path, lacking: Mapping[Path, Path]) -> dict[Path, Path]:
        """Fetch what is lacking; returns where else it lies, if the disk is too small for it."""
        for stray in folder.glob(".*.tmp"):  # of a process that was killed
            stray.unlink()
        storage, wanted = Storage(self.uri), sum(self.sizes[at] for at in lacking)
        home = storage.path(LOCK)  # a storage that is the cache itself has the only copies
        free = shutil.disk_usage(folder).free if home and home.parent == folder else self._make_room(folder, wanted)
        if free < wanted:
            mounted = {at: storage.path(path.name) for at, path in lacking.items()}
            seen = {at: path for at, path in mounted.items() if path and _there(path, self.sizes[at])}
            if len(seen) == len(lacking):
                return seen
            found = f"{free / 1e9:.1f} GB free on its disk; expected {wanted / 1e9:.1f} GB for shards"
            raise CorpusError(f"{folder}: {found}; AGR_CACHE may name another disk")
        with shards.progress("fetching shards", len(lacking), quick=0) as advance:
            for path in lacking.values():
                write_atomic(path, self._read(storage, path.name), durable=True)
                advance(1)
        return {}

    def _make_room(self, folder: Path, wanted: int) -> int:
        """Delete idle shards of other searches, the idlest first, until as much is free; returns how much is."""
        free, own = shutil.disk_usage(folder).free, {path.name for path in self.sizes}
        others = [path for path in folder.glob("*.arrow") if path.name not in own]
        idle = sorted((found.st_mtime, found.st_size, path) for path in others if (found := _idle(path)))
        if free < wanted <= free + sum(size for _, size, _ in idle):
            for _, _, path in idle:
                with suppress(OSError):  # of another user
                    if free < wanted and _idle(path):  # still
                        path.unlink()
                        free = shutil.disk_usage(folder).free
        return free

    def _read(self, storage: Storage, name: str) -> bytes:
        """A shard, read a second time if it arrives damaged."""
        for _ in range(2):
            data = storage.read(name)
            if data is not None and name == f"{shards.WHOLE}-{content_digest(data)}.arrow":
                return data
        storage.delete(name)
        found = "missing" if data is None else "damaged"
        raise CorpusError(
            hide(f"{self.uri}/{name}: {found}; expected the shard; the same command sends it anew", self.uri)
        )


def publish(paths: Sequence[Path], uri: str) -> ShardPlace:
    """Put those shards into a storage that it lacks; they must not change any more.

    Raises: OSError; SettingsError if the URI cannot be opened.
    """
    storage, sizes = Storage(uri), {path: path.stat().st_size for path in paths}
    there = {file.name: file.size for file in storage.files(".arrow")}
    missing = [path for path, size in sizes.items() if there.get(path.name) != size]
    with shards.progress("sending shards to the storage", len(missing), quick=0) as advance:
        for path in missing:
            if not storage.link(path, path.name):
                storage.write(path.name, path.read_bytes())
            advance(1)
    return ShardPlace(uri, sizes)


def _idle(path: Path) -> os.stat_result | None:
    """What is known of a shard for which no trial began for long; of one with two names, which takes no room, None."""
    with suppress(OSError):
        found = path.stat()
        if found.st_nlink == 1 and time.time() - found.st_mtime > IDLE_SECONDS:
            return found
    return None


def _there(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False

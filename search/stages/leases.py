"""Leases: which stages a running search may still read or write, so that pruning keeps them.

A lease consists of small files in the folder `leases` of the store. `SEARCH.lease` names the driver and is rewritten
by every renewal. `SEARCH.00001.lease` and so on name the stages: a file grows to BLOCK_KEYS stages and is then left
alone, so that the bytes written grow in proportion to the stages; object stores cannot append to files.
"""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace

from agr.common.processes import driver, is_dead
from search.stages.storage import Storage, StoredFile
from search.stages.store import StageStore

FOLDER, LEASE = "leases", ".lease"
BLOCK_KEYS = 200  # stages that a file names before the next file is begun
RENEW_SECONDS, EXPIRE_SECONDS = 60.0, 3600.0
FORGET_SECONDS = 30 * 86400.0  # after which the lease of an ended search no longer says when its stages were used


@dataclass(frozen=True)
class LeaseFile:
    """One file of a lease."""

    search: str  # the id of the search
    driver: str  # its process, as `agr.common.processes.driver` names it
    running: bool  # False once the search has ended
    keys: tuple[str, ...] = ()  # the stages that this file names


@dataclass(frozen=True)
class Lease:
    """All files of one search's lease."""

    files: tuple[str, ...]  # their names
    keys: frozenset[str]  # the stages that they name
    renewed: float  # when any of them was last written, in seconds since 1970
    alive: bool  # whether the search may still be running
    doubtful: bool  # whether nothing but the clock says that it is not
    readable: bool  # whether any of the files could be read

    def delete(self, storage: Storage) -> None:
        """Delete all files; the one that says whether the search runs comes last."""
        for name in reversed(self.files):
            storage.delete(name)


class Leaseholder:
    """Holds the lease of this process's search."""

    def __init__(self, store: StageStore, search: str, keys: Iterable[str]) -> None:
        """Write the lease. Raises: OSError; later failures are ignored, and what was missed is written later."""
        self._storage = store.storage
        self._head = LeaseFile(search, driver(), running=True)
        self._claimed: set[str] = set()
        self._blocks: list[list[str]] = [[]]  # one for each numbered file; the last may still grow
        self._saved = True  # whether the last block is in the store
        self._attempted = time.monotonic()
        self._write("", self._head)
        self._add(keys)

    def extend(self, keys: Iterable[str]) -> None:
        """Claim more stages."""
        with suppress(OSError):
            self._add(keys)

    def renew(self) -> None:
        """Record that the search still runs, unless that was done within the last RENEW_SECONDS."""
        if time.monotonic() - self._attempted <= RENEW_SECONDS:
            return
        self._attempted = time.monotonic()
        with suppress(OSError):
            if self._storage.read(f"{FOLDER}/{self._head.search}{LEASE}") is None:  # deleted meanwhile
                for number, _ in enumerate(self._blocks, start=1):
                    self._write_block(number)
            self._write("", self._head)
            self._save()

    def end(self) -> None:
        """Record that the search has ended, and delete what dead processes and forgotten searches left in the store."""
        with suppress(OSError):
            self._save()
            self._write("", replace(self._head, running=False))
        with suppress(OSError):
            for name in list(self._storage.abandoned()):
                self._storage.delete(name)
            for lease in read_leases(self._storage, time.time() - FORGET_SECONDS):
                if not lease.alive:
                    lease.delete(self._storage)

    def _add(self, keys: Iterable[str]) -> None:
        new = set(keys) - self._claimed
        if new:
            self._claimed |= new
            self._blocks[-1] += sorted(new)
            self._saved = False
            self._save()

    def _save(self) -> None:
        """Write the last block if it has changed, and begin another if it is full."""
        if not self._saved:
            self._write_block(len(self._blocks))
            self._saved = True
            if len(self._blocks[-1]) >= BLOCK_KEYS:
                self._blocks.append([])

    def _write_block(self, number: int) -> None:
        if keys := self._blocks[number - 1]:
            self._write(f".{number:05d}", replace(self._head, keys=tuple(keys)))

    def _write(self, number: str, content: LeaseFile) -> None:
        self._storage.write(f"{FOLDER}/{content.search}{number}{LEASE}", json.dumps(asdict(content)).encode())


def read_leases(storage: Storage, untouched_since: float = float("inf")) -> Iterator[Lease]:
    """The leases in a store, one for each search, last written before `untouched_since`, in seconds since 1970."""
    searches: dict[str, list[StoredFile]] = {}
    for file in storage.files(LEASE, FOLDER):
        searches.setdefault(re.sub(r"(\.\d+)?\.lease$", "", file.name), []).append(file)
    for files in searches.values():
        renewed = max(file.changed for file in files)
        if renewed < untouched_since:
            names = sorted((file.name for file in files), reverse=True)  # the file without a number comes first
            contents = [content for name in names if (content := read_lease_file(storage, name)) is not None]
            keys = frozenset(key for content in contents for key in content.keys)
            alive = bool(contents) and may_run(contents[0], renewed)
            doubtful = not alive and bool(contents) and may_run(contents[0], time.time())
            yield Lease(tuple(names), keys, renewed, alive, doubtful, bool(contents))


def read_lease_file(storage: Storage, name: str) -> LeaseFile | None:
    """One file of a lease; None if it is gone or damaged."""
    try:
        values = json.loads(storage.read(name) or b"")
        if "host" in values:  # an earlier version of AGR wrote it
            values["driver"] = f"{values.pop('host')}:{values.pop('pid')}"
        content = LeaseFile(**(values | {"keys": tuple(values["keys"])}))
        pid = re.fullmatch(r"[^:]*:(\d{1,10})(:\d+)?", content.driver)
        valid = pid is not None and 0 < int(pid[1]) < 2**31 and all(isinstance(key, str) for key in content.keys)
        return content if valid else None
    except (ValueError, TypeError, KeyError):
        return None


def may_run(content: LeaseFile, renewed: float) -> bool:
    """Whether a search may still run: its driver does, or on another machine renewed within EXPIRE_SECONDS."""
    if content.driver.partition(":")[0] != socket.gethostname():
        return content.running and time.time() - renewed < EXPIRE_SECONDS
    return content.running and not is_dead(content.driver)

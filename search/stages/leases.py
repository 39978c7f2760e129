"""Leases: which stages a running search may still read or write, so that pruning leaves them alone.

    holder = Leaseholder(store, "a-search", [])
    holder.extend(keys)  # whenever the search comes to need more stages
    holder.renew()       # at least every few minutes
    holder.end()

A lease consists of small files in the folder `leases` of the store. `SEARCH.lease` says who holds it and is rewritten
by every renewal. `SEARCH.00001.lease`, `SEARCH.00002.lease` and so on name the stages: a file grows until it names
BLOCK_KEYS stages and is then left alone, so that what a search writes grows in proportion to what it claims. No file
is ever appended to, because object stores cannot do that.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace

import psutil

from search.stages.storage import Entry, Storage
from search.stages.store import StageStore

FOLDER, LEASE = "leases", ".lease"
BLOCK_KEYS = 200  # stages that a file names before the next file is begun
RENEW_SECONDS, EXPIRE_SECONDS = 60.0, 3600.0
FORGET_SECONDS = 30 * 86400.0  # after which the lease of a search that is over no longer says when stages were used


@dataclass(frozen=True)
class Lease:
    """One file of a lease.

    Attributes:
        search: The id of the search.
        host: The machine on which its driver runs.
        pid: The process id of its driver on that machine.
        running: False once the search has ended.
        keys: The stages that this file names.
    """

    search: str
    host: str
    pid: int
    running: bool
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Claim:
    """All files of one search's lease together.

    Attributes:
        files: Their names.
        keys: All stages that they name.
        renewed: When any of them was last written, in seconds since 1970.
        alive: Whether the search may still be running.
        readable: Whether any of the files could be read.
    """

    files: tuple[str, ...]
    keys: frozenset[str]
    renewed: float
    alive: bool
    readable: bool

    def delete(self, storage: Storage) -> None:
        """Delete the lease."""
        for name in reversed(self.files):  # last the one that says whether the search runs
            storage.delete(name)


class Leaseholder:
    """The lease of this process's search."""

    def __init__(self, store: StageStore, search: str, keys: Iterable[str]) -> None:
        """Write the lease.

        Raises:
            OSError: If the store cannot be written. Later failures are ignored and made up for.
        """
        self._storage = store.storage
        self._lease = Lease(search, socket.gethostname(), os.getpid(), running=True)
        self._claimed: set[str] = set()
        self._blocks: list[list[str]] = [[]]  # one for each numbered file; the last may still grow
        self._saved = True  # whether the last block is in the store
        self._attempted, self._renewed = time.monotonic(), time.time()
        self._write("", self._lease)
        self._add(keys)

    def extend(self, keys: Iterable[str]) -> None:
        """Claim more stages."""
        with suppress(OSError):
            self._add(keys)

    def renew(self) -> None:
        """Say that the search still runs; does nothing if that was said within the last RENEW_SECONDS."""
        if time.monotonic() - self._attempted <= RENEW_SECONDS:
            return
        self._attempted = time.monotonic()
        with suppress(OSError):
            if time.time() - self._renewed > EXPIRE_SECONDS / 2:  # the lease may have been deleted meanwhile
                for number, _ in enumerate(self._blocks, start=1):
                    self._write_block(number)
            self._write("", self._lease)
            self._renewed = time.time()
            self._save()

    def end(self) -> None:
        """Say that the search is over, and remove what searches that are no longer running have left behind."""
        with suppress(OSError):
            self._save()
            self._write("", replace(self._lease, running=False))
        with suppress(OSError):
            for name, pid in list(self._storage.half_written()):
                if not psutil.pid_exists(pid):
                    self._storage.delete(name)
            delete_forgotten(self._storage)

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
            self._write(f".{number:05d}", replace(self._lease, keys=tuple(keys)))

    def _write(self, number: str, lease: Lease) -> None:
        self._storage.write(f"{FOLDER}/{lease.search}{number}{LEASE}", json.dumps(asdict(lease)).encode())


def claims(storage: Storage, untouched_since: float = float("inf")) -> Iterator[Claim]:
    """The leases in a store, one for each search.

    Args:
        storage: Where the stage store keeps its files.
        untouched_since: Only leases that were last written before this time, in seconds since 1970. The others are
            not read.
    """
    searches: dict[str, list[Entry]] = {}
    for entry in storage.entries(LEASE, FOLDER):
        searches.setdefault(re.sub(r"(\.\d+)?\.lease$", "", entry.name), []).append(entry)
    for entries in searches.values():
        renewed = max(entry.changed for entry in entries)
        if renewed < untouched_since:
            names = sorted((entry.name for entry in entries), reverse=True)  # the file without a number comes first
            leases = [lease for name in names if (lease := read_lease(storage, name)) is not None]
            keys = frozenset(key for lease in leases for key in lease.keys)
            yield Claim(tuple(names), keys, renewed, bool(leases) and alive(leases[0], renewed), bool(leases))


def delete_forgotten(storage: Storage) -> None:
    """Delete the leases that were last written more than FORGET_SECONDS ago and whose searches no longer run."""
    for claim in claims(storage, time.time() - FORGET_SECONDS):
        if not claim.alive:
            claim.delete(storage)


def read_lease(storage: Storage, name: str) -> Lease | None:
    """One file of a lease; None if it is gone or damaged."""
    try:
        values = json.loads(storage.read(name) or b"")
        lease = Lease(**(values | {"keys": tuple(values["keys"])}))
        return lease if 0 < lease.pid < 2**31 and all(isinstance(key, str) for key in lease.keys) else None
    except (ValueError, TypeError, KeyError):
        return None


def alive(lease: Lease, renewed: float) -> bool:
    """Whether a search may still be running.

    A search of this machine runs as long as its process does. One of another machine is taken to be over when its
    lease has not been renewed for EXPIRE_SECONDS.
    """
    if not lease.running:
        return False
    if lease.host != socket.gethostname():
        return time.time() - renewed < EXPIRE_SECONDS
    return psutil.pid_exists(lease.pid)

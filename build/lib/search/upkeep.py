"""Looking after a stage store: who uses which stages, what is in it, and making it smaller.

A search writes a lease, the list of the stages that it may read or write, and renews it while it runs. The leases
say when a stage was last of use, and keep the stages of running searches from being pruned.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from agr.credentials import harmless
from agr.errors import SettingsError
from agr.registry import STORE
from search.stages import CHECKSUM, SUFFIX, StageStore, notes_of
from search.storage import Entry

LEASE = ".lease"
RENEW_SECONDS, EXPIRE_SECONDS = 60.0, 3600.0
HEADER_BYTES = 64 * 1024
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
DEFAULT_STORE = str(STORE / "stages")


@dataclass(frozen=True)
class Lease:
    """Which stages a search may use; `running` until it ends, `host` and `pid` tell whether its driver lives."""

    search: str
    host: str
    pid: int
    running: bool
    keys: tuple[str, ...]


class Leaseholder:
    """The lease of one running search."""

    def __init__(self, store: StageStore, search: str, keys: Iterable[str]) -> None:
        """Write the lease. Raises: OSError if the store takes nothing; later on that is no reason to stop."""
        self._store = store
        self._lease = Lease(search, socket.gethostname(), os.getpid(), True, tuple(sorted(set(keys))))
        self._renewed = time.monotonic()
        self._write(self._lease)

    def extend(self, keys: Iterable[str]) -> None:
        """More stages that the search may use."""
        every = set(self._lease.keys).union(keys)
        if len(every) > len(self._lease.keys):
            self._lease = replace(self._lease, keys=tuple(sorted(every)))
            self._try(self._lease)

    def renew(self) -> None:
        """Say that the search still runs; costs nothing when it was just said."""
        if time.monotonic() - self._renewed > RENEW_SECONDS:
            self._renewed = time.monotonic()
            self._try(self._lease)

    def end(self) -> None:
        """Say that the search is over, and delete what killed writers of this machine left half-written."""
        self._try(Lease(**(asdict(self._lease) | {"running": False})))
        with suppress(OSError):
            for name, pid in list(self._store.storage.half_written()):
                if not _lives(pid):
                    self._store.storage.delete(name)

    def _try(self, lease: Lease) -> None:
        with suppress(OSError):
            self._write(lease)

    def _write(self, lease: Lease) -> None:
        self._store.storage.write(f"leases/{lease.search}{LEASE}", json.dumps(asdict(lease)).encode())


@dataclass(frozen=True)
class Kept:
    """A stage in the store: its file, when it was last of use, whether a running search may need it."""

    entry: Entry
    used: float
    needed: bool

    @property
    def key(self) -> str:
        """The stage's name."""
        return self.entry.name.rsplit("/", 1)[-1].removesuffix(SUFFIX)


def stages(store: StageStore) -> list[Kept]:
    """Every stage, the least recently used first."""
    used: dict[str, float] = {}
    needed: set[str] = set()
    for entry in store.storage.entries(LEASE):
        lease = _read_lease(store, entry)
        if lease is None:
            continue
        for key in lease.keys:
            used[key] = max(used.get(key, 0.0), entry.changed)
        if lease.running and _alive(lease, entry.changed):
            needed.update(lease.keys)
    found = []
    for entry in store.storage.entries(SUFFIX):
        key = entry.name.rsplit("/", 1)[-1].removesuffix(SUFFIX)
        found.append(Kept(entry, max(entry.changed, used.get(key, 0.0)), key in needed))
    return sorted(found, key=lambda kept: (kept.used, kept.key))


def prune(store: StageStore, max_bytes: int) -> tuple[list[Kept], int]:
    """Delete the least recently used stages until the rest fits; those that a running search needs stay.

    Returns: what was deleted, and the bytes that are left.
    """
    every = stages(store)
    left = sum(kept.entry.size for kept in every)
    deleted = []
    for kept in every:
        if left <= max_bytes:
            break
        if not kept.needed:
            store.drop(kept.key)
            deleted.append(kept)
            left -= kept.entry.size
    return deleted, left


def _read_lease(store: StageStore, entry: Entry) -> Lease | None:
    data = store.storage.read(entry.name)
    try:
        values: dict[str, Any] = json.loads(data or b"")
        lease = Lease(**(values | {"keys": tuple(values["keys"])}))
        return lease if 0 < lease.pid < 2**31 and all(isinstance(key, str) for key in lease.keys) else None
    except (ValueError, TypeError, KeyError):
        return None


def _alive(lease: Lease, renewed: float) -> bool:
    """On this machine the process is asked; of another one, a lease that is not renewed expires."""
    if lease.host != socket.gethostname():
        return time.time() - renewed < EXPIRE_SECONDS
    return _lives(lease.pid)


def _lives(pid: int) -> bool:
    """Whether a process of this machine is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def parse_size(text: str) -> int:
    """Bytes in "500MB", "2GB", "1.5T" or a plain number. Raises: SettingsError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", text.strip(), re.IGNORECASE)
    if match is None:
        raise SettingsError(f"--max-size {text}: not a size; expected for instance 500MB or 2GB")
    return int(float(match[1]) * UNITS[match[2].upper()])


def _row(store: StageStore, kept: Kept) -> str:
    used = time.strftime("%Y-%m-%d %H:%M", time.localtime(kept.used))
    try:
        head = store.storage.read(kept.entry.name, HEADER_BYTES) or b""
        about = notes_of(head[CHECKSUM:])["about"]
        what = "  ".join(f"{key} {value}" for key, value in about.items())
    except (ValueError, KeyError):
        what = "damaged: will be computed again"
    mark = "  in use" if kept.needed else ""
    return f"{kept.key[:12]}  {kept.entry.size / 1e6:7.1f} MB  {used}  {what}{mark}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of `python -m search.stages`; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m search.stages", description="Show or shrink the stage store.")
    parser.add_argument("action", choices=("list", "prune"))
    where = f"default: {DEFAULT_STORE}"
    parser.add_argument("--stage-store", type=harmless, default=DEFAULT_STORE, metavar="URI", help=where)
    parser.add_argument("--max-size", default="10GB", help="prune: what may be left, for instance 500MB (default 10GB)")
    options = parser.parse_args(arguments)
    store = StageStore(options.stage_store)
    if options.action == "prune":
        deleted, left = prune(store, parse_size(options.max_size))
        freed = sum(kept.entry.size for kept in deleted)
        print(f"{store.uri}: {len(deleted)} stages deleted, {freed / 1e6:.1f} MB freed, {left / 1e6:.1f} MB left")
        return 0
    every = stages(store)
    for kept in reversed(every):
        print(_row(store, kept))
    print(f"{store.uri}: {len(every)} stages, {sum(kept.entry.size for kept in every) / 1e6:.1f} MB")
    return 0

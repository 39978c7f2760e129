"""Stages and leases of chosen ages in a store on the local disk."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

from search.stages.leases import Lease
from search.stages.store import StageStore
from tests.search.fakes import made_stage

KEYS = [digit * 64 for digit in "0123456789"]
HERE, ELSEWHERE = socket.gethostname(), "another-machine"


def keep(store: StageStore, *ages: float) -> int:
    """Store stages KEYS[0], KEYS[1], ... as if so many hours ago; returns the bytes of one."""
    for key, hours in zip(KEYS, ages, strict=False):
        store.put(key, made_stage())
        touch(store, StageStore.name(key), hours)
    return (Path(store.uri) / StageStore.name(KEYS[0])).stat().st_size


def touch(store: StageStore, name: str, hours: float) -> None:
    """Make a file look as if it was written so many hours ago."""
    then = time.time() - 3600 * hours
    os.utime(Path(store.uri) / name, (then, then))


def lease(store: StageStore, search: str, keys: list[str], hours: float = 0.0, **changes: object) -> None:
    """A lease in one file, as a search wrote it so many hours ago."""
    values = asdict(replace(Lease(search, HERE, os.getpid(), True, tuple(keys)), **changes))  # type: ignore[arg-type]
    store.storage.write(f"leases/{search}.lease", json.dumps(values).encode())
    touch(store, f"leases/{search}.lease", hours)


def lease_files(store: StageStore) -> list[str]:
    """The names of all files of leases."""
    return sorted(entry.name for entry in store.storage.entries(".lease"))


def there(store: StageStore) -> list[str]:
    """The first digits of the stages of KEYS that the store has."""
    return [key[0] for key in KEYS if store.get(key) is not None]


def dead_pid() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid

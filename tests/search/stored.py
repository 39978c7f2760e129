"""Stages and leases of chosen ages in a store on the local disk."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from agr.common.processes import driver
from search.stages.leases import LeaseFile
from search.stages.store import StageStore
from tests.search.fakes import made_stage

KEYS = [digit * 64 for digit in "0123456789"]
HERE, ELSEWHERE = socket.gethostname(), "another-machine:7:1700000000"  # a host, and a driver on another one


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


def lease(store: StageStore, search: str, keys: Sequence[object], hours: float = 0.0, **changes: object) -> None:
    """A lease in one file, as a search wrote it so many hours ago."""
    values = asdict(LeaseFile(search, driver(), True)) | {"keys": list(keys)} | changes
    store.storage.write(f"leases/{search}.lease", json.dumps(values).encode())
    touch(store, f"leases/{search}.lease", hours)


def lease_files(store: StageStore) -> list[str]:
    """The names of all files of leases."""
    return sorted(file.name for file in store.storage.files(".lease"))


def there(store: StageStore) -> list[str]:
    """The first digits of the stages of KEYS that the store has."""
    return [key[0] for key in KEYS if store.get(key) is not None]


def dead_driver() -> str:
    """A driver of this machine that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return f"{HERE}:{process.pid}:1700000000"

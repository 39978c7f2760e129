"""What is in a stage store, and making it smaller.

deleted, bytes_left = prune(store, max_bytes=2 * 10**9)
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from search.stages.leases import FORGET_SECONDS, Claim, claims
from search.stages.storage import Entry
from search.stages.store import SUFFIX, StageStore


@dataclass(frozen=True)
class Kept:
    """A stage in the store.

    Attributes:
        entry: Its file.
        used: When a search last needed it, in seconds since 1970.
        needed: Whether a running search may need it.
    """

    entry: Entry
    used: float
    needed: bool

    @property
    def key(self) -> str:
        """The stage's name."""
        return self.entry.name.rsplit("/", 1)[-1].removesuffix(SUFFIX)


def stages(store: StageStore) -> list[Kept]:
    """Every stage, the least recently used first."""
    return _stages(store, list(claims(store.storage)))


def prune(store: StageStore, max_bytes: int) -> tuple[list[Kept], int]:
    """Delete the least recently used stages until the others fit.

    What a running search may need is never deleted, even if it does not fit. The lease of a search that is over is
    deleted when no stage that is left was last used by that search, or after FORGET_SECONDS.

    Returns:
        The deleted stages, and the bytes that the others take.
    """
    leases = list(claims(store.storage))
    every = _stages(store, leases)
    size = sum(kept.entry.size for kept in every)
    deleted = []
    for kept in every:
        if size <= max_bytes:
            break
        if not kept.needed:
            store.drop(kept.key)
            deleted.append(kept)
            size -= kept.entry.size
    gone = {kept.key for kept in deleted}
    told = {kept.used for kept in every if kept.key not in gone and kept.used > kept.entry.changed}
    for lease in leases:
        expired = lease.renewed < time.time() - FORGET_SECONDS
        if not lease.alive and (expired or (lease.readable and lease.renewed not in told)):
            lease.delete(store.storage)
    return deleted, size


def _stages(store: StageStore, leases: list[Claim]) -> list[Kept]:
    used: dict[str, float] = {}
    needed: set[str] = set()
    for lease in leases:
        for key in lease.keys:
            used[key] = max(used.get(key, 0.0), lease.renewed)
        if lease.alive:
            needed |= lease.keys
    found = []
    for entry in store.storage.entries(SUFFIX):
        key = Kept(entry, 0.0, needed=False).key
        found.append(Kept(entry, max(entry.changed, used.get(key, 0.0)), key in needed))
    return sorted(found, key=lambda kept: (kept.used, kept.key))

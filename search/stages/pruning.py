"""List the stages of a store, and delete the least recently used ones.

deleted, bytes_left = prune(store, max_bytes=2 * 10**9)
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agr.common.waiting import Wait
from search.stages.leases import FORGET_SECONDS, RENEW_SECONDS, Lease, read_leases
from search.stages.storage import Storage, StoredFile
from search.stages.store import SUFFIX, StageStore

WATCH_SECONDS, LOOK_SECONDS = 2 * RENEW_SECONDS, 2.0  # for leases that may be renewed, and between two looks at them


@dataclass(frozen=True)
class StoredStage:
    """A stage in the store."""

    key: str
    file: StoredFile
    used: float  # when a search last needed it, in seconds since 1970
    needed: bool  # whether a running search may need it


def stages(store: StageStore, leases: Sequence[Lease] | None = None) -> list[StoredStage]:
    """Every stage, the least recently used first; `leases` are those of the store, if they were read before."""
    leases = list(read_leases(store.storage)) if leases is None else leases
    used: dict[str, float] = {}
    for lease in leases:
        used |= {key: max(used.get(key, 0.0), lease.renewed) for key in lease.keys}
    needed = frozenset[str]().union(*(lease.keys for lease in leases if lease.alive))
    found = []
    for file in store.storage.files(SUFFIX):
        key = file.name.rpartition("/")[2].removesuffix(SUFFIX)
        found.append(StoredStage(key, file, max(file.changed, used.get(key, 0.0)), key in needed))
    return sorted(found, key=lambda stage: (stage.used, stage.key))


def _watched(storage: Storage, leases: list[Lease]) -> list[Lease]:
    """The leases; one that is expired by the clock, which may have been set, is alive if it is renewed meanwhile."""
    before = {lease.files[0]: lease.renewed for lease in leases if lease.doubtful}
    wait = Wait()
    while any(lease.doubtful and not lease.alive for lease in leases) and wait.seconds < WATCH_SECONDS:
        time.sleep(LOOK_SECONDS)
        wait.tick("searches of other machines to renew their leases")
        leases = [
            replace(lease, alive=True) if before.get(lease.files[0], lease.renewed) != lease.renewed else lease
            for lease in read_leases(storage)
        ]
    return leases


def prune(store: StageStore, max_bytes: int) -> tuple[list[StoredStage], int]:
    """Delete the least recently used stages until the others fit; those deleted, and the bytes that the others take.

    What a running search may need is never deleted, even if it does not fit. The lease of an ended search is deleted
    when it no longer determines when a stage was last used, or after FORGET_SECONDS.
    """
    leases = list(read_leases(store.storage))
    found = stages(store, leases)
    if sum(stage.file.size for stage in found) > max_bytes:
        leases = _watched(store.storage, leases)
        found = stages(store, leases)
    size, deleted, left = sum(stage.file.size for stage in found), [], []
    for stage in found:
        if size > max_bytes and not stage.needed:
            store.drop(stage.key)
            deleted.append(stage)
            size -= stage.file.size
        else:
            left.append(stage)
    determining = {stage.used for stage in left if stage.used > stage.file.changed}
    for lease in leases:
        expired = lease.renewed < time.time() - FORGET_SECONDS
        if not lease.alive and (expired or (lease.readable and lease.renewed not in determining)):
            lease.delete(store.storage)
    return deleted, size

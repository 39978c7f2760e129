"""Leases: their contents, the bytes they take, and when they are deleted."""

from __future__ import annotations

import os
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from agr.common.processes import driver
from search.stages import leases
from search.stages.leases import Lease, LeaseFile, Leaseholder, read_lease_file, read_leases
from search.stages.pruning import prune
from search.stages.store import StageStore
from tests.search.stored import ELSEWHERE, HERE, KEYS, dead_driver, keep, lease, lease_files


@pytest.fixture
def store(tmp_path: Path) -> StageStore:
    return StageStore(str(tmp_path / "stages"))


def lease_in(store: StageStore) -> Lease:
    (found,) = read_leases(store.storage)
    return found


class Refusing:
    """Makes a store refuse to be written, and counts the bytes written while it does not."""

    def __init__(self, store: StageStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.refuses, self.bytes, self.files = False, 0, 0
        self._write = store.storage.write
        monkeypatch.setattr(store.storage, "write", self.write)

    def write(self, name: str, data: bytes) -> None:
        if self.refuses:
            raise OSError(28, "No space left on device")
        self.bytes, self.files = self.bytes + len(data), self.files + 1
        self._write(name, data)


@pytest.fixture
def disk(store: StageStore, monkeypatch: pytest.MonkeyPatch) -> Refusing:
    return Refusing(store, monkeypatch)


def claim(holder: Leaseholder, trials: range, epochs: int = 20) -> None:
    """Claim the stages of trials, one after the other."""
    for number in trials:
        holder.extend(f"{number:032x}{epoch:032x}" for epoch in range(epochs))


def test_a_lease_names_the_search_its_driver_and_each_stage_once(store: StageStore) -> None:
    holder = Leaseholder(store, "now", [KEYS[1], KEYS[0], KEYS[1]])
    head = LeaseFile("now", driver(), running=True)
    assert read_lease_file(store.storage, "leases/now.lease") == head
    assert read_lease_file(store.storage, "leases/now.00001.lease") == replace(head, keys=tuple(KEYS[:2]))
    holder.end()
    assert read_lease_file(store.storage, "leases/now.lease") == replace(head, running=False)


def test_a_lease_can_be_extended(store: StageStore) -> None:
    size = keep(store, 3, 2, 1)
    holder = Leaseholder(store, "now", [])
    assert (lease_in(store).keys, lease_in(store).alive) == (frozenset(), True)
    holder.extend(iter([KEYS[2], KEYS[1]]))
    assert lease_in(store).keys == set(KEYS[1:3])
    holder.extend([KEYS[0], KEYS[1]])
    assert lease_in(store).keys == set(KEYS[:3])
    assert prune(store, 0) == ([], 3 * size)
    holder.end()
    assert (set(lease_in(store).keys), lease_in(store).alive) == (set(KEYS[:3]), False)


def test_a_lease_of_many_files_names_every_stage(store: StageStore) -> None:
    holder = Leaseholder(store, "now", [])
    claim(holder, range(100))
    assert len(lease_files(store)) == 11
    assert len(lease_in(store).keys) == 2000
    assert lease_in(store).alive


def test_claimed_stages_are_not_written_again(store: StageStore, disk: Refusing) -> None:
    holder = Leaseholder(store, "now", KEYS[:2])
    disk.bytes = 0
    holder.extend([KEYS[1], KEYS[0]])
    holder.extend([])
    assert disk.bytes == 0
    holder.extend([KEYS[5]])
    assert lease_in(store).keys == {KEYS[0], KEYS[1], KEYS[5]}


def test_bytes_written_grow_in_proportion_to_the_trials(store: StageStore, disk: Refusing) -> None:
    holder, written = Leaseholder(store, "now", []), []
    for start in range(0, 600, 200):
        disk.bytes = 0
        claim(holder, range(start, start + 200))
        written.append(disk.bytes)
    assert max(written) < 1.05 * min(written)
    assert max(written) < 2_500_000  # 27,000,000 when each trial wrote the whole lease
    assert len(lease_files(store)) < 80


def test_stages_claimed_at_once_are_one_file(store: StageStore, disk: Refusing) -> None:
    holder = Leaseholder(store, "now", [])
    disk.files = 0
    claim(holder, range(1), epochs=5000)
    assert disk.files == 1
    assert len(lease_in(store).keys) == 5000


def test_stages_that_a_full_disk_refused_are_claimed_later(store: StageStore, disk: Refusing) -> None:
    holder = Leaseholder(store, "now", KEYS[:1])
    disk.refuses = True
    holder.extend([KEYS[1]])
    disk.refuses = False
    holder.extend([KEYS[2]])
    assert lease_in(store).keys == set(KEYS[:3])


def test_a_new_lease_on_a_full_disk_is_an_error(store: StageStore, disk: Refusing) -> None:
    disk.refuses = True
    with pytest.raises(OSError, match="No space left"):
        Leaseholder(store, "now", [])


def test_renewing_writes_little_and_only_after_a_minute(
    store: StageStore, disk: Refusing, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("search.stages.leases.time.monotonic", lambda: clock[0])
    holder = Leaseholder(store, "now", [])
    claim(holder, range(100))
    disk.bytes = 0
    for clock[0] in (1000.0, 1059.0):
        holder.renew()
        assert disk.bytes == 0
    clock[0] = 1061.0
    holder.renew()
    assert 0 < disk.bytes < 300


def test_renewing_writes_stages_that_a_full_disk_refused(
    store: StageStore, disk: Refusing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", -1.0)
    holder = Leaseholder(store, "now", KEYS[:1])
    disk.refuses = True
    holder.extend([KEYS[1]])
    disk.refuses = False
    holder.renew()
    assert lease_in(store).keys == set(KEYS[:2])


def test_a_search_claims_everything_again_after_a_long_suspension(
    store: StageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", -1.0)
    holder = Leaseholder(store, "now", [])
    claim(holder, range(30))
    before = lease_files(store)
    lease_in(store).delete(store.storage)
    holder.renew()
    assert lease_files(store) == before
    assert len(lease_in(store).keys) == 600


def test_leases_work_in_an_object_store() -> None:
    store = StageStore(f"memory://{uuid.uuid4().hex}")
    assert list(read_leases(store.storage)) == []
    holder = Leaseholder(store, "now", [])
    claim(holder, range(30))
    assert (len(lease_in(store).keys), lease_in(store).alive) == (600, True)
    holder.end()
    assert prune(store, 0) == ([], 0)
    assert lease_files(store) == []


def test_each_search_has_its_own_lease(store: StageStore) -> None:
    for name, key in (("a", KEYS[0]), ("b", KEYS[1])):
        Leaseholder(store, name, [key])
    assert {found.keys for found in read_leases(store.storage)} == {frozenset(KEYS[:1]), frozenset(KEYS[1:2])}


# The end of a search


def test_the_end_of_a_search_deletes_leases_that_are_a_month_old(store: StageStore) -> None:
    month = 31 * 24.0
    lease(store, "ended", KEYS[:1], hours=month, running=False)
    lease(store, "killed", KEYS[:1], hours=month, driver=dead_driver())
    lease(store, "expired", KEYS[:1], hours=month, driver=ELSEWHERE)
    lease(store, "recent", KEYS[:1], hours=month - 48, running=False)
    lease(store, "living", KEYS[:1], hours=month)
    Leaseholder(store, "now", []).end()
    assert lease_files(store) == ["leases/living.lease", "leases/now.lease", "leases/recent.lease"]


def test_the_end_of_a_search_keeps_old_files_of_a_lease_that_is_still_renewed(store: StageStore) -> None:
    lease(store, "long.00001", KEYS[:1], hours=31 * 24.0, driver=ELSEWHERE)
    lease(store, "long", [], driver=ELSEWHERE)
    Leaseholder(store, "now", []).end()
    assert lease_files(store) == ["leases/long.00001.lease", "leases/long.lease", "leases/now.lease"]


def test_the_end_of_a_search_deletes_temporary_files_of_dead_processes(store: StageStore) -> None:
    holder = Leaseholder(store, "now", ())
    dead, restarted = dead_driver(), f"{HERE}:{os.getpid()}:1700000000"
    old_dead, old_living = dead.rpartition(":")[0], f"{HERE}:{os.getppid()}"  # as earlier versions named processes
    living = [driver(), ELSEWHERE, old_living]
    for writer in (dead, restarted, old_dead, *living):
        store.storage.write(temporary(writer), b"half")
    holder.end()
    assert {file.name for file in store.storage.files(".tmp")} == set(map(temporary, living))


def temporary(writer: str) -> str:
    """The name of a temporary file of a process."""
    return f"ab/abcd.stage.{writer.replace(':', '-')}-01234567.tmp"

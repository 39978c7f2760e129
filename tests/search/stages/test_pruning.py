"""Pruning: which stages and which leases are deleted."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from search.stages import pruning
from search.stages.leases import EXPIRE_SECONDS, Leaseholder
from search.stages.pruning import prune, stages
from search.stages.store import StageStore
from tests.search.stored import ELSEWHERE, HERE, KEYS, dead_driver, keep, lease, lease_files, there, touch


@pytest.fixture
def store(tmp_path: Path) -> StageStore:
    return StageStore(str(tmp_path / "stages"))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "WATCH_SECONDS", 0.2)
    monkeypatch.setattr(pruning, "LOOK_SECONDS", 0.05)


@pytest.mark.parametrize(
    ("room", "left"),
    [(99, "012"), (3, "012"), (2.99, "01"), (2, "01"), (1, "1"), (0.5, ""), (0, "")],
)
def test_the_least_recently_used_stages_are_deleted_until_the_others_fit(
    store: StageStore, room: float, left: str
) -> None:
    size = keep(store, 2, 1, 3)
    deleted, bytes_left = prune(store, int(room * size))
    assert "".join(there(store)) == left
    assert [stage.key[0] for stage in deleted] == [key for key in "201" if key not in left]
    assert bytes_left == len(left) * size


def test_an_old_stage_counts_as_used_by_the_last_search(store: StageStore) -> None:
    size = keep(store, 30, 20, 10)
    lease(store, "later", [KEYS[0]], hours=1, running=False)
    prune(store, 2 * size)
    assert there(store) == ["0", "2"]


def test_stages_of_a_running_search_are_kept_even_if_they_do_not_fit(store: StageStore) -> None:
    size = keep(store, 4, 3, 2, 1)
    holder = Leaseholder(store, "now", [KEYS[0], KEYS[2], KEYS[2]])
    deleted, left = prune(store, 0)
    assert there(store) == ["0", "2"]
    assert (len(deleted), left) == (2, 2 * size)
    holder.end()
    prune(store, 0)
    assert there(store) == []


@pytest.mark.parametrize(
    ("changes", "hours", "safe"),
    [
        ({}, 0.0, True),
        ({}, 1000.0, True),
        ({"running": False}, 0.0, False),
        ({"driver": dead_driver()}, 0.0, False),
        ({"driver": f"{HERE}:{os.getpid()}:1700000000"}, 0.0, False),
        ({"driver": f"{HERE}:{os.getppid()}:1700000000"}, 0.0, False),
        ({"driver": ELSEWHERE}, 0.0, True),
        ({"driver": ELSEWHERE}, EXPIRE_SECONDS / 3600 - 0.1, True),
        ({"driver": ELSEWHERE}, EXPIRE_SECONDS / 3600 + 0.1, False),
        ({"driver": ELSEWHERE, "running": False}, 0.0, False),
    ],
    ids=[
        "this process",
        "this process, long not renewed",
        "ended",
        "dead process",
        "an earlier process with this one's id",
        "an earlier process with a living one's id",
        "fresh, elsewhere",
        "nearly expired, elsewhere",
        "expired, elsewhere",
        "ended, elsewhere",
    ],
)
def test_a_lease_holds_while_its_search_may_be_alive(
    store: StageStore, changes: dict[str, object], hours: float, safe: bool
) -> None:
    keep(store, 2000)
    lease(store, "s", [KEYS[0]], hours, **changes)
    assert [stage.needed for stage in stages(store)] == [safe]
    prune(store, 0)
    assert there(store) == (["0"] if safe else [])


@pytest.mark.parametrize("hours", [EXPIRE_SECONDS / 1800, 24 * 365.0], ids=["clock set", "clock of another year"])
def test_a_lease_that_is_expired_by_the_clock_alone_holds_if_it_is_renewed(
    store: StageStore, monkeypatch: pytest.MonkeyPatch, hours: float
) -> None:
    keep(store, 2, 1)
    lease(store, "s", [KEYS[0]], hours, driver=ELSEWHERE)

    def renew(seconds: float) -> None:
        lease(store, "s", [KEYS[0]], hours - 0.1, driver=ELSEWHERE)

    monkeypatch.setattr("search.stages.pruning.time.sleep", renew)
    prune(store, 0)
    assert (there(store), lease_files(store)) == (["0"], ["leases/s.lease"])


def test_one_running_search_protects_a_stage(store: StageStore) -> None:
    keep(store, 1)
    lease(store, "a", [KEYS[0]], running=False)
    lease(store, "b", [KEYS[0]])
    lease(store, "c", [KEYS[0]], driver=dead_driver())
    prune(store, 0)
    assert there(store) == ["0"]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "7", '{"search": "s"}', '{"keys": 3}', '{"keys": [], "more": 1}', "\0\xff"],
)
def test_a_damaged_lease_protects_nothing(store: StageStore, text: str) -> None:
    keep(store, 1)
    lease(store, "s", [KEYS[0]])
    store.storage.write("leases/s.lease", text.encode("latin-1"))
    assert [stage.needed for stage in stages(store)] == [False]


def test_a_lease_with_fields_of_wrong_types_protects_nothing(store: StageStore) -> None:
    keep(store, 1)
    lease(store, "s", [KEYS[0], 3])
    assert [stage.needed for stage in stages(store)] == [False]
    for driver in (7, None, HERE, *(f"{HERE}:{pid}" for pid in ("seven", 0, -1, 10**30))):
        lease(store, "s", [KEYS[0]], driver=driver)
        assert [stage.needed for stage in stages(store)] == [False], driver


@pytest.mark.parametrize(
    ("host", "pid", "safe"),
    [(HERE, os.getppid(), True), (HERE, os.getpid(), False), (ELSEWHERE.partition(":")[0], 7, True), (HERE, 0, False)],
    ids=["living", "an earlier process with this one's id", "elsewhere", "damaged"],
)
def test_a_lease_of_an_earlier_version_holds_while_its_process_lives(
    store: StageStore, host: str, pid: int, safe: bool
) -> None:
    keep(store, 1)
    values = {"search": "s", "host": host, "pid": pid, "running": True, "keys": KEYS[:1]}
    store.storage.write("leases/s.lease", json.dumps(values).encode())
    assert [stage.needed for stage in stages(store)] == [safe]


def test_an_empty_or_missing_store_is_not_an_error(store: StageStore) -> None:
    assert stages(store) == []
    assert prune(store, 0) == ([], 0)


def test_a_stage_that_another_process_deletes_meanwhile_is_not_an_error(
    store: StageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(store, 2, 1)
    drop = store.drop

    def vanish(key: str) -> None:
        drop(key)
        drop(key)

    monkeypatch.setattr(store, "drop", vanish)
    prune(store, 0)
    assert there(store) == []


# Leases of ended searches


def test_the_lease_of_an_ended_search_is_deleted_with_its_last_stage(store: StageStore) -> None:
    size = keep(store, 4, 3, 2)
    lease(store, "over", KEYS[:2], hours=1.5, running=False)
    lease(store, "killed", KEYS[2:3], hours=1, driver=dead_driver())
    prune(store, 2 * size)
    assert (there(store), lease_files(store)) == (["1", "2"], ["leases/killed.lease", "leases/over.lease"])
    prune(store, size)
    assert (there(store), lease_files(store)) == (["2"], ["leases/killed.lease"])
    prune(store, 0)
    assert lease_files(store) == []


def test_the_lease_of_an_ended_search_is_deleted_if_a_later_one_used_the_same_stages(store: StageStore) -> None:
    keep(store, 4)
    lease(store, "first", KEYS[:1], hours=2, running=False)
    lease(store, "second", KEYS[:1], hours=1, running=False)
    prune(store, 10**9)
    assert lease_files(store) == ["leases/second.lease"]


def test_all_files_of_an_ended_search_are_deleted(store: StageStore) -> None:
    holder = Leaseholder(store, "over", [])
    for number in range(5):
        holder.extend(f"{number}-{k}" for k in range(150))
    holder.end()
    assert len(lease_files(store)) > 3
    prune(store, 10**9)
    assert lease_files(store) == []


@pytest.mark.parametrize("hours", [0.0, 24 * 365.0])
def test_the_lease_of_a_running_search_is_never_deleted(store: StageStore, hours: float) -> None:
    holder = Leaseholder(store, "now", [])
    for number in range(5):
        holder.extend(f"{number}-{k}" for k in range(150))
    lease(store, "elsewhere", KEYS[:1], driver=ELSEWHERE)
    before = lease_files(store)
    for name in before:
        if "now" in name:
            touch(store, name, hours)
    prune(store, 0)
    assert lease_files(store) == before


def test_a_lease_that_cannot_be_read_is_deleted_after_a_month(store: StageStore) -> None:
    for name, days in (("old", 31), ("new", 29)):
        store.storage.write(f"leases/{name}.lease", b"{")
        touch(store, f"leases/{name}.lease", 24 * days)
    prune(store, 0)
    assert lease_files(store) == ["leases/new.lease"]

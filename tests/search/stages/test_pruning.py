"""Pruning: which stages go, which stay, and which leases go with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from search.stages.leases import EXPIRE_SECONDS, Leaseholder
from search.stages.pruning import prune, stages
from search.stages.store import StageStore
from tests.search.stored import ELSEWHERE, KEYS, dead_pid, keep, lease, lease_files, there, touch


@pytest.fixture
def store(tmp_path: Path) -> StageStore:
    return StageStore(str(tmp_path / "stages"))


@pytest.mark.parametrize(
    ("room", "left"),
    [(99, "012"), (3, "012"), (2.99, "01"), (2, "01"), (1, "1"), (0.5, ""), (0, "")],
)
def test_the_least_recently_used_go_first_until_the_rest_fits(store: StageStore, room: float, left: str) -> None:
    size = keep(store, 2, 1, 3)
    deleted, bytes_left = prune(store, int(room * size))
    assert "".join(there(store)) == left
    assert [kept.key[0] for kept in deleted] == [key for key in "201" if key not in left]
    assert bytes_left == len(left) * size


def test_an_old_stage_used_by_a_later_search_stays(store: StageStore) -> None:
    size = keep(store, 30, 20, 10)
    lease(store, "later", [KEYS[0]], hours=1, running=False)
    prune(store, 2 * size)
    assert there(store) == ["0", "2"]


def test_stages_of_a_running_search_stay_even_if_they_do_not_fit(store: StageStore) -> None:
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
        ({"pid": 0}, 0.0, False),
        ({"host": ELSEWHERE, "pid": 2**22 + 7}, 0.0, True),
        ({"host": ELSEWHERE}, EXPIRE_SECONDS / 3600 - 0.1, True),
        ({"host": ELSEWHERE}, EXPIRE_SECONDS / 3600 + 0.1, False),
        ({"host": ELSEWHERE, "running": False}, 0.0, False),
    ],
    ids=[
        "this process",
        "this process, long not renewed",
        "ended",
        "dead process",
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
    lease(store, "s", [KEYS[0]], hours, **(changes | ({"pid": dead_pid()} if changes.get("pid") == 0 else {})))
    assert [kept.needed for kept in stages(store)] == [safe]
    prune(store, 0)
    assert there(store) == (["0"] if safe else [])


def test_one_running_search_protects_a_stage(store: StageStore) -> None:
    keep(store, 1)
    lease(store, "a", [KEYS[0]], running=False)
    lease(store, "b", [KEYS[0]])
    lease(store, "c", [KEYS[0]], pid=dead_pid())
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
    assert [kept.needed for kept in stages(store)] == [False]


def test_a_lease_with_fields_of_wrong_types_protects_nothing(store: StageStore) -> None:
    keep(store, 1)
    for number, changes in enumerate(({"pid": "seven"}, {"keys": [3, None]}, {"pid": 0}, {"pid": -1}, {"pid": 10**30})):
        lease(store, f"s{number}", [KEYS[0]])
        path = Path(store.uri) / "leases" / f"s{number}.lease"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        found = stages(store)
        path.unlink()
        assert [kept.needed for kept in found] == [False], changes


def test_an_empty_or_missing_store_is_not_an_error(store: StageStore) -> None:
    assert stages(store) == []
    assert prune(store, 0) == ([], 0)


def test_a_stage_that_vanishes_meanwhile_is_not_an_error(store: StageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(store, 2, 1)
    drop = store.drop

    def vanish(key: str) -> None:
        drop(key)
        drop(key)

    monkeypatch.setattr(store, "drop", vanish)
    prune(store, 0)
    assert there(store) == []


# Leases that are over


def test_the_lease_of_a_finished_search_goes_with_the_last_of_its_stages(store: StageStore) -> None:
    size = keep(store, 4, 3, 2)
    lease(store, "over", KEYS[:2], hours=1.5, running=False)
    lease(store, "killed", KEYS[2:3], hours=1, pid=dead_pid())
    prune(store, 2 * size)
    assert (there(store), lease_files(store)) == (["1", "2"], ["leases/killed.lease", "leases/over.lease"])
    prune(store, size)
    assert (there(store), lease_files(store)) == (["2"], ["leases/killed.lease"])
    prune(store, 0)
    assert lease_files(store) == []


def test_the_lease_of_a_finished_search_goes_when_a_later_one_used_the_same_stages(store: StageStore) -> None:
    keep(store, 4)
    lease(store, "first", KEYS[:1], hours=2, running=False)
    lease(store, "second", KEYS[:1], hours=1, running=False)
    prune(store, 10**9)
    assert lease_files(store) == ["leases/second.lease"]


def test_all_files_of_a_finished_search_are_deleted(store: StageStore) -> None:
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
    lease(store, "elsewhere", KEYS[:1], host=ELSEWHERE)
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

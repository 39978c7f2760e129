"""Leases, pruning and the two commands that look after a stage store."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from parts import made_stage

from agr.errors import SettingsError
from search import upkeep
from search.stages import Stage, StageStore
from search.upkeep import EXPIRE_SECONDS, LEASE, Lease, Leaseholder, main, parse_size, prune, stages

KEYS = [digit * 64 for digit in "0123456789"]
HERE, ELSEWHERE = socket.gethostname(), "another-machine"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "stages"


@pytest.fixture
def store(folder: Path) -> StageStore:
    return StageStore(str(folder))


def keep(store: StageStore, folder: Path, *ages: float) -> int:
    """Stages KEYS[0], KEYS[1], ... last changed so many hours ago; returns the bytes of one."""
    for key, hours in zip(KEYS, ages, strict=False):
        store.put(key, made_stage())
        touch(folder / StageStore.name(key), hours)
    return (folder / StageStore.name(KEYS[0])).stat().st_size


def touch(path: Path, hours: float) -> None:
    then = time.time() - 3600 * hours
    os.utime(path, (then, then))


def lease(folder: Path, search: str, keys: list[str], hours: float = 0.0, **changes: object) -> None:
    """A lease file as a search wrote it so many hours ago."""
    values = asdict(replace(Lease(search, HERE, os.getpid(), True, tuple(keys)), **changes))  # type: ignore[arg-type]
    path = folder / "leases" / f"{search}{LEASE}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))
    touch(path, hours)


def there(store: StageStore) -> list[str]:
    return [key[0] for key in KEYS if store.get(key) is not None]


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


# Pruning


@pytest.mark.parametrize(
    ("room", "left"),
    [(99, "012"), (3, "012"), (2.99, "01"), (2, "01"), (1, "1"), (0.5, ""), (0, "")],
)
def test_the_least_recently_used_go_first_until_the_rest_fits(
    store: StageStore, folder: Path, room: float, left: str
) -> None:
    size = keep(store, folder, 2, 1, 3)
    deleted, bytes_left = prune(store, int(room * size))
    assert "".join(there(store)) == left
    assert [kept.key[0] for kept in deleted] == [key for key in "201" if key not in left]
    assert bytes_left == len(left) * size


def test_an_old_stage_that_a_later_search_used_is_young(store: StageStore, folder: Path) -> None:
    size = keep(store, folder, 30, 20, 10)
    lease(folder, "later", [KEYS[0]], hours=1, running=False)
    prune(store, 2 * size)
    assert there(store) == ["0", "2"]


def test_stages_of_a_running_search_stay_even_if_they_do_not_fit(store: StageStore, folder: Path) -> None:
    size = keep(store, folder, 4, 3, 2, 1)
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
    store: StageStore, folder: Path, changes: dict[str, object], hours: float, safe: bool
) -> None:
    keep(store, folder, 2000)
    lease(folder, "s", [KEYS[0]], hours, **(changes | ({"pid": dead_pid()} if changes.get("pid") == 0 else {})))
    assert [kept.needed for kept in stages(store)] == [safe]
    prune(store, 0)
    assert there(store) == (["0"] if safe else [])


def test_one_running_search_is_enough(store: StageStore, folder: Path) -> None:
    keep(store, folder, 1)
    lease(folder, "a", [KEYS[0]], running=False)
    lease(folder, "b", [KEYS[0]])
    lease(folder, "c", [KEYS[0]], pid=dead_pid())
    prune(store, 0)
    assert there(store) == ["0"]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "7", '{"search": "s"}', '{"keys": 3}', '{"keys": [], "more": 1}', "\0\xff"],
)
def test_a_damaged_lease_is_as_good_as_none(store: StageStore, folder: Path, text: str) -> None:
    keep(store, folder, 1)
    lease(folder, "s", [KEYS[0]])
    (folder / "leases" / f"s{LEASE}").write_bytes(text.encode("latin-1"))
    assert [kept.needed for kept in stages(store)] == [False]


def test_a_damaged_lease_with_fields_of_other_kinds_is_as_good_as_none(store: StageStore, folder: Path) -> None:
    keep(store, folder, 1)
    for number, changes in enumerate(({"pid": "seven"}, {"keys": [3, None]}, {"pid": 0}, {"pid": -1}, {"pid": 10**30})):
        lease(folder, f"s{number}", [KEYS[0]])
        path = folder / "leases" / f"s{number}{LEASE}"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        found = stages(store)
        path.unlink()
        assert [kept.needed for kept in found] == [False], changes


def test_an_empty_or_missing_store_is_no_trouble(store: StageStore) -> None:
    assert stages(store) == []
    assert prune(store, 0) == ([], 0)


def test_a_stage_that_vanished_meanwhile_is_no_trouble(
    store: StageStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(store, folder, 2, 1)
    found = stages(store)
    (folder / StageStore.name(KEYS[0])).unlink()
    monkeypatch.setattr(upkeep, "stages", lambda store: found)
    prune(store, 0)
    assert there(store) == []


# Leases


def read_lease(folder: Path, search: str) -> dict[str, object]:
    values: dict[str, object] = json.loads((folder / "leases" / f"{search}{LEASE}").read_text())
    return values


def test_a_lease_names_the_search_its_process_and_its_stages_once(store: StageStore, folder: Path) -> None:
    holder = Leaseholder(store, "now", [KEYS[1], KEYS[0], KEYS[1]])
    expected = {"search": "now", "host": HERE, "pid": os.getpid(), "running": True, "keys": KEYS[:2]}
    assert read_lease(folder, "now") == expected
    holder.end()
    assert read_lease(folder, "now") == expected | {"running": False}


def test_a_lease_grows_by_what_the_search_comes_to_need(store: StageStore, folder: Path) -> None:
    size = keep(store, folder, 3, 2, 1)
    holder = Leaseholder(store, "now", [])
    holder.extend(iter([KEYS[2], KEYS[1]]))
    assert read_lease(folder, "now")["keys"] == [KEYS[1], KEYS[2]]
    holder.extend([KEYS[0], KEYS[1]])
    assert read_lease(folder, "now")["keys"] == KEYS[:3]
    assert prune(store, 0) == ([], 3 * size)
    holder.end()
    assert read_lease(folder, "now") == {
        "search": "now",
        "host": HERE,
        "pid": os.getpid(),
        "running": False,
        "keys": KEYS[:3],
    }


def test_what_a_lease_names_already_is_not_written_again(store: StageStore, folder: Path) -> None:
    holder = Leaseholder(store, "now", KEYS[:2])
    path = folder / "leases" / f"now{LEASE}"
    path.unlink()
    holder.extend([KEYS[1], KEYS[0]])
    holder.extend([])
    assert not path.exists()
    holder.extend([KEYS[5]])
    assert read_lease(folder, "now")["keys"] == [KEYS[0], KEYS[1], KEYS[5]]


def test_a_store_that_takes_nothing_meanwhile_does_not_stop_a_lease_from_growing(
    store: StageStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = Leaseholder(store, "now", KEYS[:1])

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(type(store.storage), "write", refuse)
        holder.extend([KEYS[1]])
    holder.extend([KEYS[2]])
    assert read_lease(folder, "now")["keys"] == KEYS[:3]


def test_renewing_writes_only_when_the_last_word_is_old(
    store: StageStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("search.upkeep.time.monotonic", lambda: clock[0])
    holder = Leaseholder(store, "now", KEYS[:1])
    path = folder / "leases" / f"now{LEASE}"
    path.unlink()
    for clock[0] in (1000.0, 1059.0):
        holder.renew()
        assert not path.exists()
    clock[0] = 1061.0
    holder.renew()
    assert path.exists()


# Sizes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("12", 12),
        ("12B", 12),
        ("1k", 1000),
        ("500MB", 500_000_000),
        ("2GB", 2_000_000_000),
        ("2 gb", 2_000_000_000),
        ("1.5T", 1_500_000_000_000),
        (" 3M ", 3_000_000),
    ],
)
def test_sizes_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1", "1,5GB", "1e9", "5 apples", "1.GB", ".5G", "2GiB", "inf", "1G 1M"])
def test_what_is_no_size_is_one_line(text: str) -> None:
    with pytest.raises(SettingsError, match="--max-size") as caught:
        parse_size(text)
    assert "expected for instance 500MB" in str(caught.value)


# The commands


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "search.stages", *arguments], capture_output=True, text=True, check=False
    )


def test_list_shows_the_youngest_first_what_it_is_and_whether_it_is_in_use(
    store: StageStore, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = keep(store, folder, 3, 2, 1)
    store.put(KEYS[1], Stage(made_stage().state, ("x", "x"), {"data": "words", "epochs": 2}))
    touch(folder / StageStore.name(KEYS[1]), 2)
    lease(folder, "now", [KEYS[0]], hours=9)
    assert main(["list", "--stage-store", store.uri]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[0] for line in lines[:3]] == ["2", "1", "0"]
    assert "data words  epochs 2" in lines[1]
    assert [line.endswith("in use") for line in lines] == [False, False, True, False]
    assert lines[3].startswith(f"{store.uri}: 3 stages, ")
    assert len(lines) == 4
    assert size


@pytest.mark.parametrize("damaged", [b"", b"short", b"x" * 200, b"\0" * 5000], ids=["empty", "short", "text", "zeros"])
def test_list_names_a_damaged_stage_as_such(
    store: StageStore, folder: Path, capsys: pytest.CaptureFixture[str], damaged: bytes
) -> None:
    keep(store, folder, 1)
    (folder / StageStore.name(KEYS[0])).write_bytes(damaged)
    assert main(["list", "--stage-store", store.uri]) == 0
    assert "damaged: will be computed again" in capsys.readouterr().out


def test_prune_says_what_it_did(store: StageStore, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = keep(store, folder, 3, 2, 1)
    assert main(["prune", "--max-size", str(size), "--stage-store", store.uri]) == 0
    out = capsys.readouterr().out
    assert out == f"{store.uri}: 2 stages deleted, {2 * size / 1e6:.1f} MB freed, {size / 1e6:.1f} MB left\n"
    assert there(store) == ["2"]


def test_prune_without_a_size_keeps_ten_gigabytes(
    store: StageStore, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(store, folder, 3, 2)
    assert main(["prune", "--stage-store", store.uri]) == 0
    assert "0 stages deleted" in capsys.readouterr().out
    assert there(store) == ["0", "1"]


def test_the_commands_as_typed(store: StageStore, folder: Path) -> None:
    keep(store, folder, 1)
    listed = command("list", "--stage-store", store.uri)
    assert (listed.returncode, listed.stderr) == (0, "")
    assert f"{store.uri}: 1 stages" in listed.stdout
    wrong = command("prune", "--max-size", "much", "--stage-store", store.uri)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.splitlines() == ["agr: --max-size much: not a size; expected for instance 500MB or 2GB"]


@pytest.mark.parametrize("arguments", [["shrink"], [], ["prune", "--size", "1"]])
def test_wrong_usage_has_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: python -m search.stages" in capsys.readouterr().err


def test_an_unknown_scheme_is_a_settings_error() -> None:
    with pytest.raises(SettingsError, match="gopher://x"):
        main(["list", "--stage-store", "gopher://x"])


def test_what_a_killed_writer_left_half_written_goes_with_the_next_search(tmp_path: Path) -> None:
    store = StageStore(str(tmp_path / "stages"))
    holder = Leaseholder(store, "now", ())
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    names = [
        f"ab/abcd.stage.{host}-{pid}-0123abcd.tmp" for host in (HERE, ELSEWHERE) for pid in (dead.pid, os.getpid())
    ]
    for name in names:
        store.storage.write(name, b"half")
    holder.end()
    assert sorted(entry.name for entry in store.storage.entries(".tmp")) == sorted(names[1:])

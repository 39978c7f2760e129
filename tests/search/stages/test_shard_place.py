"""Shards in a storage: sent once, fetched once on each machine, whole or not at all."""

from __future__ import annotations

import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from agr.data import shards
from agr.errors import CorpusError
from agr.recipes.mfcc import MFCC
from search.stages.shard_place import ShardPlace, publish
from search.stages.storage import Storage


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Three shards on the driver's disk; the node's cache is empty."""
    monkeypatch.setenv("AGR_CACHE", str(tmp_path / "cache"))
    stored = np.random.default_rng(0).integers(0, 256, (3, *MFCC.stored_shape), dtype=np.uint8)
    clips = [shards.Outcome(f"{n}", "", MFCC.digest, f"{n}", stored=clip) for n, clip in enumerate(stored)]
    return [shards.write(tmp_path / "driver", [clip], MFCC) for clip in clips]


@pytest.fixture
def place(made: list[Path], tmp_path: Path) -> ShardPlace:
    """The same in a storage; the node does not see the driver's disk."""
    found = publish(made, str(tmp_path / "storage"))
    shutil.move(tmp_path / "driver", tmp_path / "far away")
    return found


def reads(monkeypatch: pytest.MonkeyPatch, seconds: float = 0.0) -> list[str]:
    """The names of what is read from a storage from now on, each slowly."""
    names, read = list[str](), Storage.read

    def counted(storage: Storage, name: str, limit: int | None = None) -> bytes | None:
        names.append(name)
        time.sleep(seconds)
        return read(storage, name, limit)

    monkeypatch.setattr(Storage, "read", counted)
    return names


def test_the_storage_gets_each_shard_once(made: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri = str(tmp_path / "storage")
    publish(made[:2], uri)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "storage").iterdir()}
    assert "2 of 2 shards" in capsys.readouterr().err
    assert publish(made, uri) == ShardPlace(uri, {path: path.stat().st_size for path in made})
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "storage").iterdir()}
    assert after.items() > before.items()
    assert sorted(after) == sorted(path.name for path in made)


def test_a_shard_that_was_torn_in_the_storage_is_sent_again(made: list[Path], tmp_path: Path) -> None:
    torn = tmp_path / "storage" / made[0].name
    publish(made, str(tmp_path / "storage"))
    torn.unlink()
    torn.write_bytes(made[0].read_bytes()[:-1])
    publish(made, str(tmp_path / "storage"))
    assert torn.read_bytes() == made[0].read_bytes()


def test_a_storage_on_another_disk_gets_copies(
    made: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Storage, "link", lambda *_: False)
    publish(made, str(tmp_path / "storage"))
    assert all(shards.intact(path) for path in (tmp_path / "storage").iterdir())
    assert [path.stat().st_nlink for path in made] == [1, 1, 1]


def test_a_machine_that_sees_the_shards_fetches_nothing(made: list[Path], tmp_path: Path) -> None:
    assert publish(made, str(tmp_path / "storage")).fetch() == {path: path for path in made}
    assert not (tmp_path / "cache").exists()


def test_shards_are_fetched_once(place: ShardPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = reads(monkeypatch)
    found = place.fetch()
    assert found == {path: tmp_path / "cache/shards" / path.name for path in place.sizes}
    assert all(shards.intact(path) for path in found.values())
    assert place.fetch() == found
    assert sorted(names) == sorted(path.name for path in place.sizes)


def test_two_workers_at_once_share_one_download(place: ShardPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    names, together = reads(monkeypatch, seconds=0.05), threading.Barrier(2)

    def work(_: int) -> dict[Path, Path]:
        together.wait()
        return place.fetch()

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(work, range(2))
    assert first == second
    assert len(names) == 3


def test_a_download_that_a_kill_tore_is_made_anew(place: ShardPlace, tmp_path: Path) -> None:
    cache, (first, second, _) = tmp_path / "cache/shards", place.sizes
    cache.mkdir(parents=True)
    (cache / f".{first.name}.1.tmp").write_bytes(b"half")
    (cache / second.name).write_bytes(b"half")
    assert all(shards.intact(path) for path in place.fetch().values())
    assert sorted(path.name for path in cache.glob("*.arrow")) == sorted(path.name for path in place.sizes)
    assert not list(cache.glob(".*.tmp"))


@pytest.mark.parametrize("damage, found", [(b"changed", "damaged"), (None, "missing")])
def test_a_damaged_shard_is_never_used(place: ShardPlace, tmp_path: Path, damage: bytes | None, found: str) -> None:
    bad = tmp_path / "storage" / next(iter(place.sizes)).name
    bad.unlink() if damage is None else bad.write_bytes(damage)
    with pytest.raises(CorpusError, match=rf"^.*{bad.name}: {found}; expected the shard; the same command sends it"):
        place.fetch()
    assert not (tmp_path / "cache/shards" / bad.name).exists()
    assert not bad.exists()


def test_a_read_that_was_cut_short_is_repeated(place: ShardPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    cut, read = set[str](), Storage.read

    def torn(storage: Storage, name: str, limit: int | None = None) -> bytes | None:
        data = read(storage, name, limit)
        if name in cut or data is None:
            return data
        cut.add(name)
        return data[:-1]

    monkeypatch.setattr(Storage, "read", torn)
    assert all(shards.intact(path) for path in place.fetch().values())


def full(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """The node's disk has no room."""
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=0))


def test_a_disk_that_is_too_small_is_refused_before_anything_is_read(
    place: ShardPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Storage, "path", lambda *_: None)  # as of a bucket
    names = reads(monkeypatch)
    full(monkeypatch, tmp_path)
    with pytest.raises(CorpusError, match=r"cache/shards: 0\.0 GB free on its disk; expected .* AGR_CACHE may name"):
        place.fetch()
    assert names == []


def test_a_disk_that_is_too_small_leaves_shards_in_a_storage_that_is_a_folder(
    place: ShardPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = reads(monkeypatch)
    full(monkeypatch, tmp_path)
    found = place.fetch()
    assert found == {path: tmp_path / "storage" / path.name for path in place.sizes}
    assert all(shards.intact(path) for path in found.values())
    assert names == []
    assert not list((tmp_path / "cache/shards").glob("*.arrow"))


def test_a_disk_that_is_too_small_does_not_use_a_torn_shard_in_the_storage(
    place: ShardPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torn = tmp_path / "storage" / next(iter(place.sizes)).name
    torn.write_bytes(torn.read_bytes()[:-1])
    full(monkeypatch, tmp_path)
    with pytest.raises(CorpusError, match="free on its disk"):
        place.fetch()


def test_idle_shards_of_other_searches_make_room_the_idlest_first(
    place: ShardPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, usage, now = tmp_path / "cache/shards", shutil.disk_usage(tmp_path), time.time()
    cache.mkdir(parents=True)
    size = sum(place.sizes.values())
    others = [cache / f"shard-{number:032}.arrow" for number in range(3)]
    for path, days in zip(others, (8, 9, 0.5), strict=True):
        path.write_bytes(bytes(size))
        os.utime(path, (now - days * 86_400,) * 2)

    def disk(_: Path) -> object:
        return usage._replace(free=3 * size - sum(path.stat().st_size for path in cache.glob("*.arrow")))

    monkeypatch.setattr(shutil, "disk_usage", disk)
    assert all(path.parent == cache for path in place.fetch().values())
    assert [path.exists() for path in others] == [True, False, True]


def test_nothing_is_deleted_in_vain_nor_what_has_a_second_name(
    place: ShardPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache/shards"
    cache.mkdir(parents=True)
    small, twice = (cache / f"shard-{number:032}.arrow" for number in range(2))
    small.write_bytes(b"x")
    twice.write_bytes(bytes(2 * sum(place.sizes.values())))
    (tmp_path / "storage" / twice.name).hardlink_to(twice)
    for path in (small, twice):
        os.utime(path, (0, 0))
    full(monkeypatch, tmp_path)
    place.fetch()
    assert small.exists()
    assert twice.exists()


def test_a_shard_that_is_asked_for_again_is_not_idle(place: ShardPlace) -> None:
    path = next(iter(place.fetch().values()))
    os.utime(path, (0, 0))
    place.fetch()
    assert time.time() - path.stat().st_mtime < 60


def test_shards_in_use_are_not_deleted_for_others(
    place: ShardPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "cache/shards" / f"shard-{0:032}.arrow"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"used")
    full(monkeypatch, tmp_path)
    place.fetch()
    assert other.exists()

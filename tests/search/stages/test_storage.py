"""Files on a disk, behind a file URI, and behind an fsspec URI."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from pyarrow import fs as arrow

from agr.errors import SettingsError
from search.stages.storage import TEMPORARY, Storage, absolute, below

PLACES = ("path", "file", "memory")


def uri_of(place: str, folder: Path) -> str:
    if place == "memory":
        return f"memory://{uuid.uuid4().hex}/a store"
    return str(folder / "a store") if place == "path" else (folder / "store").as_uri()


@pytest.fixture(params=PLACES)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return Storage(uri_of(request.param, tmp_path))


def names(storage: Storage, suffix: str = "") -> list[str]:
    return sorted(file.name for file in storage.files(suffix))


@pytest.mark.parametrize("data", [b"", b"\0", bytes(range(256)) * 1000], ids=["empty", "one byte", "256 kB"])
def test_data_is_read_as_it_was_written(storage: Storage, data: bytes) -> None:
    storage.write("ab/file.stage", data)
    assert storage.read("ab/file.stage") == data
    assert names(storage) == ["ab/file.stage"]


def test_a_file_of_the_same_disk_is_linked(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    linked = storage.link(tmp_path / "file", "a/x")
    assert storage.read("a/x") == (b"content" if linked else None)
    assert ((tmp_path / "file").stat().st_nlink == 2) == linked
    assert not storage.link(tmp_path / "file", "a/x"), "a file that is there stays"
    assert not storage.link(tmp_path / "no such", "a/y")


def test_a_second_write_replaces_the_first(storage: Storage) -> None:
    storage.write("a/x", b"a long first content")
    storage.write("a/x", b"second")
    assert storage.read("a/x") == b"second"


def test_a_limited_read_returns_the_first_bytes(storage: Storage) -> None:
    storage.write("a/x", b"0123456789")
    assert storage.read("a/x", 4) == b"0123"
    assert storage.read("a/x", 99) == b"0123456789"


def test_a_missing_file_reads_as_none_and_can_be_deleted(storage: Storage) -> None:
    assert storage.read("no/such") is None
    storage.delete("no/such")
    assert names(storage) == []
    storage.write("a/x", b"x")
    storage.delete("a/x")
    storage.delete("a/x")
    assert storage.read("a/x") is None
    assert names(storage) == []


@pytest.mark.parametrize("place", PLACES)
def test_files_are_listed_with_name_size_and_time(place: str, tmp_path: Path) -> None:
    storage, before = Storage(uri_of(place, tmp_path)), time.time()
    storage.write("aa/one.stage", b"1")
    storage.write("bb/two.stage", b"22")
    storage.write("leases/s.lease", b"333")
    found = {file.name: file for file in storage.files(".stage")}
    assert {name: file.size for name, file in found.items()} == {"aa/one.stage": 1, "bb/two.stage": 2}
    times = [file.changed for file in found.values()]
    assert times == [0.0, 0.0] if place == "memory" else all(before - 5 <= each <= time.time() + 5 for each in times)
    assert names(storage, ".lease") == ["leases/s.lease"]


def test_the_files_of_one_folder_are_listed(storage: Storage) -> None:
    for name in ("a/one.x", "a/two.y", "a/b/three.x", "a-2/four.x", "five.x"):
        storage.write(name, b"1")
    assert sorted(file.name for file in storage.files(".x", "a")) == ["a/b/three.x", "a/one.x"]
    assert list(storage.files(".x", "missing")) == []


@pytest.mark.parametrize("place", PLACES)
def test_a_second_storage_of_the_same_uri_reads_the_files_of_the_first(place: str, tmp_path: Path) -> None:
    uri = uri_of(place, tmp_path)
    Storage(uri).write("a/x", b"x")
    assert Storage(uri + "/").read("a/x") == b"x"


def test_a_file_uri_is_a_folder_of_this_machine(tmp_path: Path) -> None:
    Storage(tmp_path.as_uri()).write("a/x", b"x")
    assert (tmp_path / "a" / "x").read_bytes() == b"x"


def test_a_path_may_contain_characters_that_a_uri_would_escape(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "a b#c%20d?"))
    storage.write("x", b"x")
    assert (tmp_path / "a b#c%20d?" / "x").read_bytes() == b"x"


def test_a_relative_path_does_not_follow_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage = Storage("store")
    monkeypatch.chdir("/")
    storage.write("x", b"x")
    assert (tmp_path / "store" / "x").read_bytes() == b"x"


@pytest.mark.parametrize("place", PLACES)
def test_clear_deletes_the_files_below_the_root_only(place: str, tmp_path: Path) -> None:
    uri = uri_of(place, tmp_path)
    storage, beside = Storage(f"{uri}/a"), Storage(f"{uri}/a-2")
    storage.write("b/x", b"x")
    beside.write("y", b"y")
    storage.clear()
    storage.clear()
    assert names(storage) == []
    assert beside.read("y") == b"y"
    assert not (tmp_path / "a store" / "a").exists()


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://bucket", "s3://bucket/stages"),
        ("s3://bucket/a/", "s3://bucket/a/stages"),
        ("s3://bucket/a?region=here&scheme=http", "s3://bucket/a/stages?region=here&scheme=http"),
        ("/a b?c", "/a b?c/stages"),
    ],
)
def test_the_query_of_a_uri_stays_at_its_end(uri: str, expected: str) -> None:
    assert below(uri, "stages") == expected


def test_only_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("a/../b/") == str(tmp_path / "b")
    assert absolute("s3://bucket/b/") == "s3://bucket/b"


@pytest.mark.parametrize("uri", ["gopher://host/x", "nosuch://"])
def test_an_unknown_scheme_is_a_one_line_error(uri: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Storage(uri)
    assert str(caught.value).startswith(uri)
    assert "expected a path, or a URI" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_interrupted_write_leaves_the_old_file_and_no_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Storage(str(tmp_path)).write("a/x", b"old")

    class Interrupted(arrow.LocalFileSystem):  # type: ignore[misc]
        """A disk during whose writes somebody presses Ctrl-C."""

        @contextmanager
        def open_output_stream(self, path: str) -> Iterator[IO[bytes]]:
            with super().open_output_stream(path) as stream:
                stream.write(b"new")
                raise KeyboardInterrupt
            yield stream

    monkeypatch.setattr(arrow, "LocalFileSystem", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        Storage(str(tmp_path)).write("a/x", b"new content")
    assert (tmp_path / "a" / "x").read_bytes() == b"old"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["x"]


WRITER = """
import sys
from search.stages.storage import Storage
storage, fill = Storage(sys.argv[1]), sys.argv[2].encode()
print("ready", flush=True)
for round in range(10**9 if len(sys.argv) < 4 else int(sys.argv[3])):
    storage.write("k/x.stage", fill * 3_000_000)
"""


def writer(uri: str, fill: str, *rounds: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", WRITER, uri, fill, *rounds], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"ready\n"
    return process


@pytest.mark.parametrize("place", ["path", "file"])
def test_writers_in_several_processes_never_yield_a_torn_read(place: str, tmp_path: Path) -> None:
    uri = uri_of(place, tmp_path)
    storage = Storage(uri)
    processes = [writer(uri, fill, "12") for fill in "abc"]
    seen = set()
    while any(process.poll() is None for process in processes):
        data = storage.read("k/x.stage")
        if data is not None:
            assert data in (b"a" * 3_000_000, b"b" * 3_000_000, b"c" * 3_000_000)
            seen.add(data[:1])
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert seen
    assert names(storage) == ["k/x.stage"]


def test_a_killed_writer_leaves_nothing_visible(tmp_path: Path) -> None:
    uri = str(tmp_path / "store")
    storage = Storage(uri)
    for _ in range(4):
        process = writer(uri, "a")
        wait_for(lambda: any((tmp_path / "store").rglob(f"*{TEMPORARY}")))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert storage.read("k/x.stage") in (None, b"a" * 3_000_000)
        assert names(storage, ".stage") in ([], ["k/x.stage"])


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.0005)

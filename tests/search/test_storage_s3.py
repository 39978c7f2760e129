"""The stage store in an S3 bucket, served by moto in a separate process."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator

import pytest
from pyarrow.fs import FileSystem

from search.stages.__main__ import main
from search.stages.leases import Leaseholder
from search.stages.pruning import prune
from search.stages.storage import Storage
from search.stages.store import Stage, StageStore, final_weights
from tests.search.fakes import made_stage, same_stage

KEYS = [digit * 64 for digit in "0123"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The URI of an empty bucket."""
    if importlib.util.find_spec("moto") is None:
        pytest.skip("no S3 server: the package moto[server] is not installed")
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ACCESS_KEY_ID", "made")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "up")
            patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
            wait_for(port, server)
            system, name = FileSystem.from_uri("s3://agr?allow_bucket_creation=true")
            system.create_dir(name)
            yield "s3://agr"
    finally:
        server.kill()
        server.wait()


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 120
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        except OSError:
            assert server.poll() is None and time.monotonic() < until, "moto's server did not start"
            time.sleep(0.05)


@pytest.fixture
def store(bucket: str) -> StageStore:
    return StageStore(f"{bucket}/{uuid.uuid4().hex}/stages")


def names(store: StageStore) -> list[str]:
    return sorted(file.name for file in store.storage.files(""))


def test_a_stage_is_read_to_the_bit_as_it_was_written(store: StageStore) -> None:
    stage = made_stage(epochs=3)
    store.put(KEYS[0], stage)
    back = StageStore(store.uri).get(KEYS[0])
    assert isinstance(back, Stage)
    assert same_stage(back, stage)
    assert final_weights(store.uri, KEYS[0]).keys() == stage.state.weights.keys()


def test_a_missing_stage_is_none_and_can_be_deleted(store: StageStore) -> None:
    assert store.get(KEYS[0]) is None
    store.drop(KEYS[0])
    assert names(store) == []


def test_a_second_stage_replaces_the_first(store: StageStore) -> None:
    store.put(KEYS[0], made_stage(seed=1))
    store.put(KEYS[0], made_stage(seed=2))
    back = store.get(KEYS[0])
    assert back is not None
    assert same_stage(back, made_stage(seed=2))
    assert names(store) == [StageStore.name(KEYS[0])]


@pytest.mark.parametrize("length", [0, 10, 300, -1], ids=["empty", "10 bytes", "300 bytes", "all but one byte"])
def test_a_truncated_stage_is_deleted(store: StageStore, length: int) -> None:
    store.put(KEYS[0], made_stage())
    whole = store.storage.read(StageStore.name(KEYS[0]))
    assert whole is not None
    store.storage.write(StageStore.name(KEYS[0]), whole[:length])
    assert store.get(KEYS[0]) is None
    assert names(store) == []


def test_files_are_listed_with_name_size_and_time(store: StageStore) -> None:
    before = time.time()
    store.storage.write("aa/one.stage", b"1")
    store.storage.write("leases/s.lease", b"22")
    (found,) = store.storage.files(".stage")
    assert (found.name, found.size) == ("aa/one.stage", 1)
    assert before - 5 <= found.changed <= time.time() + 5
    assert store.storage.read("leases/s.lease", 1) == b"2"


def test_pruning_keeps_the_stages_of_a_running_search(store: StageStore) -> None:
    for key in KEYS:
        store.put(key, made_stage())
    holder = Leaseholder(store, "running", KEYS[:2])
    deleted, _ = prune(store, 0)
    assert sorted(stage.key for stage in deleted) == KEYS[2:]
    holder.end()
    assert len(prune(store, 0)[0]) == 2
    assert names(store) == []


def test_the_commands_accept_a_bucket(store: StageStore, capsys: pytest.CaptureFixture[str]) -> None:
    store.put(KEYS[0], made_stage())
    assert main(["list", "--stage-store", store.uri]) == 0
    assert f"{store.uri}: 1 stages" in capsys.readouterr().out
    assert main(["prune", "--stage-store", store.uri, "--max-size", "0"]) == 0
    assert "1 stages deleted" in capsys.readouterr().out


def test_clear_deletes_the_files_below_the_root_only(bucket: str) -> None:
    name = uuid.uuid4().hex
    one, other = Storage(f"{bucket}/{name}"), Storage(f"{bucket}/{name}-2")
    one.write("a/x", b"x")
    one.write("y", b"y")
    other.write("z", b"z")
    one.clear()
    one.clear()
    assert list(one.files("")) == []
    assert other.read("z") == b"z"


def test_a_missing_bucket_is_a_one_line_error(bucket: str) -> None:
    with pytest.raises(OSError, match="no-such-bucket") as caught:
        Storage("s3://no-such-bucket/x").write("a", b"a")
    assert "\n" not in str(caught.value)

"""Whether nodes see one place: what each is asked, and what is said of those that do not. Ray is made up here.

`tests/cluster` asks real nodes.
"""

from __future__ import annotations

import pickle
import shutil
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray.exceptions import GetTimeoutError

from agr.data import shards
from agr.errors import SettingsError
from agr.recipes.mfcc import MFCC
from agr.training.settings import Settings
from search.runtime import shared_storage
from search.stages.storage import Storage
from search.tasks.agr_task import AgrTask
from tests.search.fakes import bits, small_split

CPU = {"CPU": 1.0}


class FakeRay:
    """Nodes that run a task when they are asked for its answer, each through `see`, which turns places into its own."""

    def __init__(self, *nodes: dict[str, Any]) -> None:
        self._nodes = nodes
        self.asked: list[str] = []
        self.see: dict[str, Callable[[str], str]] = {}
        self.silent: set[str] = set()

    def nodes(self) -> list[dict[str, Any]]:
        return list(self._nodes)

    def remote(self, task: Callable[..., str]) -> Any:
        owner = self

        class Task:
            def options(self, num_cpus: int, max_retries: int, scheduling_strategy: Any) -> Task:
                assert (num_cpus, max_retries, scheduling_strategy.soft) == (0, 0, False)
                self.node = scheduling_strategy.node_id[0]
                return self

            def remote(self, place: Any, *others: str) -> tuple[str, Callable[[], str]]:
                owner.asked.append(self.node)
                seen = owner.see[self.node](place) if self.node in owner.see else place
                return self.node, lambda: task(seen, *others)

        return Task()

    def wait(self, answers: list[Any], num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        assert num_returns == len(answers)
        return answers, []

    def get(self, answer: tuple[str, Callable[[], str]], timeout: float) -> str:
        if answer[0] in self.silent:
            raise GetTimeoutError("Get timed out: some object(s) not ready.")
        return answer[1]()


def node(name: str, alive: bool = True, **has: float) -> dict[str, Any]:
    return {"NodeID": name * 56, "NodeManagerAddress": f"10.0.0.{name}", "Alive": alive, "Resources": has}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    """Two nodes that train, a third that is dead and a fourth that trains nothing."""
    fake = FakeRay(node("1", CPU=2.0), node("2", CPU=1.0, GPU=1.0), node("3", alive=False, CPU=1.0), node("4"))
    for name in ("nodes", "remote", "wait", "get"):
        monkeypatch.setattr(f"search.runtime.shared_storage.ray.{name}", getattr(fake, name))
    return fake


@pytest.mark.parametrize("resources, asked", [(CPU, ["1", "2"]), ({"CPU": 0.0, "GPU": 0.5}, ["2"]), ({"GPU": 2.0}, [])])
def test_the_living_nodes_that_can_run_a_trial_are_checked(
    cluster: FakeRay, tmp_path: Path, resources: dict[str, float], asked: list[str]
) -> None:
    shared_storage.require_shared("--storage", str(tmp_path / "store"), resources)
    assert cluster.asked == asked


def test_the_check_leaves_no_files(cluster: FakeRay, tmp_path: Path) -> None:
    Storage(str(tmp_path)).write("kept", b"")
    shared_storage.require_shared("--storage", str(tmp_path), CPU)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_node_with_a_separate_disk_is_named(cluster: FakeRay, tmp_path: Path) -> None:
    cluster.see["2"] = lambda place: place.replace("mine", "yours")
    with pytest.raises(SettingsError) as caught:
        shared_storage.require_shared("--stage-store", str(tmp_path / "mine"), CPU)
    assert str(caught.value) == (
        f"--stage-store {tmp_path / 'mine'}: node 10.0.0.2 cannot see it (the driver's file is not there); "
        "expected a URI that every node reaches, such as --storage s3://bucket/agr"
    )
    assert not (tmp_path / "yours").exists(), "nothing is written where the driver's file is not"


def test_the_first_of_several_failing_nodes_is_named_and_the_others_counted(cluster: FakeRay, tmp_path: Path) -> None:
    cluster.see = dict.fromkeys("12", lambda place: f"memory://{uuid.uuid4().hex}")
    with pytest.raises(SettingsError, match=r"node 10\.0\.0\.1 cannot see it, nor do 1 more \("):
        shared_storage.require_shared("--storage", str(tmp_path), CPU)


def test_a_node_whose_file_does_not_arrive_is_refused(cluster: FakeRay, tmp_path: Path) -> None:
    cluster.see["1"] = lambda place: str(copied(Path(place), tmp_path / "stale"))
    with pytest.raises(SettingsError, match="what it writes does not arrive"):
        shared_storage.require_shared("--storage", str(tmp_path / "store"), CPU)


def copied(place: Path, to: Path) -> Path:
    """A copy of what the driver wrote, as a mirror of its disk would have it."""
    Storage(str(to)).write(shared_storage.DRIVER, (place / shared_storage.DRIVER).read_bytes())
    return to


def test_a_node_that_cannot_open_the_storage_reports_the_reason(cluster: FakeRay, tmp_path: Path) -> None:
    cluster.see["1"] = lambda place: "gopher://x/y"
    with pytest.raises(SettingsError, match=r"node 10\.0\.0\.1 cannot see it \(gopher://x/y: .*\); expected a URI"):
        shared_storage.require_shared("--storage", str(tmp_path), CPU)


def test_a_node_that_does_not_answer_is_refused(cluster: FakeRay, tmp_path: Path) -> None:
    cluster.silent.add("2")
    with pytest.raises(SettingsError, match=r"node 10\.0\.0\.2 cannot see it \(Get timed out"):
        shared_storage.require_shared("--storage", str(tmp_path), CPU)


def test_an_unwritable_storage_is_refused_before_nodes_are_checked(cluster: FakeRay, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"--storage .*file: .*; expected a folder or bucket that can be written"):
        shared_storage.require_shared("--storage", str(tmp_path / "file"), CPU)
    assert cluster.asked == []


# Shards


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AgrTask:
    """Forty clips in four shards, whose folder the nodes do not see."""
    monkeypatch.setenv("AGR_CACHE", str(tmp_path / "cache"))
    data, split = small_split()
    stored = [
        shards.Outcome(str(row), "", MFCC.digest, stored=image) for row, image in enumerate(np.asarray(data.pixels))
    ]
    paths = [shards.write(tmp_path / "driver", stored[at : at + 10], MFCC) for at in range(0, 40, 10)]
    pixels = shards.mapped(paths, "stored", MFCC.image_shape, np.arange(40))
    task = AgrTask(replace(data, pixels=pixels), split).for_workers().published(str(tmp_path / "storage"))
    shutil.move(tmp_path / "driver", tmp_path / "far away")
    return task


def test_every_node_fetches_the_shards_and_trains_from_them(cluster: FakeRay, task: AgrTask, tmp_path: Path) -> None:
    assert shared_storage.bring(task, CPU) is task
    assert cluster.asked == ["1", "2"]
    assert len(list((tmp_path / "cache/shards").glob("*.arrow"))) == 4
    shutil.rmtree(tmp_path / "storage")
    assert len(pickle.dumps(task)) < 20_000, "images do not travel with the task"
    point, (data, split) = Settings(epochs=1, lr=0.01, gamma=0.5, width=0.5), small_split()
    found, expected = (each.fit(point, "cpu", lambda *_: None, None) for each in (task, AgrTask(data, split)))
    assert {name: bits(value) for name, value in found.weights.items()} == {
        name: bits(value) for name, value in expected.weights.items()
    }


def test_a_task_in_memory_travels_as_it_is(cluster: FakeRay) -> None:
    task = AgrTask(*small_split())
    assert task.published("no/such/place") is task
    assert shared_storage.bring(task, CPU) is task
    assert cluster.asked == []


def test_a_node_that_cannot_fetch_shards_is_named(cluster: FakeRay, task: AgrTask, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "storage")
    with pytest.raises(SettingsError, match=r"^node 10\.0\.0\.1 cannot fetch shards: .*\.arrow: missing; expected"):
        shared_storage.bring(task, CPU)

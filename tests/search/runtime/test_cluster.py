"""How many trials fit, without starting Ray."""

from __future__ import annotations

import importlib.util
import logging
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from agr.errors import SettingsError
from search.runtime import cluster
from search.runtime.host import Needs


def nodes(monkeypatch: pytest.MonkeyPatch, *every: dict[str, float], alive: bool = True) -> None:
    """A cluster of nodes that have these resources."""
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": alive, "Resources": has} for has in every])


def resources(monkeypatch: pytest.MonkeyPatch, **has: float) -> None:
    nodes(monkeypatch, has)


@pytest.mark.parametrize(
    ("device", "has", "gpus", "fit", "asked"),
    [
        ("cpu", {"CPU": 2.0}, 1.0, 2, {"CPU": 1.0}),
        ("cuda", {"CPU": 16.0, "GPU": 1.0}, 1.0, 1, {"CPU": 0.0, "GPU": 1.0}),
        ("cuda", {"CPU": 16.0, "GPU": 1.0}, 0.25, 4, {"CPU": 0.0, "GPU": 0.25}),
        ("cuda", {"CPU": 16.0, "GPU": 1.0}, 0.1, 10, {"CPU": 0.0, "GPU": 0.1}),
        ("cuda", {"CPU": 16.0, "GPU": 4.0}, 2.0, 2, {"CPU": 0.0, "GPU": 2.0}),
        ("mps", {"CPU": 8.0, "GPU": 1.0, "mps": 1.0}, 1.0, 1, {"CPU": 0.0, "mps": 1.0}),
    ],
)
def test_each_device_requests_its_resource(
    monkeypatch: pytest.MonkeyPatch, device: str, has: dict[str, float], gpus: float, fit: int, asked: dict[str, float]
) -> None:
    resources(monkeypatch, **has)
    allocation = cluster.allocate(device, None, gpus)
    assert (allocation.workers, allocation.resources, allocation.notice) == (fit, asked, "")


def test_more_workers_than_fit_are_reduced_with_a_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    resources(monkeypatch, CPU=2.0)
    allocation = cluster.allocate("cpu", 99, 1.0)
    assert allocation.workers == 2
    assert allocation.notice == "99 workers asked for, 2 fit (2 CPU, 1 a trial): going on with 2"


def test_fewer_workers_than_fit_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    resources(monkeypatch, CPU=8.0)
    assert cluster.allocate("cpu", 3, 1.0).workers == 3


def test_a_trial_that_fits_nowhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    resources(monkeypatch, CPU=2.0, GPU=1.0)
    with pytest.raises(SettingsError, match="1 GPU on this cluster, 1 on one node; expected room for one trial"):
        cluster.allocate("cuda", None, 2.0)


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5])
def test_an_invalid_share_of_a_gpu_is_refused_before_ray_starts(share: float) -> None:
    with (
        pytest.raises(SettingsError, match="--gpus-per-trial"),
        cluster.cluster("auto", None, share, cuda=False, mps=False),
    ):
        pytest.fail("no cluster may start")


@pytest.mark.parametrize(
    ("has", "cuda", "mps", "device"),
    [
        ({"CPU": 2.0}, True, True, "cpu"),
        ({"CPU": 2.0, "GPU": 1.0}, True, True, "cuda"),
        ({"CPU": 2.0, "GPU": 1.0}, False, True, "cpu"),
        ({"CPU": 8.0, "GPU": 1.0, "mps": 1.0}, True, True, "mps"),
        ({"CPU": 8.0, "GPU": 1.0, "mps": 1.0}, True, False, "cpu"),
    ],
)
def test_the_device_of_a_joined_cluster_is_found(
    monkeypatch: pytest.MonkeyPatch, has: dict[str, float], cuda: bool, mps: bool, device: str
) -> None:
    resources(monkeypatch, **has)
    assert cluster.cluster_device(cuda, mps) == device


CPU_NODE, GPU_NODE, MAC = {"CPU": 4.0}, {"CPU": 8.0, "GPU": 2.0}, {"CPU": 8.0, "GPU": 1.0, "mps": 1.0}


@pytest.mark.parametrize(
    ("every", "cuda", "mps", "device"),
    [
        ([CPU_NODE, GPU_NODE], True, True, "cuda"),
        ([CPU_NODE, GPU_NODE], False, True, "cpu"),
        ([CPU_NODE, MAC], True, True, "mps"),
        ([GPU_NODE, MAC], True, True, "mps"),
        ([GPU_NODE, MAC], True, False, "cpu"),
        ([], True, True, "cpu"),
    ],
)
def test_a_cluster_of_different_nodes_has_one_device(
    monkeypatch: pytest.MonkeyPatch, every: list[dict[str, float]], cuda: bool, mps: bool, device: str
) -> None:
    nodes(monkeypatch, *every)
    assert cluster.cluster_device(cuda, mps) == device


def test_nodes_without_the_device_are_mentioned(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes(monkeypatch, CPU_NODE, GPU_NODE, {"CPU": 0.0}, CPU_NODE)
    allocation = cluster.allocate("cuda", None, 1.0)
    assert (allocation.workers, allocation.resources) == (2, {"CPU": 0.0, "GPU": 1.0})
    assert allocation.notice == "all trials go to cuda: 2 of 4 nodes have none and train nothing"


def test_on_cpus_every_node_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes(monkeypatch, CPU_NODE, GPU_NODE, {"memory": 1e9})
    allocation = cluster.allocate("cpu", None, 1.0)
    assert (allocation.workers, allocation.notice) == (12, "")


def test_a_trial_never_spans_two_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes(monkeypatch, {"GPU": 3.0}, {"GPU": 3.0}, {"GPU": 1.0})
    assert cluster.allocate("cuda", None, 2.0).workers == 2
    with pytest.raises(SettingsError, match="7 GPU on this cluster, 3 on one node; expected room for one trial"):
        cluster.allocate("cuda", None, 4.0)


def test_dead_nodes_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes(monkeypatch, CPU_NODE, alive=False)
    with pytest.raises(SettingsError, match="0 CPU on this cluster"):
        cluster.allocate("cpu", None, 1.0)


def test_a_full_disk_is_named_when_ray_does_not_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def init(**_: object) -> None:
        raise Exception("The current node timed out during startup.\nMore.")

    monkeypatch.setattr("ray.init", init)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=4096 if path == str(tmp_path) else 1e9))
    expected = f"Ray, on this machine: the disk of {tmp_path} is full "
    expected += "(The current node timed out during startup); expected a Ray cluster"
    with pytest.raises(SettingsError, match=re.escape(expected)):
        cluster.cluster(Needs(str(tmp_path), 1), None, 1.0, cuda=False, mps=False).__enter__()
    assert not logging.getLogger("ray.tune.tune").isEnabledFor(logging.ERROR), "tracebacks of Tune's own files"


@pytest.mark.parametrize("module", ["ray.autoscaler._private.monitor", "ray._private.log_monitor"])
def test_ray_still_starts_the_spare_processes(module: str) -> None:
    found = importlib.util.find_spec(module)
    assert found is not None
    assert found.origin is not None
    assert found.origin.endswith(cluster.SPARE_PROCESSES)


def test_only_spare_processes_are_killed() -> None:
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    with ExitStack() as stack:
        spare = [stack.enter_context(subprocess.Popen([*sleep, f"/lib/{name}"])) for name in cluster.SPARE_PROCESSES]
        other = stack.enter_context(subprocess.Popen(sleep))
        cluster.end_processes(*cluster.SPARE_PROCESSES)
        assert [process.wait(30) for process in spare] == [-signal.SIGKILL] * len(spare)
        assert other.poll() is None
        other.kill()

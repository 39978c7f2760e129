"""What docker/compose.yaml describes, running: a search over it, of which a worker is switched off, and predictions.

Its services run as processes from the very commands of that file (see `topology`), on machines of their own where Linux
lets this process make them (see `lan`).
"""

from __future__ import annotations

import csv
import importlib.util
import json
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agr.data.clips import Clip
from agr.data.corpus import open_corpus
from tests.cluster.lan import Machine, namespaces
from tests.cluster.topology import Topology, topology

MISSING = [name for name in ("boto3", "flask_wtf", "moto", "psycopg2") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are found and ended as Linux has it"),
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]

GRID = ("--epochs", "10", "20", "--lr", "0.01", "0.001", "--gamma", "0.1", "0.5")  # 120 epochs, of which 70 differ
POINT = ("--epochs", "2", "--lr", "0.001", "--gamma", "0.5")
AGR_SCHEMA = ("--data", "voices/voices.csv")
RUNS = """
import json
from mlflow import MlflowClient
client = MlflowClient()
found = client.search_runs([each.experiment_id for each in client.search_experiments()])
print(json.dumps([
    {"name": run.info.run_name, "status": run.info.status, "nested": "mlflow.parentRunId" in run.data.tags,
     "search": run.data.tags.get("search"), "artifacts": run.info.artifact_uri, "metrics": run.data.metrics}
    for run in found
]))
"""
NAMES = """
import boto3, json
pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket="agr")
print(json.dumps([each["Key"] for page in pages for each in page.get("Contents", ())]))
"""
KINDS = """
import psycopg2
with psycopg2.connect("postgresql://mlflow@postgres:5432/mlflow") as connection:
    cursor = connection.cursor()
    cursor.execute("SELECT count(*) FROM runs")
    print(cursor.fetchone()[0])
"""


@pytest.fixture(scope="module")
def services() -> Iterator[Topology]:
    with topology(("worker-1", "worker-2")) as running:
        yield running


@pytest.fixture(scope="module")
def recordings(demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every other clip of `demo_root` with a CSV manifest."""
    return with_manifest(tmp_path_factory.mktemp("recordings"), open_corpus(str(demo_root), demo_root).clips[::2])


@pytest.fixture(scope="module")
def few_recordings(demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One clip of each speaker, for searches whose result does not matter."""
    return with_manifest(tmp_path_factory.mktemp("few"), open_corpus(str(demo_root), demo_root).clips[::10])


def with_manifest(folder: Path, clips: Sequence[Clip]) -> Path:
    """A folder with copies of these clips and a CSV manifest."""
    with (folder / "voices.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "speaker", "gender", "synthetic"))
        for clip in clips:
            shutil.copy(clip.path, folder / clip.path.name)
            writer.writerow((clip.path.name, clip.speaker, clip.gender, "true"))
    return folder


def searcher(services: Topology, recordings: Path) -> Machine:
    """A new machine for a search, which alone has the recordings."""
    machine = services.search_machine()
    shutil.copytree(recordings, machine.outside / "voices")
    return machine


@dataclass
class Searched:
    """A search during which worker-2 was switched off."""

    machine: Machine
    status: int
    said: str
    before: int  # trials that had ended by then


@pytest.fixture(scope="module")
def searched(services: Topology, recordings: Path) -> Searched:
    machine = searcher(services, recordings)
    command = services.search_command((*AGR_SCHEMA, *GRID, "--name", "whole"))
    process = machine.start(command, services.environment("search"))
    services.hear(machine, ", starting", process)
    time.sleep(3)  # some epochs are trained, and on no machine all; the next line comes after ten seconds
    services.network.machine("worker-2").switch_off()
    before = int(re.findall(r"(\d+) of 8 trials ended", machine.said())[-1])
    status = process.wait(timeout=600)
    return Searched(machine, status, machine.said(), before)


def laptop(services: Topology) -> Machine:
    """A machine that is no part of the cluster and knows the MLflow server only."""
    return services.network.machine("laptop")


def answers(services: Topology, service: str, script: str) -> Any:
    """What a Python script prints that runs with a service's environment, from JSON."""
    done = laptop(services).run([sys.executable, "-c", services.network.here(script)], services.environment(service))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def runs(services: Topology, searched: Searched) -> list[dict[str, Any]]:
    """Every run that the MLflow server knows after that search."""
    found: list[dict[str, Any]] = answers(services, "predict", RUNS)
    return found


@pytest.fixture(scope="module")
def names(services: Topology, searched: Searched) -> list[str]:
    """Every object in the bucket after that search."""
    found: list[str] = answers(services, "bucket", NAMES)
    return found


def test_a_search_ends_well_though_a_worker_is_switched_off(searched: Searched) -> None:
    assert searched.status == 0, searched.said
    assert searched.before < 8
    assert "best 8 of 8 trials" in searched.said
    assert "registered  agr version 1 as best" in searched.said
    assert "failed" not in searched.said
    assert "Traceback" not in searched.said
    assert not re.search(r"\bView ", searched.said), "MLflow's own lines"  # Ray may tell of its "RemoteNodeView"


def test_no_epoch_was_trained_twice_but_those_in_flight(searched: Searched, runs: list[dict[str, Any]]) -> None:
    (whole,) = [run for run in runs if not run["nested"]]
    assert 70 <= whole["metrics"]["epochs_trained"] <= 72
    assert whole["metrics"]["epochs_trained"] + whole["metrics"]["epochs_shared"] == 120


def test_every_run_is_finished_and_its_artifacts_pass_through_the_server(runs: list[dict[str, Any]]) -> None:
    assert sorted(run["nested"] for run in runs) == [False] + [True] * 8
    assert {run["status"] for run in runs} == {"FINISHED"}
    assert {run["search"] for run in runs} == {"whole"}
    assert all(run["artifacts"].startswith("mlflow-artifacts:") for run in runs)


def test_postgresql_keeps_the_runs(services: Topology, runs: list[dict[str, Any]]) -> None:
    assert answers(services, "mlflow", KINDS) == len(runs)


def test_the_bucket_keeps_stages_artifacts_and_the_model(names: list[str]) -> None:
    assert sum(name.startswith("stages/") and name.endswith(".stage") for name in names) >= 14
    assert any(name.startswith("artifacts/") and name.endswith("ranking.csv") for name in names)
    assert any(name.startswith("artifacts/") and name.endswith(".safetensors") for name in names)
    assert not [name for name in names if "reach-" in name and not name.endswith("/")]


def test_nothing_of_a_search_is_on_the_disks_of_workers(services: Topology, searched: Searched) -> None:
    for name in ("worker-1", "worker-2"):
        files = [path.name for path in services.network.machine(name).outside.rglob("*")]
        assert not [file for file in files if file.endswith((".wav", ".stage", ".safetensors", ".db"))]
    assert not list((searched.machine.outside / "mlflow_store").rglob("*.*"))


def test_the_champion_answers_on_a_machine_that_knows_the_server_only(
    services: Topology, searched: Searched, recordings: Path
) -> None:
    machine = laptop(services)
    clip = shutil.copy(next(recordings.glob("*.wav")), machine.outside / "clip.wav")
    words = [sys.executable, "-m", "agr.predict", "--model-uri", "models:/agr/best", "--json", Path(clip).name]
    done = machine.run(words, services.environment("predict"))
    assert done.returncode == 0, done.stderr
    assert done.stderr == "agr: this model was trained on synthetic voices and proves nothing about people\n"
    answer = json.loads(done.stdout)
    assert (answer["path"], answer["model"]) == ("clip.wav", {"name": "agr", "version": 1})
    assert answer["label"] in ("female", "male")


def test_a_wrong_password_is_one_line(services: Topology, searched: Searched) -> None:
    known = services.environment("predict") | {"MLFLOW_TRACKING_PASSWORD": "wrong"}
    words = [sys.executable, "-m", "agr.predict", "--model-uri", "models:/agr/best", "clip.wav"]
    done = laptop(services).run(words, known)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("agr: ")
    assert done.stderr.count("\n") == 1


def test_a_stage_store_that_workers_cannot_see_is_refused_before_anything_is_begun(
    services: Topology, searched: Searched, few_recordings: Path
) -> None:
    """The default one; where machines share a disk, one that stands in each process's own memory."""
    store = "mlflow_store/stages" if namespaces() else "memory://agr"
    machine = searcher(services, few_recordings)
    command = services.search_command((*AGR_SCHEMA, *POINT, "--name", "refused", "--stage-store", store))
    done = machine.run(command, services.environment("search"))
    place = store if "://" in store else machine.home / store
    assert done.returncode == 2
    assert f"agr: --stage-store {place}: node " in done.stderr
    assert done.stderr.endswith("expected a URI that every node reaches, such as --storage s3://bucket/agr\n")
    assert "Traceback" not in done.stderr
    assert "refused" not in {run["search"] for run in answers(services, "predict", RUNS)}


def test_weights_reach_the_driver_without_a_stage_store_too(
    services: Topology, searched: Searched, few_recordings: Path
) -> None:
    machine = searcher(services, few_recordings)
    command = services.search_command((*AGR_SCHEMA, *POINT, "--name", "bare", "--no-stage-store"))
    done = machine.run(command, services.environment("search"))
    assert done.returncode == 0, done.stderr
    assert "registered  agr version 2 as " in done.stdout
    names = answers(services, "bucket", NAMES)
    assert not [name for name in names if name.startswith("ray/") and not name.endswith("/")]

"""Fused lanes under a search: groups, stages, counts, what goes on after a death, and a whole search with them."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from agr.data.image_set import ImageSet
from agr.data.splits import Split
from agr.errors import SettingsError
from agr.training.settings import STEP_SIZE, Settings
from search import run_grid
from search.grid_search import grid
from search.runtime.fused_trials import balanced_groups, train_group
from search.runtime.trial import Job
from search.session.session import Session
from search.stages.store import Lineage, Stage, StageStore
from search.tasks.agr_task import AgrTask
from search.tasks.base import distinct_epochs
from search.tasks.device import choose_device, device_name, prepare_device
from tests.search.fakes import FakeTracker, made_report, small_split
from tests.stores import new_store

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy"),  # MLflow's use of SQLAlchemy
]

REPOSITORY = Path(__file__).resolve().parents[3]
POINTS = grid((2, 6, 7), (0.01, 0.001), (0.1, 0.5))  # 12 points, 60 epochs, of which 18 differ


@pytest.fixture(scope="module")
def parts() -> tuple[ImageSet, Split]:
    return small_split()


def new_job(parts: tuple[ImageSet, Split]) -> Job:
    """A job with an empty store."""
    return Job("now", AgrTask(*parts), "cpu-fused", f"memory://{uuid.uuid4().hex}", frozenset({2, 6, 7}))


@pytest.fixture
def job(parts: tuple[ImageSet, Split]) -> Job:
    return new_job(parts)


@dataclass(frozen=True)
class Finished:
    """POINTS trained by one worker without interruption, and the lines that it said."""

    job: Job
    lines: list[str]


@pytest.fixture(scope="module")
def finished(parts: tuple[ImageSet, Split], one_thread: None) -> Finished:
    """Read its store, do not write to it."""
    job = new_job(parts)
    return Finished(job, list(train_group(job, POINTS)))


def voices(job: Job) -> AgrTask:
    assert isinstance(job.task, AgrTask)
    return job.task


def lineage(job: Job, point: Settings, device: str = "") -> Lineage:
    task = voices(job)
    return Lineage.of(task.data, task.split, point, device or job.device)


def stages_of(job: Job, points: Sequence[Settings], device: str = "cpu-fused") -> dict[tuple[float, ...], Stage]:
    """Every stage of some points that is in the store, by learning rates."""
    assert job.stages is not None
    store, found = StageStore(job.stages), {}
    for point in points:
        for count in range(1, point.epochs + 1):
            stage = store.get(lineage(job, point, device).key(point.rates()[:count]))
            if stage:
                found[point.rates()[:count]] = stage
    return found


def trained(found: Mapping[tuple[float, ...], Stage], search: str = "now") -> int:
    """How many epochs below these stages a search trained."""
    every = ((rates[:n], name) for rates, stage in found.items() for n, name in enumerate(stage.origins, start=1))
    return len({rates for rates, name in every if name == search})


# ---- groups


@pytest.mark.parametrize(("workers", "expected"), [(1, [150]), (2, [100, 50]), (3, [50, 50, 50]), (8, [50, 50, 50])])
def test_groups_of_the_default_grid_share_no_epochs(workers: int, expected: list[int]) -> None:
    parts = balanced_groups(grid(), workers)
    assert [distinct_epochs(part) for part in parts] == expected
    assert sorted(map(repr, sum(parts, ()))) == sorted(map(repr, grid()))


def test_groups_have_about_equally_many_epochs() -> None:
    points = [Settings(epochs, lr, 0.5) for epochs, lr in ((9, 0.1), (3, 0.2), (4, 0.3), (2, 0.4))]
    assert sorted(distinct_epochs(part) for part in balanced_groups(points, 2)) == [9, 9]


def test_no_points_make_no_groups() -> None:
    assert balanced_groups([], 2) == []


# ---- what a worker does


def test_fused_training_writes_the_stages_that_trials_would(finished: Finished) -> None:
    found = stages_of(finished.job, POINTS)
    expected = {point.rates()[:count] for point in POINTS for count in (2, STEP_SIZE, 6, 7) if count <= point.epochs}
    assert set(found) == expected
    assert len(finished.lines) == 7
    assert trained(found) == distinct_epochs(POINTS) == 18
    for rates, stage in found.items():
        assert stage.origins == ("now",) * len(rates)
        assert [epoch.lr for epoch in stage.state.history] == list(rates)
        wanted = {"lr": f"{rates[0]:g}", "now": f"{rates[-1]:g}", "epochs": len(rates), "seed": 0}
        own = {"data": "made", "split": voices(finished.job).split.name, "recipe": "mfcc", "model": "cnn"}
        assert dict(stage.about) == own | wanted


def test_each_line_has_epoch_lanes_and_best_score(finished: Finished) -> None:
    for number, (line, lanes) in enumerate(zip(finished.lines, [2] * 5 + [4] * 2, strict=True), start=1):
        assert line.startswith(f"epoch {number}, lanes {lanes}, ")
        assert "best val balanced accuracy" in line


def test_a_restarted_worker_continues_from_the_store(job: Job, finished: Finished) -> None:
    whole = stages_of(finished.job, POINTS)
    dying = train_group(job, POINTS)
    for _ in range(4):
        next(dying)
    del dying
    after = list(train_group(job, POINTS))
    assert len(after) == 7, "as many lines as before: Ray drops those that it has already seen"
    assert [bool(line) for line in after] == [False] * 4 + [True] * 3
    found = stages_of(job, POINTS)
    assert trained(found) == 18
    assert {rates: stage.origins for rates, stage in found.items()} == {r: s.origins for r, s in whole.items()}
    for rates, stage in found.items():
        for name, tensor in stage.state.weights.items():
            torch.testing.assert_close(tensor, whole[rates].state.weights[name], rtol=0, atol=0.5 * rates[0])


def test_stages_of_an_earlier_search_are_read_and_kept(job: Job) -> None:
    short = [replace(point, epochs=3) for point in POINTS if point.gamma == 0.1 and point.epochs == 7]
    list(train_group(replace(job, search="old", ends=frozenset({3})), short))
    list(train_group(job, POINTS))
    found = stages_of(job, POINTS)
    assert trained(found) == distinct_epochs(POINTS) - 2, "the third epochs; what ends after two starts from nothing"
    assert all(point.rates() in found for point in short)
    origins = {stage.origins for rates, stage in found.items() if len(rates) == 7}
    assert origins == {("old",) * 3 + ("now",) * 4}


def test_a_diverging_lane_keeps_its_last_stage_and_reports_the_reason(job: Job) -> None:
    point = Settings(epochs=3, lr=0.01, gamma=0.5)
    list(train_group(job, [replace(point, epochs=1)]))
    ((rates, stage),) = stages_of(job, [point]).items()
    huge = {name: torch.full_like(tensor, 1e30) for name, tensor in stage.state.weights.items()}
    assert job.stages is not None
    StageStore(job.stages).put(lineage(job, point).key(rates), replace(stage, state=replace(stage.state, weights=huge)))
    lines = list(train_group(job, [point, replace(point, lr=0.001)]))
    assert lines[1].startswith("epoch 2, lanes 1, ")
    assert lines[1].endswith("; epoch 2: loss nan in training, nan in validation; diverged")
    assert list(stages_of(job, [point])) == [rates]


def test_separate_trials_do_not_read_fused_stages(finished: Finished) -> None:
    assert stages_of(finished.job, POINTS)
    assert stages_of(finished.job, POINTS, "cpu") == {}
    assert stages_of(finished.job, POINTS, "cuda-fused") == {}


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
def test_the_name_of_a_fused_device_selects_the_device(device: str) -> None:
    assert device_name(device, "separate") == device
    assert device_name(device, "fused") == f"{device}-fused"
    assert prepare_device(device_name(device, "fused")) == prepare_device(device) == torch.device(device)


# ---- counts


def test_fused_epochs_count_as_trained_once_and_then_as_shared(finished: Finished) -> None:
    tracker = FakeTracker()
    session = Session("grid", tracker, tracker.start_run("grid", {}, {}), {}, len(POINTS))
    found, ids = stages_of(finished.job, POINTS), {finished.job.search: session.id}
    for number, point in enumerate(POINTS):
        stage = found[point.rates()]
        session.start(str(number), asdict(point))
        session.add_report(str(number), made_report(stage.state.history, [ids[name] for name in stage.origins], True))
        session.end(str(number), None)
    assert session.summary() == "12 trials, 60 epochs, 18 trained, 42 shared, 0 from earlier runs"


# ---- the command


def test_lanes_without_a_store_are_refused_in_one_line() -> None:
    with pytest.raises(SettingsError, match=r"^--lanes fused: found --no-stage-store; expected") as caught:
        run_grid.main(["--lanes", "fused", "--no-stage-store"])
    assert "\n" not in str(caught.value)


def search(folder: Path, data: Path, *more: str) -> subprocess.CompletedProcess[str]:
    known = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "RAY", "TUNE"))}
    command = [sys.executable, str(REPOSITORY / "search" / "run_grid.py"), "--data", str(data), "--no-cuda", "--no-mps"]
    points = ["--epochs", "6", "--lr", "0.01", "0.001", "--gamma", "0.1", "0.5"]
    environment = known | {"COLUMNS": "200"}
    return subprocess.run(
        [*command, *points, *more], cwd=folder, env=environment, capture_output=True, text=True, timeout=240
    )


def test_a_fused_search_has_every_trial_in_mlflow_and_the_next_one_reads_it(
    prepared_root: Path, tmp_path: Path
) -> None:
    assert choose_device(cuda=False, mps=False) == "cpu"
    uri = new_store(tmp_path / "mlflow_store")
    done = search(tmp_path, prepared_root, "--lanes", "fused", "--num-workers", "2", "--name", "lanes")
    assert done.returncode == 0, done.stderr
    for number, group in ((1, "1/2"), (6, "1/2"), (1, "2/2"), (6, "2/2")):
        assert f"lanes {group}: epoch {number}, lanes {1 if number <= STEP_SIZE else 2}, " in done.stdout
    assert "4 trials, 24 epochs, 14 trained, 10 shared, 0 from earlier runs" in done.stdout
    client = MlflowClient(uri, uri)
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    trials = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert len(trials) == len(runs) - 1 == 4
    for run in trials:
        assert (run.info.status, run.data.tags["device"]) == ("FINISHED", "cpu-fused")
        history = client.get_metric_history(run.info.run_id, "val_loss")
        assert sorted(point.step for point in history) == [1, 2, 3, 4, 5, 6]
    again = search(tmp_path, prepared_root, "--lanes", "fused")
    assert "0 trained, 0 shared, 24 from earlier runs" in again.stdout

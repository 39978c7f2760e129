"""What grid.py needs around its cases: images on disk, commands with a clock, MLflow's record of them, FLOPs."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from _prepared import write_prepared
from numpy.typing import NDArray
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from agr.data import corpus, image_set, preparation
from agr.data.image_set import ImageSet
from agr.data.splits import Split
from agr.errors import AgrError, CorpusError
from agr.labels import CLASSES
from agr.recipes.mfcc import MFCC
from agr.training.model import build, to_input

BATCH = 32
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "MLFLOW_DISABLE_TELEMETRY": "true"}
SCORES = ("val_loss", "val_accuracy", "val_balanced_accuracy")
Point = tuple[int, float, float]  # epochs, lr, gamma


@dataclass(frozen=True)
class Trial:
    """One trial as MLflow has it. `scores`: SCORES of each epoch. `trained`: (seconds, end as Unix time) of its own."""

    point: Point
    scores: tuple[tuple[float | None, ...], ...]
    trained: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Case:
    """One command: wall seconds, when it started (Unix time), and its trials as MLflow has them."""

    number: int
    wall: float
    started: float
    trials: dict[Point, Trial]

    @property
    def epochs(self) -> int:
        """Epochs trained, not read from the store."""
        return sum(len(trial.trained) for trial in self.trials.values())

    @property
    def training(self) -> float:
        """Seconds inside those epochs, over all workers."""
        return sum(seconds for trial in self.trials.values() for seconds, _ in trial.trained)

    @property
    def first_batch(self) -> float | None:
        """Seconds from the command to the first trained batch; None if nothing was trained."""
        starts = [end - seconds for trial in self.trials.values() for seconds, end in trial.trained]
        return min(starts) - self.started if starts else None

    @property
    def tail(self) -> float | None:
        """Seconds from the end of the last trained epoch to the end of the command."""
        ends = [end for trial in self.trials.values() for _, end in trial.trained]
        return self.started + self.wall - max(ends) if ends else None


def prepared(source: str, scratch: Path) -> Path:
    """A prepared folder as it is; of any other SOURCE the folder that its images are prepared into.

    The plain script reads image files, and so the images themselves must be stored: recipe `mfcc`.
    Raises: CorpusError for a folder prepared with another recipe.
    """
    folder = Path(source)
    if image_set.is_prepared(folder):
        if image_set.load(folder).features is not None:
            raise CorpusError(f"{folder}: images of recipe voice; expected recipe mfcc, which stores the images")
        return folder.resolve()
    found = corpus.open_corpus(source, scratch)
    folder = scratch / f"{found.name}-images"
    wanted = preparation.choose_recipe(found, None if found.ready_images else MFCC.name)
    preparation.prepare(found, folder, wanted, os.cpu_count() or 1)
    return folder


def write_subset(data: ImageSet, keep: NDArray[np.int64], out: Path) -> Path:
    """A prepared folder of some images of another one; keep: (k,) row numbers, ascending."""
    rows = [data.rows[row] for row in keep]
    return write_prepared(out, data.name, rows, data.pixels[keep], data.recipe, data.synthetic)


def some_of_each(data: ImageSet, each: int) -> NDArray[np.int64]:
    """The first `each` rows of every speaker, ascending; a split by speaker stays the same split."""
    return np.sort(np.concatenate([np.flatnonzero(data.speakers == name)[:each] for name in np.unique(data.speakers)]))


def lay_out(data: ImageSet, split: Split, out: Path) -> None:
    """Write the images of both sides to `out/SIDE/CLASS/NUMBER.png`, as ImageFolder reads them."""
    for side in ("train", "val"):
        for gender in CLASSES:
            (out / side / gender).mkdir(parents=True)
        for row in getattr(split, side):
            Image.fromarray(data.pixels[row]).save(out / side / CLASSES[data.labels[row]] / f"{row:06}.png")


def timed(command: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None) -> tuple[float, float]:
    """Run a command in a folder of its own; returns (start as Unix time, wall seconds).

    Raises: AgrError with its last line if it fails.
    """
    cwd.mkdir(parents=True, exist_ok=True)
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "RAY_"))}
    log = cwd / "output.txt"
    with log.open("wb") as file:
        started, began = time.time(), time.perf_counter()
        done = subprocess.run(
            command, cwd=cwd, env=clean | QUIET | dict(env or {}), stdout=file, stderr=subprocess.STDOUT, check=False
        )
        seconds = time.perf_counter() - began
    if done.returncode:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] or ["no output"]
        raise AgrError(f"{' '.join(command[:2])}: exit status {done.returncode}, expected 0: {lines[-1]}")
    return started, seconds


def read_trials(database: Path, experiment: str, search: str | None = None) -> dict[Point, Trial]:
    """The trials of an experiment in a SQLite store, or those of one of its searches, with every epoch's metrics."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{database}")
    found = client.get_experiment_by_name(experiment)
    wanted = f"tags.search = '{search}' and tags.mlflow.parentRunId LIKE '%'" if search else ""
    runs = client.search_runs([found.experiment_id], wanted, max_results=5000) if found else []
    trials = {}
    for run in runs:
        points = {key: client.get_metric_history(run.info.run_id, key) for key in ("seconds", *SCORES)}
        values = {key: {metric.step: metric.value for metric in history} for key, history in points.items()}
        times = [(metric.value, metric.timestamp / 1000) for metric in sorted(points["seconds"], key=lambda m: m.step)]
        own = int(run.data.metrics.get("epochs_trained", len(times)))
        params = run.data.params
        point = (int(params["epochs"]), float(params["lr"]), float(params["gamma"]))
        scores = tuple(tuple(values[key].get(step) for key in SCORES) for step in sorted(values["seconds"]))
        trials[point] = Trial(point, scores, tuple(times[len(times) - own :]))
    return trials


def flops_per_image() -> tuple[float, float]:
    """Floating-point operations of the CNN for one image: forward and backward, forward alone.

    Convolutions and matrix products only, two operations for each multiply-add, no gradient of the input.
    """
    x = to_input(torch.zeros(BATCH, 12, 98, 3, dtype=torch.uint8))  # (BATCH, 3, 12, 98)
    model = build("cnn", 0)
    with FlopCounterMode(display=False) as both:
        model(x).sum().backward()
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        model(x)
    return both.get_total_flops() / BATCH, forward.get_total_flops() / BATCH


def matmul_rate(sizes: Sequence[int] = (1024, 2048), repeats: int = 6) -> float:
    """FLOP/s of the best float32 matrix product on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    best = 0.0
    for size in sizes:
        a, b = torch.rand(size, size), torch.rand(size, size)
        for _ in range(repeats):
            began = time.perf_counter()
            torch.mm(a, b)
            best = max(best, 2 * size**3 / (time.perf_counter() - began))
    torch.set_num_threads(threads)
    return best

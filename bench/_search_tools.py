"""What search.py needs around its comparison: contenders as commands, their figures from MLflow, results on disk."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from _grid_tools import timed

from agr.common.files import write_atomic
from agr.errors import AgrError
from agr.training.settings import VERSION

ROOT = Path(__file__).resolve().parents[1]
BEST = "best_val_balanced_accuracy"  # of a search's run in MLflow; its step is the number of epochs trained so far
SCORE = "val_balanced_accuracy"
CONTENDERS = {
    "grid": "the grid",
    "random": "random search",
    "optuna": "Optuna alone",
    "search": "this search",
}
CLOSE = 1e-9  # balanced accuracies are means of two recalls, whose last bits differ with the order of sums


@dataclass(frozen=True)
class Axes:
    """The grid: what all contenders may choose from, at its points or between them."""

    epochs: tuple[int, ...]
    lr: tuple[float, ...]
    gamma: tuple[float, ...]

    @property
    def flags(self) -> list[str]:
        """For run_grid.py."""
        named = (("--epochs", self.epochs), ("--lr", self.lr), ("--gamma", self.gamma))
        return [word for flag, values in named for word in (flag, *map(str, values))]

    @property
    def space(self) -> str:
        """The ranges that the grid spans, as a space file."""
        return "".join(
            f"{name} = {{low = {min(values)}, high = {max(values)}{log}}}\n"
            if len(values) > 1
            else f"{name} = {values[0]}\n"
            for name, values, log in (
                ("epochs", self.epochs, ""),
                ("lr", self.lr, ", log = true"),
                ("gamma", self.gamma, ""),
            )
        )


@dataclass(frozen=True)
class Result:
    """One contender on one seed.

    curve: epochs trained so far and the best validation score by then, whenever it rose. epochs: trained in all.
    any_epoch: the best validation score of any epoch of any trial, where a trial stands for its last one. wall: s.
    """

    contender: str
    seed: int
    curve: tuple[tuple[int, float], ...]
    epochs: int
    val: float
    test: float
    any_epoch: float
    wall: float
    champion: Mapping[str, Any]

    def at(self, epochs: int) -> float:
        """The best validation score after so many trained epochs; NaN before the first."""
        return max((score for step, score in self.curve if step <= epochs), default=math.nan)

    def reached(self, target: float) -> float:
        """Epochs trained until the best validation score was at least `target`; infinity if it never was."""
        return min((step for step, score in self.curve if score >= target - CLOSE), default=math.inf)


@dataclass(frozen=True)
class Match:
    """What all contenders are given. images: the folder that holds the prepared images, `data/` of every command."""

    data: tuple[str, ...]
    recipe: str | None
    axes: Axes
    space: str
    budget: int
    workers: int
    images: Path
    out: Path

    def key(self, contender: str, seed: int) -> str:
        """16 hex digits of all that a result depends on."""
        own = asdict(self.axes) if contender == "grid" else [self.space, self.budget]
        content = [VERSION, contender, seed, self.data, self.recipe, self.workers, own]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def result(self, contender: str, seed: int) -> Result:
        """A contender's result, from an earlier run if there is one. Raises: AgrError if its command fails."""
        kept = self.out / f"{contender}-seed{seed}-{self.key(contender, seed)}.json"
        if kept.is_file():
            return _read(kept)
        with tempfile.TemporaryDirectory(prefix="agr-bench-") as folder:
            cwd = Path(folder)
            (cwd / "data").symlink_to(self.images, target_is_directory=True)
            (cwd / "space.toml").write_text(self.space, encoding="utf-8")
            try:
                _, wall = timed([sys.executable, *self._command(contender, seed)], cwd)
            except AgrError as error:
                log = self.out / f"{contender}-seed{seed}.log"
                shutil.copy(cwd / "output.txt", log)
                raise AgrError(f"{error} (all of it: {log})") from error
            found = _of_plain(cwd) if contender in ("random", "optuna") else _of_mlflow(cwd, contender)
        result = Result(contender, seed, wall=round(wall, 1), **found)
        write_atomic(kept, json.dumps(asdict(result), indent=1).encode())
        return result

    def _command(self, contender: str, seed: int) -> list[str]:
        recipe = ["--recipe", self.recipe] if self.recipe else []
        seeded = ["--seed", str(seed), *recipe]
        budget = ["--space", "space.toml", "--budget", str(self.budget)]
        if contender in ("random", "optuna"):
            plan = ["--sampler", "random", "--pruner", "none"] if contender == "random" else []
            plain = [str(ROOT / "bench/plain_optuna.py"), *self.data, *seeded, *budget, *plan]
            return [*plain, "--workers", str(self.workers), "--out", "result.json"]
        ours = ["--data", *self.data, *seeded, "--num-workers", str(self.workers), "--no-cuda", "--no-mps"]
        ours += ["--tracking-uri", "sqlite:///mlflow_store/mlflow.db", "--name", contender]
        if contender == "grid":
            return [str(ROOT / "search/run_grid.py"), *ours, *self.axes.flags]
        return [str(ROOT / "search/run_optuna.py"), *ours, *budget, "--no-warm-start"]


def _read(path: Path) -> Result:
    """Raises: AgrError for a file that holds something else."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        curve = tuple((int(step), float(score)) for step, score in values.pop("curve"))
        return Result(curve=curve, **values)
    except (ValueError, TypeError, KeyError) as error:
        raise AgrError(f"{path}: {error}; expected a result of this script; delete the file") from error


def _of_plain(cwd: Path) -> dict[str, Any]:
    """The figures that plain_optuna.py wrote."""
    found: dict[str, Any] = json.loads((cwd / "result.json").read_text(encoding="utf-8"))
    return found | {"any_epoch": found["val"], "curve": tuple(map(tuple, found["curve"]))}


def _of_mlflow(cwd: Path, name: str) -> dict[str, Any]:
    """The figures of a search by its name, from its run and those nested in it. Raises: AgrError if it is not there."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{cwd / 'mlflow_store/mlflow.db'}")
    found = client.get_experiment_by_name("agr")
    runs = client.search_runs([found.experiment_id], f"tags.search = '{name}'", max_results=5000) if found else []
    nested = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    parents = [run for run in runs if run not in nested]
    if len(parents) != 1 or BEST not in parents[0].data.metrics:
        raise AgrError(f"{name}: {len(parents)} searches in MLflow with {BEST}; expected one")
    metrics, tags = parents[0].data.metrics, parents[0].data.tags
    histories = [client.get_metric_history(run.info.run_id, SCORE) for run in nested]
    return {
        "curve": rising(
            [(point.step, point.value) for point in client.get_metric_history(parents[0].info.run_id, BEST)]
        ),
        "epochs": sum(int(run.data.metrics.get("epochs_trained", 0)) for run in nested),
        "val": metrics[SCORE],
        "test": metrics["test_balanced_accuracy"],
        "any_epoch": max(point.value for history in histories for point in history),
        "champion": {key.removeprefix("champion_"): tags[key] for key in tags if key.startswith("champion_")},
    }


def rising(points: Sequence[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    """The points of a curve at which it is higher than before."""
    kept: list[tuple[int, float]] = []
    for step, score in sorted(points):
        if not kept or score > kept[-1][1] + CLOSE:
            kept.append((step, score))
    return tuple(kept)

"""The same search as a plain Optuna script, without Ray: a baseline of bench/search.py.

    python bench/plain_optuna.py DATA --space FILE --budget 50 --seed 0 --workers 2 --out result.json
    python bench/plain_optuna.py DATA --space FILE --sampler random --pruner none --out result.json

`study.optimize` with TPESampler and MedianPruner as Optuna has them by default, in as many processes as asked for,
which share the study through a journal file, as Optuna's documentation has it. Every trial trains with
`agr.training.loop.fit`, reports each epoch and asks whether to stop; a trial stands for its best epoch, as it does in
`search/run_optuna.py`. The budget counts trained epochs of all processes; when it is spent, the trial that is running
ends there and counts all the same. The best trial is tested once.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing.context import SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import Empty
from typing import Any

import optuna
import torch
from _plain_worker import CPU, Best, Worker
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend

from agr.common.cli import run
from agr.common.files import write_atomic
from agr.common.processes import worker_environment
from agr.common.progress import terminal_progress
from agr.data import combine, preparation
from agr.data.image_set import ImageSet
from agr.data.splits import Split
from agr.errors import AgrError, TrainingError
from agr.inference.predictor import softmax
from agr.metrics.scoring import score
from agr.training.augmentation import DEFAULT
from agr.training.model import build, predict_logits
from search.optuna_search.space import Space, known_settings, parse

STORE = Path("data")


@dataclass(frozen=True)
class Asked:
    """The command line, for every process."""

    data: tuple[str, ...]
    recipe: str | None
    space: Path
    budget: int
    seed: int
    workers: int
    sampler: str
    pruner: str

    def open(self) -> tuple[ImageSet, Split]:
        """The images, prepared if need be, and their split, as `search/run_optuna.py` makes them."""
        cores = os.cpu_count() or 1
        data = combine.join([preparation.ensure(source, STORE, self.recipe, cores) for source in self.data])
        return data, combine.split(data, seed=self.seed)

    def ranges(self) -> Space:
        """What varies. Raises: SettingsError."""
        return parse(self.space.read_text(encoding="utf-8"), str(self.space), known_settings())

    def study(self, storage: BaseStorage, worker: int) -> optuna.Study:
        """The study that all processes share; each has a sampler of its own seed."""
        seed = self.seed + 1000 * worker
        samplers = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
        pruners = {"median": optuna.pruners.MedianPruner, "none": optuna.pruners.NopPruner}
        return optuna.create_study(
            storage=storage,
            study_name="plain",
            direction="maximize",
            sampler=samplers[self.sampler](seed=seed),
            pruner=pruners[self.pruner](),
            load_if_exists=True,
        )


def work(asked: Asked, journal: str | None, number: int, left: Any, told: Any) -> None:
    """One process: search until the budget is spent, then hand over the best model."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    data, split = asked.open()
    strengths = {f"augment_{name}": value for name, value in asdict(DEFAULT).items()}
    base = {"lr": 0.001, "gamma": 0.7, "seed": asked.seed} | (strengths if data.features is not None else {})
    storage = JournalStorage(JournalFileBackend(journal)) if journal else InMemoryStorage()
    worker = Worker(data, split, asked.ranges(), base, left, told)
    asked.study(storage, number).optimize(worker.objective, catch=(TrainingError,))
    told.put(worker.best)


def search(asked: Asked) -> dict[str, Any]:
    """Run every process, count what they train, test the best model. Raises: AgrError if a process dies."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    asked.ranges()  # a mistake in them is better told here than by every process
    data, split = asked.open()  # prepares them, which the processes below may not: they cannot have any of their own
    context = multiprocessing.get_context("spawn")
    left, told = context.Value("i", asked.budget), context.Queue()
    with tempfile.TemporaryDirectory() as scratch:
        journal = str(Path(scratch) / "study.journal")
        if asked.workers > 1:
            asked.study(JournalStorage(JournalFileBackend(journal)), 0)
        with worker_environment():
            processes = _started(context, asked, journal if asked.workers > 1 else None, left, told)
        try:
            curve, epochs, bests = _listen(asked, processes, told)
        finally:
            for process in processes:
                process.terminate()
                process.join()
    best = min(bests, key=lambda each: each.sort_key)
    if best.settings is None or best.epoch is None:
        raise AgrError(f"none of {epochs} epochs gave a score; expected at least one trial that does not diverge")
    return {
        "curve": curve,
        "epochs": epochs,
        "val": best.epoch.val_balanced_accuracy,
        "test": test(best, data, split),
        "champion": asdict(best.settings) | {"epochs": best.epoch.epoch},
    }


def _started(context: SpawnContext, asked: Asked, journal: str | None, left: Any, told: Any) -> list[BaseProcess]:
    processes: list[BaseProcess] = []
    for number in range(asked.workers):
        processes.append(context.Process(target=work, args=(asked, journal, number, left, told), daemon=True))
        processes[-1].start()
    return processes


def _listen(
    asked: Asked, processes: Sequence[BaseProcess], told: Any
) -> tuple[list[tuple[int, float]], int, list[Best]]:
    """The best score by the number of epochs trained, that number at the end, and the best model of each process."""
    curve: list[tuple[int, float]] = []
    epochs = 0
    bests: list[Best] = []
    with terminal_progress("epochs", asked.budget, unit="epochs") as advance:
        while len(bests) < len(processes):
            try:
                message = told.get(timeout=1)
            except Empty:
                if any(process.exitcode for process in processes):
                    raise AgrError("a process of the plain search died; see the lines above") from None
                continue
            if isinstance(message, Best):
                bests.append(message)
                continue
            epochs += 1
            advance(1)
            if message is not None and (not curve or message > curve[-1][1]):
                curve.append((epochs, message))
    return curve, epochs, bests


def test(best: Best, data: ImageSet, split: Split) -> float:
    """Balanced accuracy of the best model on the test speakers."""
    assert best.settings is not None  # seen by the caller
    model = build(best.settings.model, width=best.settings.width)
    model.load_state_dict({name: torch.from_numpy(values) for name, values in best.weights.items()})
    logits = predict_logits(model, data.pixels, split.test, CPU).numpy()
    return score(data.labels[split.test], softmax(logits), data.speakers[split.test]).balanced_accuracy


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python bench/plain_optuna.py", description="Optuna alone.")
    parser.add_argument("data", nargs="+", metavar="DATA", help="any SOURCE of agr.prepare, or a prepared folder")
    parser.add_argument("--recipe")
    parser.add_argument("--space", type=Path, required=True, help="what varies; see search/run_optuna.py --print-space")
    parser.add_argument("--budget", type=int, default=50, help="epochs to train (default: 50)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--sampler", choices=("tpe", "random"), default="tpe")
    parser.add_argument("--pruner", choices=("median", "none"), default="median")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file")
    options = parser.parse_args(arguments)
    if min(options.budget, options.workers) < 1:
        parser.error(f"--budget {options.budget} --workers {options.workers}: expected 1 or more")
    values = {name: value for name, value in vars(options).items() if name != "out"}
    found = search(Asked(**(values | {"data": tuple(options.data)})))
    write_atomic(options.out, json.dumps(found, indent=1).encode())
    print(f"validation {found['val']:.4f}, test {found['test']:.4f} after {found['epochs']} epochs")
    return 0


if __name__ == "__main__":
    run(main)

"""What the tests of `search` share: small images, made-up stages, a tracker that only writes down what it is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agr.data.image_set import ImageSet, assemble
from agr.data.splits import Split, make
from agr.recipes.base import IMAGE_SHAPE
from agr.recipes.mfcc import MFCC
from agr.registry.uri import StoreUri
from agr.training.loop import Epoch, State
from search.outbox.outbox import Outbox
from search.stages.store import Stage
from search.tasks.base import TrialReport


def small_images(speakers: int = 4, clips: int = 5) -> ImageSet:
    """`clips` images of each of `speakers` women and as many men; the men's lower rows are darker."""
    people = [(f"{gender[0]}{k}", gender) for gender in ("female", "male") for k in range(speakers)]
    rows = [
        {"corpus": "made", "speaker": speaker, "gender": gender, "recording": f"{speaker}-{clip}"}
        for speaker, gender in people
        for clip in range(clips)
    ]
    pixels = np.random.default_rng(0).integers(0, 256, (len(rows), *IMAGE_SHAPE), dtype=np.uint8)
    pixels[[row["gender"] == "male" for row in rows], :6] //= 2
    return assemble("made", pixels, rows, MFCC, synthetic=True)


def small_split() -> tuple[ImageSet, Split]:
    """Forty images: 20 train, 10 validate, 10 test."""
    data = small_images()
    return data, make(data)


def epoch(number: int, lr: float = 0.01, **others: float) -> Epoch:
    """An epoch with given or made-up numbers."""
    values = {"train_loss": 0.5, "train_accuracy": 0.6, "train_balanced_accuracy": 0.6}
    values |= {"val_loss": 0.7, "val_accuracy": 0.5, "val_balanced_accuracy": 0.5, "val_ece": 0.2}
    values |= {"seconds": 0.1}
    return Epoch(epoch=number, lr=lr, **(values | others))


def made_report(
    epochs: Sequence[Epoch] = (), origins: Sequence[str] = (), read: bool = False, failed: str = ""
) -> TrialReport:
    """What a trial reports of these epochs."""
    known = [dict(vars(each)) for each in epochs]
    at = epochs[-1].epoch if epochs else 0
    found: TrialReport = {"epoch": at, "score": 0.0, "epochs": known, "origins": list(origins), "read": read}
    return found | {"failed": failed} if failed else found


def progress_report(count: int) -> TrialReport:
    """The report of a trial that has come this far."""
    return {"epoch": count, "score": 0.0, "epochs": [], "origins": [], "read": False}


def made_stage(epochs: int = 2, seed: int = 0) -> Stage:
    """A stage of a few hundred bytes whose numbers are hard to keep: no value that a rounding would leave alone."""
    generator = torch.Generator().manual_seed(seed)
    bits = torch.randint(-(2**31), 2**31 - 1, (3, 4, 2, 2), dtype=torch.int64, generator=generator).to(torch.int32)
    weights = {"a.weight": bits.view(torch.float32), "a.bias": torch.tensor([-0.0, 1e-45, float("inf")])}
    optimizer = {"step.a.weight": torch.tensor(float(epochs)), "exp_avg.a.weight": torch.rand(3, generator=generator)}
    history = tuple(epoch(k, val_loss=0.1 + 0.2 + k / 3) for k in range(1, epochs + 1))
    return Stage(State(weights, optimizer, history), ("first",) * epochs, {"data": "made", "epochs": epochs})


def same_stage(a: Stage, b: Stage) -> bool:
    """Whether two stages agree to the last bit."""
    same_tensors = all(
        x.keys() == y.keys() and all(bits(x[name]) == bits(y[name]) and x[name].shape == y[name].shape for name in x)
        for x, y in ((a.state.weights, b.state.weights), (a.state.optimizer, b.state.optimizer))
    )
    return same_tensors and a.state.history == b.state.history and a.origins == b.origins and a.about == b.about


def bits(tensor: torch.Tensor) -> bytes:
    """The bytes of a tensor's values, in the order of its indices."""
    return bytes(tensor.contiguous().numpy().tobytes())


def without_seconds(history: Sequence[Epoch]) -> list[Epoch]:
    """Epochs as they would be if each had taken no time."""
    return [replace(each, seconds=0.0) for each in history]


@dataclass
class FakeTracker(Outbox):
    """Keeps what it is told, by run, and sends nothing."""

    uri: StoreUri = StoreUri("fake")  # noqa: RUF009  it is frozen
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    batches: list[tuple[str, int]] = field(default_factory=list)  # run and number of epochs of each call
    open_error: str = ""
    refused: int = 0

    def start_run(
        self, name: str, params: Mapping[str, object], tags: Mapping[str, object], parent: str | None = None
    ) -> str:
        run_id = f"run{len(self.runs)}"
        known = {"name": name, "params": dict(params), "tags": dict(tags), "parent": parent}
        self.runs[run_id] = known | {"epochs": [], "metrics": {}, "status": "RUNNING", "folders": []}
        return run_id

    def log_epochs(self, run_id: str, epochs: Sequence[Any], totals: Mapping[str, float] | None = None) -> None:
        self.runs[run_id]["epochs"] += list(epochs)
        self.runs[run_id]["metrics"] |= dict(totals or {})
        self.batches.append((run_id, len(epochs)))

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        self.runs[run_id]["metrics"] |= dict(metrics)

    def set_tags(self, run_id: str, tags: Mapping[str, object]) -> None:
        self.runs[run_id]["tags"] |= dict(tags)

    def log_folder(self, run_id: str, folder: Path, name: str | None = None) -> None:
        self.runs[run_id]["folders"].append(folder)

    def end_run(self, run_id: str, status: str) -> None:
        assert self.runs[run_id]["status"] == "RUNNING", f"{run_id} ended twice"
        self.runs[run_id]["status"] = status

    def run_id(self, run: str) -> str:
        return run

    def run_page(self, run: str) -> str:
        return f"#/experiments/7/runs/{run}"

    def wait_until_open(self) -> None:
        pass

    def flush(self, seconds: float | None = None) -> None:
        pass

    def close(self, hurry: bool = False) -> None:
        pass

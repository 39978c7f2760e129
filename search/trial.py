"""What a Ray worker runs: one point of the grid, from the deepest stored stage to its last epoch."""

from __future__ import annotations

import tempfile
from collections.abc import Container, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from ray import tune
from safetensors.torch import save_file

from agr.errors import TrainingError
from agr.images import ImageSet
from agr.splits import Split
from agr.training import STEP_SIZE, Epoch, Settings, State, fit
from search.device import torch_device
from search.stages import Lineage, Stage, StageStore

FINAL_WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class Job:
    """What all trials of a search share. `stages` is None when nothing is to be shared or remembered."""

    search: str
    data: ImageSet
    split: Split
    device: str
    stages: str | None
    ends: frozenset[int]  # the epoch counts at which some trial of the search ends


def run_trial(config: dict[str, Any], job: Job) -> None:
    """Train one point and report every epoch to Ray Tune; a divergence is reported, not raised.

    Each report carries `epochs`, a list of the epochs since the last one, `origins`, the searches that trained
    them, and `read`, whether they came from the store. The last one carries the final weights as its checkpoint.
    """
    settings = Settings(**config)
    device = torch_device(job.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    store = StageStore(job.stages) if job.stages else None
    lineage = Lineage.of(job.data, job.split, settings, job.device)
    rates = settings.rates()
    stage = store.deepest(lineage, rates) if store else None
    origins = list(stage.origins) if stage else []
    read = len(origins)  # the stage that was read may be the end of another search's trial: it stays
    if stage:
        _report(stage.state, stage.state.history, origins, settings.epochs, read=True)

    def after_epoch(epoch: Epoch, state: State) -> None:
        origins.append(job.search)
        if store:
            stage = Stage(state, tuple(origins), about(job, settings.seed, state.history))
            keep(store, lineage, rates[: epoch.epoch], stage, job.ends, replaces=epoch.epoch - 1 > read)
        _report(state, [epoch], [job.search], settings.epochs, read=False)

    try:
        resume = stage.state if stage else None
        fit(job.data, job.split, settings, device, after_epoch, resume)
    except TrainingError as error:
        tune.report({"epoch": len(origins), "epochs": [], "origins": [], "read": False, "failed": str(error)})


def keep(
    store: StageStore, lineage: Lineage, rates: Sequence[float], stage: Stage, ends: Container[int], replaces: bool
) -> None:
    """Store the stage after these learning rates, and drop the one before if trials neither part nor end there.

    replaces: whether this search wrote the one before; if not, it may be the end of another search's trial.
    """
    store.put(lineage.key(rates), stage)
    before = len(rates) - 1
    if replaces and before % STEP_SIZE and before not in ends:
        store.drop(lineage.key(rates[:before]))


def about(job: Job, seed: int, history: Sequence[Epoch]) -> dict[str, object]:
    """What `python -m search.stages list` shows of a stage."""
    known = {"data": job.data.name, "split": job.split.name, "seed": seed}
    return known | {"lr": f"{history[0].lr:g}", "now": f"{history[-1].lr:g}", "epochs": len(history)}


def _report(state: State, epochs: Sequence[Epoch], origins: Sequence[str], planned: int, read: bool) -> None:
    """Tell Ray Tune of new epochs, and hand over the final weights with the last one."""
    last = epochs[-1].epoch
    metrics = {"epoch": last, "epochs": [asdict(epoch) for epoch in epochs], "origins": list(origins), "read": read}
    if last < planned:
        tune.report(metrics)
        return
    with tempfile.TemporaryDirectory() as folder:
        weights = {name: tensor.contiguous() for name, tensor in state.weights.items()}
        save_file(weights, str(Path(folder) / FINAL_WEIGHTS))
        tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))

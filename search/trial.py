"""What a Ray worker runs: one point of a search, from the deepest stored stage to its last epoch."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agr.errors import TrainingError
from agr.terminal import quick_imports

with quick_imports():  # of torch, by a worker that is to begin
    from ray import tune

    from agr.training import STEP_SIZE, State
    from search.keeping import Keeper
    from search.stages import Lineage, Stage, StageStore
    from search.task import Kind, Task, lineage_of


@dataclass(frozen=True)
class Job:
    """What all trials of a search share. `stages` is None when nothing is to be shared or remembered.

    Both URIs are of places that every node of the cluster sees.
    """

    search: str
    task: Task
    device: str
    stages: str | None
    ends: frozenset[int]  # the epoch counts at which some trial of the search ends
    scratch: str = ""  # where final stages wait for the end of the search when there is no stage store

    @property
    def finals(self) -> str:
        """Where the driver finds final stages."""
        return self.stages or self.scratch


def run_trial(config: dict[str, Any], job: Job) -> None:
    """Train one point and report every epoch to Ray Tune; a divergence is reported, not raised.

    Each report carries `epochs`, a list of the epochs since the last one, `origins`, the searches that trained
    them, `read`, whether they came from the store, and `score`, for schedulers. `stage` is the key of the stage for
    which the trial stands, in the last report or, where a trial stands for its best epoch, in each.
    """
    task = job.task
    point = task.kind.point(config)
    lineage = lineage_of(task, point, job.device, job.search)
    store = StageStore(job.stages, task.kind.epoch) if job.stages else None
    rates = point.rates()
    keeper = Keeper(store, job.scratch) if store else None
    stage = deepest(store, lineage, rates) if store else None
    origins = list(stage.origins) if stage else []
    read = len(origins)  # the stage that was read may be the end of another search's trial: it stays

    def tell(history: Sequence[Any], new: Sequence[Any], origins: Sequence[str], read: bool) -> None:
        key = lineage.key(rates[: task.kind.chosen(history).epoch])
        stands = task.kind.best_epoch or len(history) == point.epochs
        where = {"stage": key, "home": keeper.home(key) if keeper else job.finals} if stands else {}
        where |= {"unsaved": keeper.trouble} if keeper and keeper.trouble else {}
        numbers = {"epoch": len(history), "score": task.kind.aim.score(history[-1])}
        tune.report(
            numbers | {"epochs": [dict(vars(epoch)) for epoch in new], "origins": list(origins), "read": read} | where
        )

    def after_epoch(epoch: Any, state: State) -> None:
        origins.append(job.search)
        stage = Stage(state, tuple(origins), about(task.about(point), state.history))
        if keeper:
            spare = superfluous(state.history, job.ends, task.kind, read)
            keeper.keep(lineage.key(rates[: epoch.epoch]), stage, (lineage.key(rates[:count]) for count in spare))
        elif epoch.epoch == point.epochs:
            StageStore(job.finals, task.kind.epoch).put(lineage.key(rates), stage)
        tell(state.history, [epoch], [job.search], read=False)

    if stage:
        tell(stage.state.history, stage.state.history, origins, read=True)
    try:
        task.fit(point, job.device, after_epoch, stage.state if stage else None)
    except TrainingError as error:
        nothing = {"epoch": len(origins), "epochs": [], "origins": [], "read": False, "score": -math.inf}
        tune.report(nothing | {"failed": str(error)})


def deepest(store: StageStore, lineage: Lineage, rates: Sequence[Any]) -> Stage | None:
    """The stage to start from; None if there is none, or if the store cannot be read."""
    try:
        return store.deepest(lineage, rates)
    except OSError:
        return None


def keep(store: StageStore, lineage: Lineage, rates: Sequence[Any], stage: Stage, spare: Iterable[int]) -> None:
    """Store the stage after these rates, and drop those after `spare` epochs."""
    store.put(lineage.key(rates), stage)
    for count in spare:
        store.drop(lineage.key(rates[:count]))


def superfluous(history: Sequence[Any], ends: Container[int], kind: Kind, read: int) -> set[int]:
    """After how many epochs nobody needs a trial's stages any longer, now that the one of `history` is stored.

    Those stay at which trials part or end, or for which this one stands. read: epochs that it did not train itself;
    their stages may be the ends of another search's trials.
    """
    before = history[:-1]
    candidates = {len(before)} | ({kind.chosen(before).epoch} if before and kind.best_epoch else set())
    needed = kind.chosen(history).epoch if kind.best_epoch else 0
    return {n for n in candidates if n > read and n % STEP_SIZE and n not in ends and n != needed}


def about(known: Mapping[str, object], history: Sequence[Any]) -> dict[str, object]:
    """What `python -m search.stages list` shows of a stage."""
    rates = {"lr": f"{history[0].lr:g}", "now": f"{history[-1].lr:g}"} if hasattr(history[-1], "lr") else {}
    return dict(known) | rates | {"epochs": len(history)}

"""What a Ray worker runs: one point of a search, from the deepest stored stage to its last epoch."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from agr.common.cli import quick_imports
from agr.errors import TrainingError

with quick_imports():  # of torch, by a new worker
    from ray import tune

    from agr.training.loop import State
    from agr.training.settings import STEP_SIZE
    from search.stages.store import Stage, StageStore
    from search.stages.writer import StageWriter
    from search.tasks.base import (
        AnyTask,
        Config,
        EpochMetrics,
        Point,
        TrialReport,
        TrialSchema,
        lineage_of,
        trial_report,
    )


@dataclass(frozen=True)
class Job:
    """What all trials of a search share. Both URIs are of places that every node of the cluster sees."""

    search: str  # the search's id
    task: AnyTask
    device: str  # named by `search.tasks.device`
    stages: str | None  # the URI of the stage store; None if epochs are neither shared nor kept
    ends: frozenset[int]  # the numbers of epochs at which some trial of the search ends
    scratch: str = ""  # the URI where final stages wait when the stage store does not take them

    @property
    def finals(self) -> str:
        """The URI where the driver finds final stages."""
        return self.stages or self.scratch


def run_trial(config: Config, job: Job) -> None:
    """Train one point and report every epoch to Ray Tune; a divergence is reported, not raised.

    `stage`, in the last report or, where a trial stands for its best epoch, in each of them, is the key of the stage
    for which the trial stands.
    """
    task = job.task
    point = task.schema.point(config)
    lineage, rates = lineage_of(task, point, job.device, job.search), point.rates()
    store = StageStore(job.stages, task.schema.epoch) if job.stages else None
    keeper = StageWriter(store, job.scratch) if store else None
    stage = None
    with suppress(OSError):  # a store that does not answer: the trial begins at its first epoch
        stage = store.deepest(lineage, rates) if store else None
    origins = list(stage.origins) if stage else []
    read = len(origins)  # the stage that was read may be the end of another search's trial: it stays

    def tell(history: Sequence[EpochMetrics], report: TrialReport) -> None:
        if task.schema.best_epoch or len(history) == point.epochs:
            report["stage"] = lineage.key(rates[: task.schema.chosen(history).epoch])
            report["home"] = keeper.home(report["stage"]) if keeper else job.finals_uri
        if keeper and keeper.trouble:
            report["unsaved"] = keeper.trouble
        tune.report(report)

    def after_epoch(epoch: EpochMetrics, state: State) -> None:
        origins.append(job.search)
        stage = Stage(state, tuple(origins), about(task.describe(point), state.history))
        if keeper:
            spare = stages_to_drop(state.history, job.ends, task.schema, read)
            keeper.keep(lineage.key(rates[: epoch.epoch]), stage, (lineage.key(rates[:count]) for count in spare))
        elif epoch.epoch == point.epochs:
            StageStore(job.finals_uri, task.schema.epoch).put(lineage.key(rates), stage)
        tell(state.history, trial_report([epoch], [job.search], False, task.schema))

    if stage:
        tell(stage.state.history, trial_report(stage.state.history, origins, True, task.schema))
    try:
        task.fit(point, job.device, after_epoch, stage.state if stage else None)
    except TrainingError as error:
        nothing: TrialReport = {"epoch": len(origins), "score": -math.inf, "epochs": [], "origins": [], "read": False}
        tune.report(nothing | {"failed": str(error)})


def stages_to_drop(
    history: Sequence[EpochMetrics], ends: Container[int], schema: TrialSchema[Point], read: int
) -> set[int]:
    """After how many epochs the stages of a trial are no longer needed, now that the stage of `history` is stored.

    The stages at which trials part or end stay, and the one for which this trial stands.

    Args:
        history: All epochs so far.
        ends: The numbers of epochs at which some trial of the search ends.
        schema: Says for which epoch a trial stands.
        read: Epochs that the trial did not train; their stages may be the ends of another search's trials.
    """
    before = history[:-1]
    candidates = {len(before)} | ({schema.chosen(before).epoch} if before and schema.best_epoch else set())
    needed = schema.chosen(history).epoch if schema.best_epoch else 0
    return {n for n in candidates if n > read and n % STEP_SIZE and n not in ends and n != needed}


def about(known: Mapping[str, object], history: Sequence[EpochMetrics]) -> dict[str, object]:
    """What `python -m search.stages list` shows of a stage: the task's own words, learning rates, number of epochs."""
    first, now = (getattr(epoch, "lr", None) for epoch in (history[0], history[-1]))
    rates = {} if now is None else {"lr": f"{first:g}", "now": f"{now:g}"}
    return dict(known) | rates | {"epochs": len(history)}

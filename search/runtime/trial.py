"""A trial in a Ray worker: trains one point from its deepest stored stage to its last epoch."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from agr.common.cli import quick_imports
from agr.errors import TrainingError

with quick_imports():  # a new worker imports torch here
    from ray import tune

    from agr.training.loop import State
    from agr.training.settings import STEP_SIZE
    from search.stages.store import Stage, StageStore
    from search.stages.writer import StageWriter
    from search.tasks.base import Config, EpochMetrics, Point, Task, TrialReport, TrialSchema, lineage_of, trial_report


@dataclass(frozen=True)
class Job:
    """What all trials of a search share. Every node of the cluster must see both URIs."""

    search: str  # the id of the search
    task: Task[Any]
    device: str  # as `device_name` returns it
    stages: str | None  # the URI of the stage store; None if epochs are neither shared nor kept
    ends: frozenset[int]  # the numbers of epochs after which trials of the search end
    scratch: str = ""  # the URI of final stages that the stage store does not take

    @property
    def finals_uri(self) -> str:
        """The URI of the final stages."""
        return self.stages or self.scratch


def run_trial(config: Config, job: Job) -> None:
    """Train one point and report every epoch to Ray Tune; divergence is reported, not raised.

    The last report, or every one if the best epoch counts, has the key of the stage with the chosen epoch.
    """
    task, point = job.task, job.task.schema.point(config)
    lineage, rates = lineage_of(task, point, job.device, job.search), point.rates()
    store = StageStore(job.stages, task.schema.epoch) if job.stages else None
    writer = StageWriter(store, job.scratch) if store else None
    stage = None
    with suppress(OSError):  # if the store cannot be read, the trial starts at its first epoch
        stage = store.deepest(lineage, rates) if store else None
    origins = list(stage.origins) if stage else []
    read = len(origins)  # these stages may be the ends of another search's trials, and are kept

    def send(history: Sequence[EpochMetrics], report: TrialReport) -> None:
        if task.schema.best_epoch or len(history) == point.epochs:
            report["stage"] = lineage.key(rates[: task.schema.chosen(history).epoch])
            report["home"] = writer.home(report["stage"]) if writer else job.finals_uri
        if writer and writer.trouble:
            report["unsaved"] = writer.trouble
        tune.report(report)

    def after_epoch(epoch: EpochMetrics, state: State) -> None:
        origins.append(job.search)
        stage = Stage(state, tuple(origins), describe_stage(task.describe(point), state.history))
        if writer:
            spare = stages_to_drop(state.history, job.ends, task.schema, read)
            writer.keep(lineage.key(rates[: epoch.epoch]), stage, (lineage.key(rates[:count]) for count in spare))
        elif epoch.epoch == point.epochs:
            StageStore(job.finals_uri, task.schema.epoch).put(lineage.key(rates), stage)
        send(state.history, trial_report([epoch], [job.search], False, task.schema))

    if stage:
        send(stage.state.history, trial_report(stage.state.history, origins, True, task.schema))
    try:
        task.fit(point, job.device, after_epoch, stage.state if stage else None)
    except TrainingError as error:
        nothing: TrialReport = {"epoch": len(origins), "score": -math.inf, "epochs": [], "origins": [], "read": False}
        tune.report(nothing | {"failed": str(error)})


def stages_to_drop(
    history: Sequence[EpochMetrics], ends: Container[int], schema: TrialSchema[Point], read: int
) -> set[int]:
    """The numbers of epochs whose stages are no longer needed, now that the stage after `history` is stored.

    Kept are the stages at which trials branch or end (`ends`), the one with the chosen epoch of this trial, and those
    after the first `read` epochs, which this trial did not train.
    """
    before = history[:-1]
    candidates = {len(before)} | ({schema.chosen(before).epoch} if before and schema.best_epoch else set())
    needed = schema.chosen(history).epoch if schema.best_epoch else 0
    return {n for n in candidates if n > read and n % STEP_SIZE and n not in ends and n != needed}


def describe_stage(known: Mapping[str, object], history: Sequence[EpochMetrics]) -> dict[str, object]:
    """What `python -m search.stages list` shows: the task's description, learning rates and number of epochs."""
    first, now = (getattr(epoch, "lr", None) for epoch in (history[0], history[-1]))
    rates = {} if now is None else {"lr": f"{first:g}", "now": f"{now:g}"}
    return dict(known) | rates | {"epochs": len(history)}

"""The points of a search as Ray Tune trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from search.callback import SessionCallback
from search.cluster import Slots
from search.session import Session
from search.task import Point, Task
from search.trial import Job, run_trial

CRASHES = 2  # how often a trial whose worker died is started again, from its last stage


def job_for(
    session: Session,
    points: Sequence[Point],
    task: Task,
    slots: Slots,
    stage_store: str | None,
    scratch: str = "",
) -> Job:
    """What goes to the workers. The URIs: see `Job`."""
    ends = frozenset(point.epochs for point in points)
    return Job(session.id, task.lean(), slots.device, stage_store, ends, scratch)


def tune_points(
    session: Session,
    searcher: Searcher,
    trials: int,
    job: Job,
    slots: Slots,
    folder: Path,
    scheduler: TrialScheduler | None = None,
    stop: Callable[[str, dict[str, Any]], bool] | None = None,
) -> None:
    """Run the points of a searcher, at most `trials`, and wait; what becomes of them is told to the session.

    folder: where Ray keeps its notes. Only the driver needs to see it: data reaches the workers through the object
    store, what they train reaches the driver through the job's store.
    """
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(run_trial, job=job), slots.resources),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=trials,
            max_concurrent_trials=slots.workers,  # or Tune starts the workers one after the other
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=session.id,
            storage_path=str(folder.resolve()),
            callbacks=[SessionCallback(session, job.finals)],
            failure_config=tune.FailureConfig(max_failures=CRASHES),
            stop=stop,
            verbose=0,
        ),
    )
    tuner.fit()

"""The points of a search as Ray Tune trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from ray import tune
from ray.tune.schedulers import TrialScheduler

from agr.registry.uri import STORE
from search.runtime.callback import SessionCallback
from search.runtime.cluster import Allocation
from search.runtime.trial import Job, run_trial
from search.session import display
from search.session.session import Session

CRASHES = 2  # how often a trial whose worker died is started again, from its last stage


class Searcher(Protocol):
    """A searcher of Ray Tune that knows when it is done."""

    exhausted: bool


def tune_points(
    session: Session,
    searcher: Searcher,
    job: Job,
    allocation: Allocation,
    title: str,
    epochs: int | None,
    trials: int = -1,
    scheduler: TrialScheduler | None = None,
    stop: Callable[[str, Mapping[str, object]], bool] | None = None,
) -> None:
    """Train what a searcher hands out, show the progress, and wait; the session learns of every report.

    Only the driver needs to see Ray's own folder: data reaches the workers through Ray's object store, and what they
    train reaches the driver through the job's store.

    Args:
        title: Shown above the progress, before the number of workers and the device.
        epochs: How many will be trained or read; None if nobody knows.
        trials: The most that are run; -1 for as many as the searcher hands out.
        scheduler: Ends trials that fall behind.
        stop: Of a trial's id and its latest report: whether to end it.

    Raises:
        KeyboardInterrupt: After Ctrl-C, which Ray Tune answers by stopping the trials and returning.
    """
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(run_trial, job=job), allocation.resources),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=trials,
            max_concurrent_trials=allocation.workers,  # or Tune starts the workers one after the other
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=session.id,
            storage_path=str((STORE / "ray").resolve()),
            callbacks=[SessionCallback(session, job.finals_uri)],
            failure_config=tune.FailureConfig(max_failures=CRASHES),
            stop=stop,
            verbose=0,
        ),
    )
    with display.shown(session, epochs, f"{session.name}: {title} {allocation.workers} x {allocation.device}"):
        tuner.fit()
    if not searcher.exhausted:
        raise KeyboardInterrupt

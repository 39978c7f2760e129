"""Runs the points of a search as Ray Tune trials."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from typing import Protocol

from ray import tune
from ray.air._internal import usage
from ray.tune.error import TuneError
from ray.tune.schedulers import TrialScheduler

from agr.common.places import full_disk, store_folder
from agr.errors import AgrError
from search.runtime.callback import SessionCallback
from search.runtime.cluster import Allocation
from search.runtime.shared_storage import last_line
from search.runtime.trial import Job, run_trial
from search.session import display
from search.session.session import Session

usage.tag_callbacks = lambda callbacks: False  # it imports MLflow, two seconds, for statistics that are turned off
CRASHES = 2  # how often a trial whose worker died is restarted, from its last stage


class Searcher(Protocol):
    """A Ray Tune searcher that knows when all of its trials have run."""

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
    """Train the points that a searcher suggests, show the progress, and pass every report to the session.

    Only the driver needs to see Ray's folder: workers get data from Ray's object store and write to the job's store.
    `epochs` is the number of epochs to be trained or read, None if unknown; `trials` the maximum number of trials, -1
    for all that the searcher suggests. `stop` gets a trial's id and latest report and returns whether to stop it.
    Raises: KeyboardInterrupt after Ctrl-C, and where Tune ended early; AgrError if a disk that it writes to is full.
    """
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(run_trial, job=job), allocation.resources),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=trials,
            max_concurrent_trials=allocation.workers,  # otherwise Tune starts the workers one by one
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=session.id,
            storage_path=str((store_folder() / "ray").resolve()),
            callbacks=[SessionCallback(session, job.finals_uri)],
            failure_config=tune.FailureConfig(max_failures=CRASHES),
            stop=stop,
            verbose=0,
        ),
    )
    with display.shown(session, epochs, f"{session.name}: {title} {allocation.workers} x {allocation.device}"):
        try:
            tuner.fit()
        except TuneError as error:
            if os.strerror(errno.ENOSPC) not in str(error):
                raise
            raise AgrError(f"{full_disk() or 'Ray Tune'}: {last_line(error)}; the same command goes on") from error
    if not searcher.exhausted:
        raise KeyboardInterrupt

"""The points of a search as Ray Tune trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from ray import tune

from agr.images import ImageSet
from agr.splits import Split
from agr.training import Settings
from search.callback import SessionCallback
from search.cluster import Slots
from search.searcher import PrefixSearcher
from search.session import Session
from search.trial import Job, run_trial

CRASHES = 2  # how often a trial whose worker died is started again, from its last stage


def job_for(
    session: Session, points: Sequence[Settings], data: ImageSet, split: Split, slots: Slots, stage_store: str | None
) -> Job:
    """What goes to the workers: the images in memory, without the manifest's rows."""
    lean = replace(data, pixels=np.asarray(data.pixels), rows=())
    return Job(session.id, lean, split, slots.device, stage_store, frozenset(point.epochs for point in points))


def tune_points(
    session: Session,
    points: Sequence[Settings],
    data: ImageSet,
    split: Split,
    slots: Slots,
    stage_store: str | None,
    scratch: Path,
) -> None:
    """Run every point as a trial and wait; what becomes of them is told to the session.

    stage_store: a URI that the workers can reach. scratch: where Ray keeps final weights until the search is over.
    """
    job = job_for(session, points, data, split, slots, stage_store)
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(run_trial, job=job), slots.resources),
        tune_config=tune.TuneConfig(
            search_alg=PrefixSearcher(points, slots.workers, share=stage_store is not None),
            num_samples=len(points),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=session.id,
            storage_path=str(scratch.resolve()),
            callbacks=[SessionCallback(session)],
            failure_config=tune.FailureConfig(max_failures=CRASHES),
            verbose=0,
        ),
    )
    tuner.fit()

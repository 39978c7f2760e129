"""Train given points: those in the stage store are replayed, Ray Tune trains the others."""

from __future__ import annotations

from collections.abc import Sequence

from search.driver.context import SearchContext
from search.session.session import Record
from search.tasks.agr_task import fusible_settings
from search.tasks.base import Config, Point, distinct_epochs, pluralize


def train_points(context: SearchContext, points: Sequence[Point], prefix: str = "read") -> None:
    """Replay stored points, whose trials' ids begin with `prefix`, and train the others. Raises: KeyboardInterrupt."""
    context.claim(points)
    left = context.replay_cached(points, prefix)
    if not left:
        return
    job, allocation = context.job(point.epochs for point in left)
    from search.driver.prefix_searcher import PrefixSearcher
    from search.runtime.fused_trials import train_fused
    from search.runtime.tuning import tune_points

    if context.plan.lanes == "fused" and job.stages:
        train_fused(context.session, fusible_settings(left), job, allocation)
    total = distinct_epochs(left) if job.stages else sum(point.epochs for point in left)
    searcher = PrefixSearcher(left, allocation.workers, share=job.stages is not None)
    tune_points(context.session, searcher, job, allocation, f"{pluralize(len(left), 'trial')} on", total, len(left))


def train_one(context: SearchContext, config: Config) -> list[Record]:
    """Train one more point; returns its record, or nothing if it finished no epoch."""
    before = set(context.session.records)
    train_points(context, [context.problem.task.schema.point(config)], "champion")
    return [record for trial, record in context.session.records.items() if trial not in before and record.history]

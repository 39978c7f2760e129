"""Train given points: those in the stage store are replayed, the others go to Ray Tune."""

from __future__ import annotations

from collections.abc import Sequence

from search.driver.context import SearchContext
from search.session.session import Record
from search.tasks.agr_task import fusible
from search.tasks.base import Config, Point, counted, distinct_epochs


def train_all(arena: SearchContext, points: Sequence[Point], prefix: str = "read") -> None:
    """Read what the store has, and let Ray Tune train the rest. Raises: KeyboardInterrupt after Ctrl-C."""
    arena.claim(points)
    left = arena.replay_cached(points, prefix)
    if not left:
        return
    job, slots = arena.job(point.epochs for point in left)
    from search.driver.prefix_searcher import PrefixSearcher
    from search.runtime.fused_trials import fuse
    from search.runtime.tuning import tune_points

    if arena.plan.lanes == "fused" and job.stages:
        fuse(arena.session, fusible(left), job, slots)
    total = distinct_epochs(left) if job.stages else sum(point.epochs for point in left)
    searcher = PrefixSearcher(left, slots.workers, share=job.stages is not None)
    tune_points(arena.session, searcher, job, slots, f"{counted(len(left), 'trial')} on", total, len(left))


def retrain(arena: SearchContext, config: Config) -> list[Record]:
    """Train one more point; returns its record, or nothing if it gave no epoch."""
    before = set(arena.session.records)
    train_all(arena, [arena.subject.task.kind.point(config)], "champion")
    return [record for trial, record in arena.session.records.items() if trial not in before and record.history]

"""The strategy of a grid: every given point, each once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agr.fused import check
from search.grid import distinct_epochs
from search.opening import axes_of
from search.session import Record
from search.stages import StageStore
from search.study import Arena
from search.subject import Subject
from search.task import Config, Point, counted, fusible, lineage_of

LOOKS = 32  # points that are looked up at most, to tell whether any stage is missing


@dataclass(frozen=True)
class Exhaust:
    """Trains these points."""

    points: Sequence[Point]

    def axes(self, subject: Subject) -> Mapping[str, object]:
        """The values of each setting that differs, and the number of points, as MLflow's parameters."""
        return axes_of(self.points, subject.task.kind.axes)

    @property
    def title(self) -> str:
        """The number of trials."""
        return counted(len(self.points), "trial")

    def needs_training(self, subject: Subject, store: StageStore, device: str) -> bool:
        """Whether one of some of the points has no final stage in the store."""
        some = self.points[:: len(self.points) // LOOKS + 1]
        keys = (lineage_of(subject.task, point, device, "").key(point.rates()) for point in some)
        return any(store.outline(key) is None for key in keys)

    def train(self, arena: Arena) -> None:
        """Train all points; they are ranked as their kind ranks them."""
        if arena.plan.lanes == "fused":
            check(fusible(self.points))
        arena.session.planned = len(self.points)
        train_all(arena, self.points)


def train_all(arena: Arena, points: Sequence[Point], prefix: str = "read") -> None:
    """Read what the store has, and let Ray Tune train the rest. Raises: KeyboardInterrupt after Ctrl-C."""
    arena.claim(points)
    left = arena.replay_cached(points, prefix)
    if not left:
        return
    job, slots = arena.job(point.epochs for point in left)
    from search.lanes import fuse
    from search.searcher import PrefixSearcher
    from search.tuning import tune_points

    if arena.plan.lanes == "fused" and job.stages:
        fuse(arena.session, fusible(left), job, slots)
    total = distinct_epochs(left) if job.stages else sum(point.epochs for point in left)
    searcher = PrefixSearcher(left, slots.workers, share=job.stages is not None)
    tune_points(arena.session, searcher, job, slots, f"{counted(len(left), 'trial')} on", total, len(left))


def retrain(arena: Arena, config: Config) -> list[Record]:
    """Train one more point; returns its record, or nothing if it gave no epoch."""
    before = set(arena.session.records)
    train_all(arena, [arena.subject.task.kind.point(config)], "champion")
    return [record for trial, record in arena.session.records.items() if trial not in before and record.history]

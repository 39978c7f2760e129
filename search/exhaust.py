"""The strategy of a grid: every given point, none twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from agr.fused import check
from agr.terminal import quick_imports
from agr.training import Settings
from search import display
from search.grid import distinct_epochs
from search.opening import axes_of
from search.stages import StageStore
from search.study import STORE, Arena
from search.subject import Subject
from search.task import Point, counted, lineage_of

LOOKS = 32  # at so many points at most, to tell whether anything is missing


@dataclass(frozen=True)
class Exhaust:
    """Runs the points that `points_of` makes of the subject."""

    points_of: Callable[[Subject], Sequence[Point]]

    def axes(self, subject: Subject) -> Mapping[str, object]:
        """See `Strategy`."""
        return axes_of(self.points_of(subject), subject.task.kind.axes)

    def title(self, subject: Subject) -> str:
        """See `Strategy`."""
        return counted(len(self.points_of(subject)), "trial")

    def surely_trains(self, subject: Subject, store: StageStore, device: str) -> bool:
        """See `Strategy`; some of the points are looked at."""
        points = self.points_of(subject)
        lineages = (
            (lineage_of(subject.task, point, device, ""), point) for point in points[:: len(points) // LOOKS + 1]
        )
        return any(store.outline(lineage.key(point.rates())) is None for lineage, point in lineages)

    def train(self, arena: Arena) -> None:
        """See `Strategy`."""
        points = self.points_of(arena.subject)
        if arena.plan.lanes == "fused":
            check(cast(Sequence[Settings], points))
        arena.session.planned = len(points)
        train_all(arena, points)


def train_all(arena: Arena, points: Sequence[Point], prefix: str = "read") -> None:
    """Read off what is known, and give the rest to Ray Tune. Raises: KeyboardInterrupt after Ctrl-C."""
    arena.claim(points)
    if left := arena.read_off(points, prefix):
        _tune(arena, left)


def _tune(arena: Arena, points: Sequence[Point]) -> None:
    """Give points to Ray Tune, and show how they come on."""
    with quick_imports():
        from search import cluster  # noqa: F401  before Ray Tune, it sets what that reads
        from search.lanes import fuse
        from search.searcher import PrefixSearcher
        from search.tuning import job_for, tune_points

    slots = arena.slots()
    if slots.notice:
        print(slots.notice)
    session, store = arena.session, arena.store.uri if arena.store else None
    job = job_for(session, points, arena.subject.task, slots, store, arena.scratch)
    if arena.plan.lanes == "fused" and store:
        fuse(session, cast(Sequence[Settings], points), job, slots)
    total = distinct_epochs(points) if store else sum(point.epochs for point in points)
    title = f"{session.name}: {counted(len(points), 'trial')} on {slots.workers} x {slots.device}"
    searcher = PrefixSearcher(points, slots.workers, share=store is not None)
    with display.shown(session, total, title):
        tune_points(session, searcher, len(points), job, slots, STORE / "ray")
    if not searcher.exhausted:  # Ray Tune answers Ctrl-C by stopping the trials and returning
        raise KeyboardInterrupt

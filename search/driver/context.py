"""What a strategy is given to choose and train its trials with."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from agr.common.cli import quick_imports
from search.plan import Plan
from search.problems.problem import Problem
from search.session.session import Record, Session
from search.stages.leases import Leaseholder
from search.stages.storage import absolute, below
from search.stages.store import Lineage, Stage, StageStore, final_weights
from search.tasks.base import Point, lineage_of, trial_report

if TYPE_CHECKING:
    from search.runtime.cluster import Allocation
    from search.runtime.trial import Job


class Strategy(Protocol):
    """How a search chooses its trials."""

    def axes(self, problem: Problem) -> Mapping[str, object]:
        """What is searched, as MLflow's parameters."""

    @property
    def title(self) -> str:
        """What is searched, in a few words."""

    def needs_training(self, problem: Problem, store: StageStore, device: str) -> bool:
        """Whether some epoch is known to be missing from the store, so that workers will be needed."""

    def train(self, context: SearchContext) -> Sequence[Record] | None:
        """Run the trials; returns a ranking, best first, or None for the usual one.

        Raises: KeyboardInterrupt after Ctrl-C.
        """


@dataclass(frozen=True)
class SearchContext:
    """Where a strategy trains: the session, the stage store, and Ray once it is needed."""

    plan: Plan
    problem: Problem
    session: Session
    device: str
    store: StageStore | None
    lease: Leaseholder | None
    allocation: Callable[[], Allocation] = field(repr=False)

    def job(self, ends: Iterable[int]) -> tuple[Job, Allocation]:
        """Start Ray; returns what its workers are given. ends: the numbers of epochs at which some trial ends."""
        with quick_imports():
            from search.runtime import tuning  # noqa: F401  the first sets what Ray Tune reads
            from search.runtime.trial import Job
        allocation = self.allocation()
        if allocation.notice:
            print(allocation.notice)
        store, scratch = self.store.uri if self.store else None, _scratch(self.plan, self.session)
        return Job(
            self.session.id, self.problem.task.for_workers(), allocation.device, store, frozenset(ends), scratch
        ), allocation

    def claim(self, points: Sequence[Point]) -> None:
        """Keep the stages of these points from being pruned while the search runs."""
        if self.lease:
            lineages = ((self.lineage(point), point.rates()) for point in points)
            self.lease.extend(key for lineage, rates in lineages for key in lineage.keys(rates))

    def lineage(self, point: Point) -> Lineage:
        """Everything besides its rates that determines a point's epochs."""
        return lineage_of(self.problem.task, point, self.device, self.session.id)

    def stored_epochs(self, points: Sequence[Point]) -> list[int]:
        """How many epochs of each point are in the store; zeros if it does not answer."""
        nothing = [0] * len(points)
        if self.store is None:
            return nothing
        try:
            return [self.store.known(self.lineage(point), point.rates()) for point in points]
        except OSError:
            return nothing

    def replay_cached(self, points: Sequence[Point], prefix: str = "read") -> tuple[Point, ...]:
        """Replay, without Ray, the points whose last stage is in the store; returns the others.

        Only the best of them is read whole, since it may become the champion; of the others, their history.
        """
        if self.store is None:
            return tuple(points)
        schema, store = self.session.schema, self.store
        keys = [self.lineage(point).key(point.rates()) for point in points]
        found = {number: stage for number, key in enumerate(keys) if (stage := store.outline(key)) is not None}
        while found:
            best = min(found, key=lambda number: schema.sort_key(schema.chosen(found[number].state.history)))
            if store.get(keys[best]) is not None:
                break
            del found[best]
        for number, stage in found.items():
            self.replay(f"{prefix}-{number}", points[number], stage)
        return tuple(point for number, point in enumerate(points) if number not in found)

    def replay(self, trial: str, point: Point, stage: Stage, reached: int | None = None) -> None:
        """Give the session a trial whose epochs, or the first `reached` of them, are in a stage."""
        self.session.start(trial, point.config())
        history = stage.state.history[:reached]
        self.session.add_report(trial, trial_report(history, stage.origins[:reached], True, self.session.schema))
        self.session.end(trial, self.weights(point, self.session.schema.chosen(history).epoch))

    def weights(self, point: Point, epochs: int) -> Callable[[], Mapping[str, Tensor]]:
        """A function that reads the weights of a point after some epochs."""
        uri = self.store.uri if self.store else ""
        return functools.partial(final_weights, uri, self.lineage(point).key(point.rates()[:epochs]))

    def with_last_epoch(self) -> SearchContext:
        """This context for trials that stand for their last epoch."""
        self.session.schema = replace(self.session.schema, best_epoch=False)
        task = self.problem.task.with_schema(self.session.schema)
        return replace(self, problem=replace(self.problem, task=task))


def _scratch(plan: Plan, session: Session) -> str:
    """The URI under which final stages wait when there is no stage store."""
    return below(absolute(plan.storage), f"ray/{session.id}")

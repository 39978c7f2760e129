"""The interface between a search and its strategy, which chooses the trials."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
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
from search.tasks.agr_task import AgrTask
from search.tasks.base import Point, lineage_of, trial_report

if TYPE_CHECKING:
    from search.runtime.cluster import Allocation
    from search.runtime.trial import Job


class Strategy(Protocol):
    """Chooses the trials of a search."""

    @property
    def points(self) -> Sequence[Point]:
        """All points, by which the same search is known again; empty if they are not known beforehand."""

    def axes(self, problem: Problem) -> Mapping[str, object]:
        """What is searched, as MLflow parameters."""

    @property
    def title(self) -> str:
        """What is searched, in a few words."""

    def needs_training(self, problem: Problem, store: StageStore, device: str) -> bool:
        """Whether some epoch is known to be missing from the store, so that Ray can be started at once."""

    def train(self, context: SearchContext) -> Sequence[Record] | None:
        """Run the trials; returns a ranking, best first, or None for `Session.ranking`'s. Raises: KeyboardInterrupt."""


@dataclass(frozen=True)
class SearchContext:
    """What a strategy needs to train: the session, the stage store, and Ray, which starts when it is needed."""

    plan: Plan
    problem: Problem
    session: Session
    device: str
    store: StageStore | None
    lease: Leaseholder | None
    allocation: Callable[[], Allocation] = field(repr=False)  # waits until Ray has started

    def job(self, ends: Iterable[int]) -> tuple[Job, Allocation]:
        """Wait for Ray; returns what it needs to train trials that end after these numbers of epochs.

        Raises: ModelError if MLflow cannot be reached.
        """
        with quick_imports():  # while MLflow opens its store and Ray starts
            from search.runtime import tuning  # noqa: F401  first: it sets environment variables of Ray Tune
            from search.runtime.shared_storage import bring
            from search.runtime.trial import Job
        self.session.tracker.wait_until_open()
        allocation = self.allocation()
        if allocation.notice:
            print(allocation.notice)
        store, scratch = self.store.uri if self.store else None, scratch_uri(self.plan, self.session)
        task = self.problem.task.for_workers()
        if self.plan.address and isinstance(task, AgrTask):
            task = bring(task.published(shards_uri(self.plan)), allocation.resources)
        return Job(self.session.id, task, allocation.device, store, frozenset(ends), scratch), allocation

    def claim(self, points: Sequence[Point]) -> None:
        """Protect the stages of these points from `prune` while the search runs."""
        if self.lease:
            lineages = ((self.lineage(point), point.rates()) for point in points)
            self.lease.extend(key for lineage, rates in lineages for key in lineage.keys(rates))

    def lineage(self, point: Point) -> Lineage:
        """Everything besides the rates that determines the epochs of a point."""
        return lineage_of(self.problem.task, point, self.device, self.session.id)

    def stored_epochs(self, points: Sequence[Point]) -> list[int]:
        """The number of stored epochs of each point; zeros if the store cannot be read."""
        with suppress(OSError):
            if self.store:
                return [self.store.known(self.lineage(point), point.rates()) for point in points]
        return [0] * len(points)

    def replay_cached(self, points: Sequence[Point], prefix: str = "read") -> tuple[Point, ...]:
        """Replay the points whose last stage is in the store; returns the other points.

        Of most stages only the history is read. The best one is read with its weights, as it may become the champion;
        if it is damaged, its point is returned too.
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
        """Add a trial to the session whose epochs, or the first `reached` of them, are in a stage."""
        self.session.start(trial, point.config())
        history = stage.state.history[:reached]
        self.session.add_report(trial, trial_report(history, stage.origins[:reached], True, self.session.schema))
        self.session.end(trial, self.weights(point, self.session.schema.chosen(history).epoch))

    def weights(self, point: Point, epochs: int) -> Callable[[], Mapping[str, Tensor]]:
        """A function that reads the weights of a point after `epochs` epochs from the store."""
        uri = self.store.uri if self.store else ""
        return functools.partial(final_weights, uri, self.lineage(point).key(point.rates()[:epochs]))

    def with_last_epoch(self) -> SearchContext:
        """A copy in which the last epoch of each trial is ranked, instead of the best."""
        self.session.schema = replace(self.session.schema, best_epoch=False)
        task = self.problem.task.with_schema(self.session.schema)
        return replace(self, problem=replace(self.problem, task=task))


def scratch_uri(plan: Plan, session: Session) -> str:
    """The URI of final stages that the stage store does not take, or of all of them if there is no stage store."""
    return below(absolute(plan.storage), f"ray/{session.id}")


def shards_uri(plan: Plan) -> str:
    """The URI of shards for the nodes of a cluster, in the place that all of them were found to see."""
    own = plan.stage_store if plan.stage_store != below(plan.storage, "stages") else None
    return below(absolute(own or plan.storage), "shards")

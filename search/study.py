"""A search from its plan to its champion.

    run(Plan(data=("demo",), ...), subject, exhaust, clerk)

A strategy chooses the trials: `search.exhaust` runs given points, `search.hunt` asks Optuna for them.
"""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from agr import registry
from agr.errors import AgrError, SettingsError
from agr.terminal import INTERRUPTED, complain, quick_imports
from search import report
from search.clerk import Clerk
from search.device import choose_device, device_name
from search.leases import Leaseholder
from search.opening import common_tags, open_session
from search.session import FAILED, FINISHED, KILLED, Record, Session
from search.stages import Lineage, Stage, StageStore, final_weights
from search.storage import Storage, absolute, below
from search.subject import Subject
from search.task import Point, lineage_of, reported

if TYPE_CHECKING:
    from search.cluster import Slots
    from search.trial import Job

STORE = registry.STORE


@dataclass(frozen=True)
class Plan:
    """What every search is asked for; `run_grid.py --help` explains each flag."""

    data: tuple[str, ...]
    recipe: str | None
    split: str
    folds: int | None
    fold: int | None
    seed: int
    workers: int | None
    gpus_per_trial: float
    cuda: bool
    mps: bool
    address: str | None
    stage_store: str | None  # a path or URI; None trains every trial from its first epoch
    name: str | None
    tracking_uri: str | None
    promote: bool
    lanes: str = "separate"
    leave_out: str | None = None  # a corpus to test on
    storage: str = str(STORE)  # a path or URI; on a cluster, what every node sees
    script: str = "search/run_grid.py"

    def __post_init__(self) -> None:
        """Raises: SettingsError if settings do not fit together."""
        if self.lanes == "fused" and self.stage_store is None:
            raise SettingsError("--lanes fused: found --no-stage-store; expected a store that trials can read")


class Strategy(Protocol):
    """How a search chooses its trials."""

    def axes(self, subject: Subject) -> Mapping[str, object]:
        """What is searched, as MLflow's parameters."""

    @property
    def title(self) -> str:
        """What is searched, in a few words."""

    def needs_training(self, subject: Subject, store: StageStore, device: str) -> bool:
        """Whether some epoch is known to be missing from the store, so that workers will be needed."""

    def train(self, arena: Arena) -> Sequence[Record] | None:
        """Run the trials; returns a ranking, best first, or None for the usual one.

        Raises: KeyboardInterrupt after Ctrl-C.
        """


@dataclass(frozen=True)
class Arena:
    """Where a strategy trains: the session, the stage store, and Ray once it is needed."""

    plan: Plan
    subject: Subject
    session: Session
    device: str
    store: StageStore | None
    lease: Leaseholder | None
    slots: Callable[[], Slots] = field(repr=False)

    def job(self, ends: Iterable[int]) -> tuple[Job, Slots]:
        """Start Ray; returns what its workers are given. ends: the numbers of epochs at which some trial ends."""
        with quick_imports():
            from search import cluster, tuning  # noqa: F401  the first sets what Ray Tune reads
            from search.trial import Job
        slots = self.slots()
        if slots.notice:
            print(slots.notice)
        store, scratch = self.store.uri if self.store else None, _scratch(self.plan, self.session)
        return Job(self.session.id, self.subject.task.lean(), slots.device, store, frozenset(ends), scratch), slots

    def claim(self, points: Sequence[Point]) -> None:
        """Keep the stages of these points from being pruned while the search runs."""
        if self.lease:
            lineages = ((self.lineage(point), point.rates()) for point in points)
            self.lease.extend(key for lineage, rates in lineages for key in lineage.keys(rates))

    def lineage(self, point: Point) -> Lineage:
        """Everything besides its rates that determines a point's epochs."""
        return lineage_of(self.subject.task, point, self.device, self.session.id)

    def known(self, points: Sequence[Point]) -> list[int]:
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
        kind, store = self.session.kind, self.store
        keys = [self.lineage(point).key(point.rates()) for point in points]
        found = {number: stage for number, key in enumerate(keys) if (stage := store.outline(key)) is not None}
        while found:
            best = min(found, key=lambda number: kind.merit(kind.chosen(found[number].state.history)))
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
        self.session.advance(trial, reported(history, stage.origins[:reached], True, self.session.kind))
        self.session.end(trial, self.weights(point, self.session.kind.chosen(history).epoch))

    def weights(self, point: Point, epochs: int) -> Callable[[], Mapping[str, Tensor]]:
        """A function that reads the weights of a point after some epochs."""
        uri = self.store.uri if self.store else ""
        return functools.partial(final_weights, uri, self.lineage(point).key(point.rates()[:epochs]))

    def with_last_epoch(self) -> Arena:
        """This arena for trials that stand for their last epoch."""
        self.session.kind = replace(self.session.kind, best_epoch=False)
        task = self.subject.task.reading(self.session.kind)
        return replace(self, subject=replace(self.subject, task=task))


def run(plan: Plan, subject: Subject, strategy: Strategy, clerk: Clerk) -> int:
    """Run a whole search, with MLflow in this clerk's process; returns the exit status."""
    began = time.monotonic()
    name = plan.name or f"{subject.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    axes = strategy.axes(subject)
    print(f"{name}: {strategy.title} on " + "\n".join(subject.lines))
    with closing(subject), _workers(plan, subject, strategy) as (device, start):
        tags = common_tags(name, plan.script, device) | dict(subject.tags)
        session = open_session(name, subject, tags, clerk, plan.tracking_uri, axes)
        status, code = FAILED, 1
        try:
            with _stages(plan, session) as (store, lease):
                arena = Arena(plan, subject, session, device, store, lease, functools.partial(_ready, session, start))
                ranking = strategy.train(arena)
                ending = subject.conclude(session, tags, plan.promote, ranking)
            session.settle()
            report.say(ending, session, time.monotonic() - began, "leaky" in tags, "synthetic" in tags)
            status, code = FINISHED, 0
        except KeyboardInterrupt:
            status, code = KILLED, INTERRUPTED
        except AgrError as error:
            if session.tracker.failed:
                raise
            complain(str(error))
        finally:
            session.close(status)
            session.tracker.close()
            _tidy(plan, session)
        if status == KILLED:
            report.interrupted(session, kept=plan.stage_store is not None)
    return code


def _ready(session: Session, start: Callable[[], Slots]) -> Slots:
    """The cluster. Raises: ModelError at once if MLflow cannot be reached."""
    session.tracker.opened()
    return start()


@contextmanager
def _workers(plan: Plan, subject: Subject, strategy: Strategy) -> Iterator[tuple[str, Callable[[], Slots]]]:
    """The device that trials train on, and a function that waits for the cluster, a running one or a private one."""
    if plan.address:
        with _joined(plan, subject) as slots:
            yield slots.device, functools.partial(replace, slots)
        return
    device = device_name(choose_device(plan.cuda, plan.mps), plan.lanes)
    kept = plan.stage_store and StageStore(absolute(plan.stage_store), subject.task.kind.epoch)
    with _starting(plan, subject, soon=not kept or strategy.needs_training(subject, kept, device)) as start:
        yield device, start


@contextmanager
def _cluster(plan: Plan, subject: Subject) -> Iterator[Slots]:
    from search.cluster import cluster

    size = subject.task.nbytes
    with cluster(plan.address, plan.workers, plan.gpus_per_trial, plan.cuda, plan.mps, size) as slots:
        yield replace(slots, device=device_name(slots.device, plan.lanes))


@contextmanager
def _starting(plan: Plan, subject: Subject, soon: bool) -> Iterator[Callable[[], Slots]]:
    """A function that waits for a private cluster. soon: whether to start it now, while this thread goes on.

    The thread that starts it has to live as long as it does: Linux ends Ray's processes with it. And while Ray is shut
    down this thread has to wait: an object of Ray's that is freed meanwhile would end the process.
    """
    stack = ExitStack()
    enter = functools.cache(lambda: stack.enter_context(_cluster(plan, subject)))
    with ThreadPoolExecutor(1, "ray") as thread:
        if soon:
            from search import cluster  # noqa: F401  here, since two threads must not import at the same time

            thread.submit(enter)
        try:
            yield lambda: thread.submit(enter).result()
        finally:
            thread.submit(stack.close).result()


@contextmanager
def _joined(plan: Plan, subject: Subject) -> Iterator[Slots]:
    """A running cluster. Raises: SettingsError if a node that may train does not see the store."""
    from search.reach import require

    with _cluster(plan, subject) as slots:
        flag, store = ("--stage-store", plan.stage_store) if plan.stage_store else ("--storage", plan.storage)
        require(flag, absolute(store), slots.resources)
        yield slots


def _scratch(plan: Plan, session: Session) -> str:
    """The URI under which final stages wait when there is no stage store."""
    return below(absolute(plan.storage), f"ray/{session.id}")


def _tidy(plan: Plan, session: Session) -> None:
    """Remove what only this search needed: Ray's files and, without a stage store, final stages."""
    shutil.rmtree(STORE / "ray" / session.id, ignore_errors=True)
    if plan.stage_store is None or plan.storage != str(STORE):
        with suppress(AgrError, OSError):
            Storage(_scratch(plan, session)).clear()


@contextmanager
def _stages(plan: Plan, session: Session) -> Iterator[tuple[StageStore | None, Leaseholder | None]]:
    """The stage store, and the lease that keeps `prune` from removing what this search needs."""
    if plan.stage_store is None:
        yield None, None
        return
    store = StageStore(absolute(plan.stage_store), session.kind.epoch)
    holder = Leaseholder(store, session.id, ())
    session.heartbeats.append(holder.renew)
    try:
        yield store, holder
    finally:
        holder.end()

"""A search from its plan to its champion: what it is about, cluster, trials, ending.

    run(Plan(data=("demo",), ...), subject, exhaust, clerk)

How trials are chosen is the strategy's: `search.exhaust` runs given points, `search.hunt` asks Optuna for them.
"""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from agr import registry
from agr.errors import AgrError, SettingsError
from agr.terminal import INTERRUPTED, complain
from search import report
from search.clerk import Clerk
from search.device import choose_device, device_name
from search.leases import Leaseholder
from search.opening import common_tags, open_session
from search.session import FAILED, FINISHED, KILLED, Record, Session
from search.stages import Lineage, Stage, StageStore, final_weights
from search.storage import Storage, absolute, below
from search.subject import Subject
from search.task import Point, lineage_of

if TYPE_CHECKING:
    from search.cluster import Slots

STORE = registry.STORE


@dataclass(frozen=True)
class Plan:
    """What every search is asked for; see `run_grid.py --help` for the meaning of each."""

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
        """Raises: SettingsError for settings that do not go together."""
        if self.lanes == "fused" and self.stage_store is None:
            raise SettingsError("--lanes fused: found --no-stage-store; expected a store, where trials read the epochs")


class Strategy(Protocol):
    """How a search chooses its trials."""

    def axes(self, subject: Subject) -> Mapping[str, object]:
        """What is searched, as MLflow's parameters."""

    def title(self, subject: Subject) -> str:
        """What is searched, in a few words."""

    def surely_trains(self, subject: Subject, store: StageStore, device: str) -> bool:
        """Whether something is known to be missing from a store, so that workers will be wanted."""

    def train(self, arena: Arena) -> Sequence[Record] | None:
        """Run the trials; returns a ranking, best first, or None for the kind's own.

        Raises: KeyboardInterrupt after Ctrl-C.
        """


@dataclass(frozen=True)
class Arena:
    """Where a strategy trains: the session, the stage store, and Ray once it is wanted."""

    plan: Plan
    subject: Subject
    session: Session
    device: str
    store: StageStore | None
    lease: Leaseholder | None
    slots: Callable[[], Slots] = field(repr=False)

    @property
    def scratch(self) -> str:
        """Where final stages wait without a stage store."""
        return _scratch(self.plan, self.session)

    def claim(self, points: Sequence[Point]) -> None:
        """Keep the stages of these points from being pruned while the search runs."""
        if self.lease:
            lineages = ((self.lineage(point), point.rates()) for point in points)
            self.lease.extend(key for lineage, rates in lineages for key in lineage.keys(rates))

    def lineage(self, point: Point) -> Lineage:
        """All that determines a point's epochs besides its rates."""
        return lineage_of(self.subject.task, point, self.device, self.session.id)

    def known(self, points: Sequence[Point]) -> list[int]:
        """How many epochs of each point are in the store; none that can be told of, if it does not answer."""
        nothing = [0] * len(points)
        if self.store is None:
            return nothing
        try:
            return [self.store.known(self.lineage(point), point.rates()) for point in points]
        except OSError:
            return nothing

    def read_off(self, points: Sequence[Point], prefix: str = "read") -> tuple[Point, ...]:
        """Answer the points whose every epoch is in the store already, without Ray; returns the others.

        Only the best of them is read whole, for it may become the champion; of the others, what was noted.
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
        """Tell the session of a trial whose epochs, or the first `reached` of them, a stage holds."""
        self.session.start(trial, point.config())
        history = stage.state.history[:reached]
        epochs = [dict(vars(epoch)) for epoch in history]
        self.session.advance(trial, {"epochs": epochs, "origins": stage.origins[:reached], "read": True})
        self.session.end(trial, self.weights(point, self.session.kind.chosen(history).epoch))

    def weights(self, point: Point, epochs: int) -> Callable[[], Mapping[str, Tensor]]:
        """What reads the weights of a point after some epochs, when they are wanted."""
        uri = self.store.uri if self.store else ""
        return functools.partial(final_weights, uri, self.lineage(point).key(point.rates()[:epochs]))

    def to_the_end(self) -> Arena:
        """This arena for trials that stand for their last epoch."""
        plain = replace(self.session.kind, best_epoch=False)
        self.session.kind = plain
        task = self.subject.task.reading(plain)
        return replace(self, subject=replace(self.subject, task=task))


def run(plan: Plan, subject: Subject, strategy: Strategy, clerk: Clerk) -> int:
    """Run it all, MLflow by this clerk; returns the exit status."""
    began = time.monotonic()
    name = plan.name or f"{subject.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    axes = strategy.axes(subject)
    print(f"{name}: {strategy.title(subject)} on " + "\n".join(subject.lines))
    with closing(subject), _workers(plan, subject, strategy) as (device, start):
        tags = common_tags(name, plan.script, device) | dict(subject.tags)
        session = open_session(name, subject, tags, clerk, plan.tracking_uri, axes)
        status, code = FAILED, 1
        try:
            with _stages(plan, session) as (store, lease):
                arena = Arena(plan, subject, session, device, store, lease, functools.partial(_ready, session, start))
                ranking = strategy.train(arena)
                ending = subject.conclude(session, tags=tags, promote=plan.promote, ranking=ranking)
            session.settle()
            report.say(ending, session, time.monotonic() - began, "leaky" in tags, "synthetic" in tags)
            status, code = FINISHED, 0
        except KeyboardInterrupt:
            status, code = KILLED, INTERRUPTED
        except AgrError as error:
            if not session.reached:
                raise
            complain(str(error))
        finally:
            session.close(status)
            session.hang_up()
            _tidy(plan, session)
        if status == KILLED:
            report.interrupted(session, kept=plan.stage_store is not None)
    return code


def _ready(session: Session, start: Callable[[], Slots]) -> Slots:
    """The cluster, if MLflow is there too. Raises: ModelError before it is waited for if MLflow is not."""
    session.opened()
    return start()


@contextmanager
def _workers(plan: Plan, subject: Subject, strategy: Strategy) -> Iterator[tuple[str, Callable[[], Slots]]]:
    """The device that trials train on, and what waits for the cluster that has it: a running one, or one of its own."""
    if plan.address:
        with _joined(plan, subject) as slots:
            yield slots.device, functools.partial(replace, slots)
        return
    device = device_name(choose_device(plan.cuda, plan.mps), plan.lanes)
    kept = plan.stage_store and StageStore(absolute(plan.stage_store), subject.task.kind.epoch)
    with _starting(plan, subject, soon=not kept or strategy.surely_trains(subject, kept, device)) as start:
        yield device, start


@contextmanager
def _cluster(plan: Plan, subject: Subject) -> Iterator[Slots]:
    from search.cluster import cluster

    size = subject.task.nbytes
    with cluster(plan.address, plan.workers, plan.gpus_per_trial, plan.cuda, plan.mps, size) as slots:
        yield replace(slots, device=device_name(slots.device, plan.lanes))


@contextmanager
def _starting(plan: Plan, subject: Subject, soon: bool) -> Iterator[Callable[[], Slots]]:
    """What waits for a cluster of this search's own. soon: start it now, while this thread goes on.

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
    """A running cluster, once every node that may train sees the store. Raises: SettingsError for one that does not."""
    from search.reach import require

    with _cluster(plan, subject) as slots:
        if plan.stage_store is None:
            require("--storage", absolute(plan.storage), slots.resources)
        else:
            require("--stage-store", absolute(plan.stage_store), slots.resources)
        yield slots


def _scratch(plan: Plan, session: Session) -> str:
    return below(absolute(plan.storage), f"ray/{session.id}")


def _tidy(plan: Plan, session: Session) -> None:
    """Remove what the search kept for itself: Ray's notes and, without a stage store, final stages."""
    shutil.rmtree(STORE / "ray" / session.id, ignore_errors=True)
    if plan.stage_store is None or plan.storage != str(STORE):
        with suppress(AgrError, OSError):
            Storage(_scratch(plan, session)).clear()


@contextmanager
def _stages(plan: Plan, session: Session) -> Iterator[tuple[StageStore | None, Leaseholder | None]]:
    """The stage store, and the lease that keeps from being pruned what this search may need while it runs."""
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

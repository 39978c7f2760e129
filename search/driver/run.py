"""A search from its plan to its champion.

    run(Plan(data=("demo",), ...), subject, exhaust, clerk)

A strategy chooses the trials: `search.grid` runs given points, `search.optuna_search.strategy` asks Optuna for them.
"""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from agr.common.cli import INTERRUPTED, complain
from agr.errors import AgrError
from search.driver.context import SearchContext, Strategy, _scratch
from search.driver.mlflow_run import common_tags, open_session
from search.outbox.mlflow_process import MlflowProcess
from search.plan import STORE, Plan
from search.problems.problem import Problem
from search.results import report
from search.session.session import FAILED, FINISHED, KILLED, Session
from search.stages.leases import Leaseholder
from search.stages.storage import Storage, absolute
from search.stages.store import StageStore
from search.tasks.device import choose_device, device_name

if TYPE_CHECKING:
    from search.runtime.cluster import Slots


def run(plan: Plan, subject: Problem, strategy: Strategy, clerk: MlflowProcess) -> int:
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
                arena = SearchContext(
                    plan, subject, session, device, store, lease, functools.partial(_ready, session, start)
                )
                ranking = strategy.train(arena)
                ending = subject.conclude(session, tags, plan.promote, ranking)
            session.settle()
            report.say(ending, session, time.monotonic() - began, "leaky" in tags, "synthetic" in tags)
            status, code = FINISHED, 0
        except KeyboardInterrupt:
            status, code = KILLED, INTERRUPTED
        except AgrError as error:
            if session.tracker.open_error:
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
    session.tracker.wait_until_open()
    return start()


@contextmanager
def _workers(plan: Plan, subject: Problem, strategy: Strategy) -> Iterator[tuple[str, Callable[[], Slots]]]:
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
def _cluster(plan: Plan, subject: Problem) -> Iterator[Slots]:
    from search.runtime.cluster import cluster

    size = subject.task.nbytes
    with cluster(plan.address, plan.workers, plan.gpus_per_trial, plan.cuda, plan.mps, size) as slots:
        yield replace(slots, device=device_name(slots.device, plan.lanes))


@contextmanager
def _starting(plan: Plan, subject: Problem, soon: bool) -> Iterator[Callable[[], Slots]]:
    """A function that waits for a private cluster. soon: whether to start it now, while this thread goes on.

    The thread that starts it has to live as long as it does: Linux ends Ray's processes with it. And while Ray is shut
    down this thread has to wait: an object of Ray's that is freed meanwhile would end the process.
    """
    stack = ExitStack()
    enter = functools.cache(lambda: stack.enter_context(_cluster(plan, subject)))
    with ThreadPoolExecutor(1, "ray") as thread:
        if soon:
            from search.runtime import cluster  # noqa: F401  here, since two threads must not import at the same time

            thread.submit(enter)
        try:
            yield lambda: thread.submit(enter).result()
        finally:
            thread.submit(stack.close).result()


@contextmanager
def _joined(plan: Plan, subject: Problem) -> Iterator[Slots]:
    """A running cluster. Raises: SettingsError if a node that may train does not see the store."""
    from search.runtime.shared_storage import require

    with _cluster(plan, subject) as slots:
        flag, store = ("--stage-store", plan.stage_store) if plan.stage_store else ("--storage", plan.storage)
        require(flag, absolute(store), slots.resources)
        yield slots


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

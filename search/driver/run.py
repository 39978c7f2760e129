"""A search from its plan to its champion: run(plan, problem, GridStrategy(points), mlflow_process)."""

from __future__ import annotations

import functools
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, TextIO, TypeAlias, cast

from agr.common.cli import INTERRUPTED, Outlasting, complain
from agr.common.places import store_folder
from agr.common.printable import printable
from agr.errors import AgrError
from search.driver import earlier
from search.driver.context import SearchContext, Strategy, scratch_uri
from search.driver.earlier import EarlierSearch
from search.driver.mlflow_run import common_tags, open_session, store_of
from search.driver.ray_thread import RayThread
from search.outbox.mlflow_process import MlflowProcess
from search.plan import Plan
from search.problems.problem import Problem
from search.results import report
from search.runtime import host
from search.runtime.host import Needs, RayStart
from search.session.session import FAILED, FINISHED, KILLED, Session
from search.stages.leases import Leaseholder
from search.stages.storage import Storage, absolute
from search.stages.store import StageStore
from search.tasks.device import choose_device, device_name

if TYPE_CHECKING:
    from search.results.champion import SearchResult
    from search.runtime.cluster import Allocation

Ending: TypeAlias = "SearchResult | EarlierSearch | AgrError | None"


def run(plan: Plan, problem: Problem, strategy: Strategy, mlflow_process: MlflowProcess) -> int:
    """Run the trials, test and register the best one, and print the results; returns the exit status."""
    with redirect_stdout(cast("TextIO", Outlasting(sys.stdout))):  # it goes on in `... | head`
        return conduct(plan, problem, strategy, mlflow_process)[0]


def conduct(plan: Plan, problem: Problem, strategy: Strategy, mlflow_process: MlflowProcess) -> tuple[int, Ending]:
    """As `run`; returns also the result, the error that ended the search, or None after Ctrl-C.

    What is there already is told and not done again, unless the plan says so.
    """
    ending: Ending = None
    began = time.monotonic()
    name = plan.name or f"{time.strftime('%m%d-%H%M%S')}-{problem.name}"
    axes, interrupted = strategy.axes(problem), threading.Event()
    host.require_writable(store_folder())
    with _workers(plan, problem, strategy, interrupted) as (device, allocation, full):
        tags = common_tags(name, plan.script, device) | dict(problem.tags)
        marks = "leaky" in tags, "synthetic" in tags
        store = store_of(problem, mlflow_process, plan.tracking_uri, plan.experiment)
        identity = earlier.identity(plan, problem, strategy.points, device)
        if full and not plan.again and (found := earlier.find(identity, store, plan.promote)):
            report.print_earlier(found, problem.task.schema, store, *marks)
            return 0, EarlierSearch(found, problem, strategy.points, device, full, tags)
        print(printable(f"{name}: {strategy.title} on "), "\n".join(map(printable, problem.lines)), sep="")
        session = open_session(name, problem, tags, mlflow_process, plan.tracking_uri, axes, plan.experiment)
        status, code = FAILED, 1
        try:
            with _stages(plan, session) as (stages, lease):
                context = SearchContext(plan, problem, session, device, stages, lease, allocation)
                ranking = strategy.train(context)
                ending = result = problem.conclude(session, tags, plan.promote, ranking)
            session.tracker.set_tags(session.parent, {"mlflow.note.content": report.page(result, session)})
            session.settle()
            earlier.mark(session, identity, result)
            report.print_summary(result, session, time.monotonic() - began, *marks)
            status, code = FINISHED, 0
        except KeyboardInterrupt:
            status, code = KILLED, INTERRUPTED
            interrupted.set()
        except AgrError as error:
            if session.tracker.open_error:
                raise
            complain(str(error))
            ending = error
        finally:
            session.close(status)
            session.tracker.close(hurry=interrupted.is_set())
            _clear(plan, session)
        if status == KILLED:
            report.print_interrupted(session, kept=plan.stage_store is not None)
    return code, ending


def _clear(plan: Plan, session: Session) -> None:
    """Delete Ray's files of this search, and the stages that no stage store keeps."""
    shutil.rmtree(store_folder() / "ray" / session.id, ignore_errors=True)
    if plan.stage_store is None or plan.storage != str(store_folder()):
        with suppress(AgrError, OSError):
            Storage(scratch_uri(plan, session)).clear()


@contextmanager
def _workers(
    plan: Plan, problem: Problem, strategy: Strategy, interrupted: threading.Event
) -> Iterator[tuple[str, Callable[[], Allocation], StageStore | None]]:
    """The device of the trials, a function that waits for the cluster, and the stage store if it lacks no epoch."""

    def full_store(device: str) -> StageStore | None:
        store = plan.stage_store and StageStore(absolute(plan.stage_store), problem.task.schema.epoch)
        return None if not store or strategy.needs_training(problem, store, device) else store

    if plan.address:
        with _cluster(plan, problem, plan.address) as joined:
            yield joined.device, lambda: joined, full_store(joined.device)
        return
    device = device_name(choose_device(plan.cuda, plan.mps), plan.lanes)
    needs = host.check(problem.task.nbytes, store_folder())
    ray = RayThread(functools.partial(_cluster, plan, problem, needs))
    try:
        if (full := full_store(device)) is None:
            ray.start()
        yield device, ray.allocation, full
    except KeyboardInterrupt:  # before the search began
        interrupted.set()
        raise
    finally:
        ray.close(hurry=interrupted.is_set())


@contextmanager
def _cluster(plan: Plan, problem: Problem, where: str | Needs, start: RayStart | None = None) -> Iterator[Allocation]:
    """Start or join Ray. Raises: SettingsError if a node of a running cluster does not see the store."""
    from search.runtime.cluster import cluster
    from search.runtime.shared_storage import require_shared

    with cluster(where, plan.workers, plan.gpus_per_trial, plan.cuda, plan.mps, start) as allocation:
        if plan.address:
            flag, uri = ("--stage-store", plan.stage_store) if plan.stage_store else ("--storage", plan.storage)
            require_shared(flag, absolute(uri), allocation.resources)
        notice = where.notice if isinstance(where, Needs) else ""
        notices = "\n".join(filter(None, (notice, allocation.notice)))
        yield replace(allocation, device=device_name(allocation.device, plan.lanes), notice=notices)


@contextmanager
def _stages(plan: Plan, session: Session) -> Iterator[tuple[StageStore | None, Leaseholder | None]]:
    """The stage store, and the lease that protects the stages of this search from `prune`."""
    if plan.stage_store is None:
        yield None, None
        return
    store = StageStore(absolute(plan.stage_store), session.schema.epoch)
    lease = Leaseholder(store, session.id, ())
    session.heartbeats.append(lease.renew)
    try:
        yield store, lease
    finally:
        lease.end()

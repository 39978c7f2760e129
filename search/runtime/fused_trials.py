"""`--lanes fused`: the epochs of a search are trained in batches of models, before its trials run.

    fuse(session, points, job, slots)

Each worker gets a group of points as one Ray task, trains them together (agr.training.fused) and puts their stages into the
stage store, where the trials of Ray Tune then read them. These stages have a lineage of their own, since they agree
with separate training to rounding only. Ray replaces a worker that dies, and the new one goes on from the store; if a
group is given up, its trials train what is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import ray
import torch
from ray.exceptions import RayError

from agr.errors import SettingsError, TrainingError
from agr.training.fused import LaneResult, Rates, fused_epochs
from agr.training.loop import State
from agr.training.settings import Settings
from search.runtime.cluster import Slots
from search.runtime.trial import Job, about, superfluous
from search.session.session import Session
from search.stages.store import Lineage, Stage, StageStore
from search.tasks.agr_task import Voices
from search.tasks.base import distinct_epochs
from search.tasks.device import torch_device

CRASHES = 2  # how often a task whose worker died is started again
WRITERS = 4  # threads that write stages while the next epoch trains


def fuse(session: Session, points: Sequence[Settings], job: Job, slots: Slots) -> None:
    """Train the points in lanes and wait; prints a line for each epoch."""
    parts = groups(points, slots.workers)
    cpus, gpus = slots.resources.get("CPU", 0.0), slots.resources.get("GPU", 0.0)
    custom = {name: amount for name, amount in slots.resources.items() if name not in ("CPU", "GPU")}
    options = {"num_cpus": cpus, "num_gpus": gpus, "resources": custom, "max_retries": CRASHES}
    task, shared = ray.remote(advance).options(**options), ray.put(job)
    running = {task.remote(shared, part): f"lanes {number}/{len(parts)}" for number, part in enumerate(parts, start=1)}
    while running:
        (ready, *_), _ = ray.wait(list(running), num_returns=1)
        try:
            line: str = ray.get(next(ready))
        except StopIteration:
            del running[ready]
        except RayError as error:
            reason = str(error).strip().splitlines()[-1]
            print(f"{running.pop(ready)}: given up, its trials train on their own ({reason})", flush=True)
        else:
            session.beat()
            if line:
                print(f"{running[ready]}: {line}", flush=True)


def groups(points: Sequence[Settings], workers: int) -> list[tuple[Settings, ...]]:
    """At most `workers` groups with about the same number of epochs; points that share epochs stay together."""
    families: dict[float, list[Settings]] = {}
    for point in points:
        families.setdefault(point.rates()[0], []).append(point)
    parts: list[list[Settings]] = [[] for _ in range(min(workers, len(families)))]
    for family in sorted(families.values(), key=distinct_epochs, reverse=True):
        min(parts, key=distinct_epochs).extend(family)
    return [tuple(part) for part in parts]


def advance(job: Job, points: Sequence[Settings]) -> Iterator[str]:
    """What a worker runs: trains its points from their deepest stages to their last epochs; yields a line per epoch.

    After a death Ray expects the same number of lines again: those of epochs already known are empty.
    """
    device = torch_device(job.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    task = job.task
    if not isinstance(task, Voices):
        raise SettingsError("--lanes fused: found a trainable; expected AGR's own models, without --trainable")
    store, lineage = StageStore(job.stages or ""), task.lineage(points[0], job.device)
    found = {point.rates(): store.deepest(lineage, point.rates()) for point in points}
    stages = {rates[: len(stage.origins)]: stage for rates, stage in found.items() if stage}
    origins = {rates: stage.origins for rates, stage in stages.items()}
    resume = {rates: stage.state for rates, stage in stages.items()}
    writes: list[Future[None]] = []
    with ThreadPoolExecutor(WRITERS) as pool:
        for outcomes in fused_epochs(task.data, task.split, points, device, resume):
            states = {rates: outcome for rates, outcome in outcomes.items() if isinstance(outcome, State)}
            for write in writes:  # of the epoch before, whose stages these may replace
                write.result()
            writes.clear()
            for rates, state in states.items():
                before = origins.get(rates[:-1], ())
                origins[rates] = (*before, job.search)
                stage = Stage(state, origins[rates], about(task.describe(points[0]), state.history))
                read = 0 if before[-1:] == (job.search,) else len(before)  # the stages of another search stay
                spare = superfluous(state.history, job.ends, task.kind, read)
                writes.append(pool.submit(_store, store, lineage, rates, stage, spare))
            yield _line(outcomes)
        for write in writes:
            write.result()


def _store(store: StageStore, lineage: Lineage, rates: Rates, stage: Stage, spare: Iterable[int]) -> None:
    """Store the stage after these rates, and drop those after `spare` epochs."""
    store.put(lineage.key(rates), stage)
    for count in spare:
        store.drop(lineage.key(rates[:count]))


def _line(outcomes: Mapping[Rates, LaneResult]) -> str:
    """One epoch of a group, as it is printed."""
    last = [outcome.history[-1] for outcome in outcomes.values() if isinstance(outcome, State)]
    errors = [str(outcome) for outcome in outcomes.values() if isinstance(outcome, TrainingError)]
    if not last:
        return "; ".join(errors)
    best, seconds = max(epoch.val_balanced_accuracy for epoch in last), sum(epoch.seconds for epoch in last)
    done = f"epoch {last[0].epoch}, lanes {len(last)}, {seconds:.1f} s, best val balanced accuracy {best:.4f}"
    return "; ".join([done, *errors])

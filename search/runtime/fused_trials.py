"""`--lanes fused`: trains the epochs of a search in batches of models, before its trials run.

Each worker trains a group of points together, as one Ray task, and writes their stages to the stage store, where the
trials of Ray Tune read them. These stages have a separate lineage, since they equal those of separate training only up
to rounding. Another worker takes over from one that dies; if a group is given up, its trials train what is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import ray
from ray.exceptions import RayError

from agr.errors import SettingsError, TrainingError
from agr.training.fused import LaneResult, Rates, fused_epochs
from agr.training.loop import State
from agr.training.settings import Settings
from search.runtime.cluster import Allocation
from search.runtime.trial import Job, describe_stage, stages_to_drop
from search.session.session import Session
from search.stages.store import Lineage, Stage, StageStore
from search.tasks.agr_task import AgrTask
from search.tasks.base import distinct_epochs
from search.tasks.device import prepare_device

CRASHES = 2  # how often a task whose worker died is restarted
WRITERS = 4  # threads that write stages while the next epoch trains


def train_fused(session: Session, points: Sequence[Settings], job: Job, allocation: Allocation) -> None:
    """Train the points in batches and wait; prints a line for each epoch of a batch."""
    parts = balanced_groups(points, allocation.workers)
    custom = dict(allocation.resources)
    options = {"num_cpus": custom.pop("CPU", 0.0), "num_gpus": custom.pop("GPU", 0.0), "resources": custom}
    task, shared = ray.remote(train_group).options(**options, max_retries=CRASHES), ray.put(job)
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


def balanced_groups(points: Sequence[Settings], workers: int) -> list[tuple[Settings, ...]]:
    """At most `workers` groups with about equally many epochs; points that share epochs stay together."""
    families: dict[float, list[Settings]] = {}
    for point in points:
        families.setdefault(point.rates()[0], []).append(point)
    parts: list[list[Settings]] = [[] for _ in range(min(workers, len(families)))]
    for family in sorted(families.values(), key=distinct_epochs, reverse=True):
        min(parts, key=distinct_epochs).extend(family)
    return [tuple(part) for part in parts]


def train_group(job: Job, points: Sequence[Settings]) -> Iterator[str]:
    """Run in a worker: train points from their deepest stages to their last epochs; yields one line per epoch.

    A restarted worker must yield as many lines as the first one; those of stored epochs are empty.
    """
    device, task = prepare_device(job.device), job.task
    if not isinstance(task, AgrTask):
        raise SettingsError("--lanes fused: found a trainable; expected AGR's own models, without --trainable")
    store, lineage = StageStore(job.stages or ""), task.lineage(points[0], job.device)
    found = {point.rates(): store.deepest(lineage, point.rates()) for point in points}
    stages = {rates[: len(stage.origins)]: stage for rates, stage in found.items() if stage}
    origins = {rates: stage.origins for rates, stage in stages.items()}
    resume = {rates: stage.state for rates, stage in stages.items()}
    writes: list[Future[None]] = []
    with ThreadPoolExecutor(WRITERS) as pool:
        for outcomes in fused_epochs(task.images(), task.split, points, device, resume):
            states = {rates: outcome for rates, outcome in outcomes.items() if isinstance(outcome, State)}
            for write in writes:  # of the previous epoch, whose stages may be dropped now
                write.result()
            writes.clear()
            for rates, state in states.items():
                before = origins.get(rates[:-1], ())
                origins[rates] = (*before, job.search)
                stage = Stage(state, origins[rates], describe_stage(task.describe(points[0]), state.history))
                read = 0 if before[-1:] == (job.search,) else len(before)  # another search's stages are kept
                spare = stages_to_drop(state.history, job.ends, task.schema, read)
                writes.append(pool.submit(_store, store, lineage, rates, stage, spare))
            yield _line(outcomes)
        for write in writes:
            write.result()


def _store(store: StageStore, lineage: Lineage, rates: Rates, stage: Stage, spare: Iterable[int]) -> None:
    """Store a stage, and drop those after `spare` epochs."""
    store.put(lineage.key(rates), stage)
    for count in spare:
        store.drop(lineage.key(rates[:count]))


def _line(outcomes: Mapping[Rates, LaneResult]) -> str:
    """Describe an epoch of a group in one line."""
    last = [outcome.history[-1] for outcome in outcomes.values() if isinstance(outcome, State)]
    errors = [str(outcome) for outcome in outcomes.values() if isinstance(outcome, TrainingError)]
    if not last:
        return "; ".join(errors)
    best, seconds = max(epoch.val_balanced_accuracy for epoch in last), sum(epoch.seconds for epoch in last)
    done = f"epoch {last[0].epoch}, lanes {len(last)}, {seconds:.1f} s, best val balanced accuracy {best:.4f}"
    return "; ".join([done, *errors])

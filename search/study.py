"""A search from its plan to its champion: data, split, cluster, trials, ending."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from agr import prepare, registry, splits
from agr.errors import AgrError
from agr.images import ImageSet
from agr.splits import Split
from agr.terminal import INTERRUPTED
from agr.tracking import Tracker
from agr.training import STEP_SIZE, Settings
from search import cluster, display, report
from search.champion import conclude
from search.grid import distinct_epochs
from search.session import FAILED, FINISHED, KILLED, Session, SessionCallback
from search.stages import Lineage, StageStore
from search.upkeep import Leaseholder

WORKSPACE = Path("data")
STORE = registry.STORE
STAGES = str(STORE / "stages")
CRASHES = 2  # how often a trial whose worker died is started again, from its last stage


@dataclass(frozen=True)
class Plan:
    """Everything a search was asked for; see `run_grid.py --help` for the meaning of each."""

    points: tuple[Settings, ...]
    data: str
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


def run(plan: Plan) -> int:
    """Run it all; returns the exit status."""
    began = time.monotonic()
    data = prepare.ensure(plan.data, WORKSPACE, plan.recipe, os.cpu_count() or 1)
    split = splits.make(data, plan.split, plan.seed, plan.folds, plan.fold)
    name = plan.name or f"{data.name}-{split.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    _announce(name, plan, data, split)
    gpu = (plan.gpus_per_trial, plan.cuda, plan.mps)
    with cluster.cluster(plan.address, plan.workers, *gpu, data.pixels.nbytes) as slots:
        if slots.notice:
            print(slots.notice)
        tags = _tags(plan, data, split, slots.device, name)
        session = _open_session(name, plan, data, split, tags)
        status, code = FAILED, 1
        try:
            _run_trials(plan, session, data, split, slots)
            ending = conclude(session, data, split, tags, plan.promote)
            report.say(ending, session, time.monotonic() - began, split.leaky, data.synthetic)
            status, code = FINISHED, 0
        except KeyboardInterrupt:
            kept = f"{len(session.finished())} of {session.planned} trials are kept"
            print(f"interrupted: {kept}; the same command goes on")
            status, code = KILLED, INTERRUPTED
        except AgrError as error:
            report.complain(str(error))
        finally:
            session.close(status)
            shutil.rmtree(STORE / "ray" / name, ignore_errors=True)
    return code


def _run_trials(plan: Plan, session: Session, data: ImageSet, split: Split, slots: cluster.Slots) -> None:
    """Hand the points to Ray Tune and wait. Raises: KeyboardInterrupt after Ctrl-C, the trials stopped."""
    from ray import tune

    from search.searcher import PrefixSearcher
    from search.trial import Job, run_trial

    stages = _absolute(plan.stage_store)
    lean = replace(data, pixels=np.asarray(data.pixels), rows=())
    ends = frozenset(point.epochs for point in plan.points)
    job = Job(session.name, lean, split, slots.device, stages, ends)
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(run_trial, job=job), slots.resources),
        tune_config=tune.TuneConfig(
            search_alg=PrefixSearcher(plan.points, slots.workers, share=plan.stage_store is not None),
            num_samples=len(plan.points),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=session.name,
            storage_path=str((STORE / "ray").resolve()),
            callbacks=[SessionCallback(session)],
            failure_config=tune.FailureConfig(max_failures=CRASHES),
            verbose=0,
        ),
    )
    total = distinct_epochs(plan.points) if plan.stage_store else sum(point.epochs for point in plan.points)
    title = f"{session.name}: {len(plan.points)} trials on {slots.workers} x {slots.device}"
    with display.shown(session, total, title), _leased(session, plan, lean, split, slots.device, stages):
        tuner.fit()
    if not session.complete():  # Ray Tune answers Ctrl-C by stopping the trials and returning
        raise KeyboardInterrupt


@contextmanager
def _leased(
    session: Session, plan: Plan, data: ImageSet, split: Split, device: str, stages: str | None
) -> Iterator[None]:
    """Keep the stages of this search from being pruned while it runs."""
    if stages is None:
        yield
        return
    lineages = ((Lineage.of(data, split, point, device), point.rates()) for point in plan.points)
    keys = (key for lineage, rates in lineages for key in lineage.keys(rates))
    holder = Leaseholder(StageStore(stages), session.name, keys)
    session.listeners.append(lambda record: holder.renew())
    try:
        yield
    finally:
        holder.end()


def _absolute(uri: str | None) -> str | None:
    """A path that means the same in every process of this machine."""
    return uri if uri is None or "://" in uri else os.path.abspath(uri)


def _open_session(name: str, plan: Plan, data: ImageSet, split: Split, tags: Mapping[str, object]) -> Session:
    """Open the tracking store and the search's own run."""
    tracker = Tracker(plan.tracking_uri or registry.default_tracking_uri())
    _close_abandoned(tracker)
    params = {
        "epochs": " ".join(map(str, sorted({point.epochs for point in plan.points}))),
        "lr": " ".join(f"{lr:g}" for lr in sorted({point.lr for point in plan.points})),
        "gamma": " ".join(f"{gamma:g}" for gamma in sorted({point.gamma for point in plan.points})),
        "trials": len(plan.points),
        "step_size": STEP_SIZE,
    }
    sides = splits.describe(split, data)
    params |= {f"{side}_{key}": value for side, counts in sides.items() for key, value in counts.items()}
    parent = tracker.start_run(name, params, dict(tags) | {"driver": f"{socket.gethostname()}:{os.getpid()}"})
    tracker.log_dataset(parent, data.name, data.digest, plan.data, f'{{"clips": {len(data)}}}')
    return Session(name, tracker, parent, tags, len(plan.points))


def _close_abandoned(tracker: Tracker) -> None:
    """End runs that a killed driver of this machine left open."""
    open_runs = tracker.unfinished()
    dead = {run for run, tags in open_runs if _is_dead(tags.get("driver", ""))}
    for run, tags in open_runs:
        if run in dead or tags.get("mlflow.parentRunId") in dead:
            tracker.set_tags(run, {"reason": "its driver was killed"})
            tracker.end_run(run, KILLED)


def _is_dead(driver: str) -> bool:
    host, _, pid = driver.rpartition(":")
    if host != socket.gethostname() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _tags(plan: Plan, data: ImageSet, split: Split, device: str, name: str) -> dict[str, object]:
    tags: dict[str, object] = {
        "search": name,
        "commit": commit(),
        "recipe": data.recipe.name,
        "split": split.name,
        "seed": plan.seed,
        "device": device,
        "data": data.name,
        "data_digest": data.digest,
    }
    if split.leaky:
        tags["leaky"] = "true"
    if data.synthetic:
        tags["synthetic"] = "true"
    return tags


def commit() -> str:
    """The commit of the checkout that this code stands in, `unknown` outside one."""
    here = Path(__file__).parent
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _announce(name: str, plan: Plan, data: ImageSet, split: Split) -> None:
    notes = [note for flag, note in ((split.leaky, "LEAKY split"), (data.synthetic, "SYNTHETIC voices")) if flag]
    print(f"{name}: {len(plan.points)} trials on {data.name}, split {split.name}" + "".join(f", {n}" for n in notes))
    for side, counts in splits.describe(split, data).items():
        print(f"  {side:5} {counts['clips']:6} clips, {counts['female']:3} women, {counts['male']:3} men")

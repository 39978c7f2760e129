"""A search from its plan to its champion: data, split, cluster, trials, ending."""

from __future__ import annotations

import functools
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from agr import joint, prepare, registry, splits
from agr.errors import AgrError, SettingsError
from agr.images import ImageSet
from agr.splits import Split
from agr.terminal import INTERRUPTED, complain
from agr.tracking import Tracker
from agr.training import STEP_SIZE, Settings
from agr.variation import DEFAULT, Variation
from search import display, report
from search.champion import conclude
from search.device import choose_device, device_name
from search.grid import distinct_epochs
from search.session import FAILED, FINISHED, KILLED, Session
from search.stages import Lineage, Stage, StageStore
from search.upkeep import Leaseholder

if TYPE_CHECKING:
    from search.cluster import Slots

WORKSPACE = Path("data")
STORE = registry.STORE
STAGES = str(STORE / "stages")


@dataclass(frozen=True)
class Plan:
    """Everything a search was asked for; see `run_grid.py --help` for the meaning of each."""

    points: tuple[Settings, ...]
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
    variation: Variation | None = DEFAULT  # of training clips, where the recipe allows it

    def __post_init__(self) -> None:
        """Raises: SettingsError for settings that do not go together."""
        if self.lanes == "fused" and self.stage_store is None:
            raise SettingsError("--lanes fused: found --no-stage-store; expected a store, where trials read the epochs")


def run(plan: Plan) -> int:
    """Run it all; returns the exit status."""
    began = time.monotonic()
    cores = os.cpu_count() or 1
    data = joint.join([prepare.ensure(source, WORKSPACE, plan.recipe, cores) for source in plan.data])
    split = joint.split(data, plan.split, plan.seed, plan.folds, plan.fold, plan.leave_out)
    plan = replace(plan, points=varied(plan.points, plan.variation, data))
    name = plan.name or f"{data.name}-{split.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    _announce(name, plan, data, split)
    with ExitStack() as stack:
        slots = stack.enter_context(_cluster(plan, data)) if plan.address else None
        device = slots.device if slots else device_name(choose_device(plan.cuda, plan.mps), plan.lanes)
        tags = _tags(plan, data, split, device, name)
        session = _open_session(name, plan, data, split, tags)
        status, code = FAILED, 1
        try:
            with _stages(plan, session, data, split, device) as store:
                left = read_off(session, plan.points, data, split, device, store) if store else plan.points
                if left:
                    slots = slots or stack.enter_context(_cluster(plan, data))
                    _tune(plan, session, left, data, split, slots, store)
            ending = conclude(session, data, split, tags, plan.promote)
            report.say(ending, session, time.monotonic() - began, split.leaky, data.synthetic)
            status, code = FINISHED, 0
        except KeyboardInterrupt:
            status, code = KILLED, INTERRUPTED
        except AgrError as error:
            complain(str(error))
        finally:
            session.close(status)
            shutil.rmtree(STORE / "ray" / session.id, ignore_errors=True)
        if status == KILLED:
            report.interrupted(session, kept=plan.stage_store is not None)
    return code


def varied(points: Sequence[Settings], wanted: Variation | None, data: ImageSet) -> tuple[Settings, ...]:
    """The points with these strengths of variation, where the images can be varied."""
    if wanted is None or data.evidence is None:
        return tuple(points)
    strengths: dict[str, Any] = {f"vary_{name}": value for name, value in asdict(wanted).items()}
    return tuple(replace(point, **strengths) for point in points)


def read_off(
    session: Session, points: Sequence[Settings], data: ImageSet, split: Split, device: str, store: StageStore
) -> tuple[Settings, ...]:
    """Answer the points whose every epoch is in the store already, without Ray; returns the others."""
    left = []
    for number, point in enumerate(points):
        stage = store.get(Lineage.of(data, split, point, device).key(point.rates()))
        if stage is None:
            left.append(point)
            continue
        trial = f"read-{number}"
        session.start(trial, asdict(point))
        epochs = [asdict(epoch) for epoch in stage.state.history]
        session.advance(trial, {"epochs": epochs, "origins": stage.origins, "read": True})
        session.end(trial, functools.partial(_weights, stage))
    return tuple(left)


def _weights(stage: Stage) -> Mapping[str, Tensor]:
    return stage.state.weights


@contextmanager
def _cluster(plan: Plan, data: ImageSet) -> Iterator[Slots]:
    from search.cluster import cluster

    size = data.pixels.nbytes
    with cluster(plan.address, plan.workers, plan.gpus_per_trial, plan.cuda, plan.mps, size) as slots:
        yield replace(slots, device=device_name(slots.device, plan.lanes))


def _tune(
    plan: Plan,
    session: Session,
    points: Sequence[Settings],
    data: ImageSet,
    split: Split,
    slots: Slots,
    store: StageStore | None,
) -> None:
    """Give the points to Ray Tune, and show how they come on. Raises: KeyboardInterrupt after Ctrl-C."""
    from search.lanes import fuse
    from search.tuning import job_for, tune_points

    if slots.notice:
        print(slots.notice)
    if plan.lanes == "fused" and store:
        fuse(session, points, job_for(session, points, data, split, slots, store.uri), slots)
    total = distinct_epochs(points) if store else sum(point.epochs for point in points)
    title = f"{session.name}: {len(points)} trials on {slots.workers} x {slots.device}"
    with display.shown(session, total, title):
        tune_points(session, points, data, split, slots, store.uri if store else None, STORE / "ray")
    if not session.complete():  # Ray Tune answers Ctrl-C by stopping the trials and returning
        raise KeyboardInterrupt


@contextmanager
def _stages(plan: Plan, session: Session, data: ImageSet, split: Split, device: str) -> Iterator[StageStore | None]:
    """The stage store, with what this search may need kept from being pruned while it runs."""
    if plan.stage_store is None:
        yield None
        return
    local = "://" not in plan.stage_store
    store = StageStore(os.path.abspath(plan.stage_store) if local else plan.stage_store)
    lineages = ((Lineage.of(data, split, point, device), point.rates()) for point in plan.points)
    keys = (key for lineage, rates in lineages for key in lineage.keys(rates))
    holder = Leaseholder(store, session.id, keys)
    session.heartbeats.append(holder.renew)
    try:
        yield store
    finally:
        holder.end()


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
    tracker.log_dataset(parent, data.name, data.digest, " ".join(plan.data), f'{{"clips": {len(data)}}}')
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
    made_by = commit()
    tags: dict[str, object] = {
        "search": name,
        "commit": made_by,
        "recipe": data.recipe.name,
        "split": split.name,
        "seed": plan.seed,
        "device": device,
        "data": data.name,
        "data_digest": data.digest,
        "mlflow.source.name": "search/run_grid.py",
        "mlflow.source.git.commit": made_by,
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

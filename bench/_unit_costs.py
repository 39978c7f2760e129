"""What one of each costs on this machine: an epoch reported, a run logged, a stage, a clip. See `bench/units.py`."""

from __future__ import annotations

import pickle
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow
import torch
from rich.console import Console

from agr.data import image_set, preparation, shards, splits
from agr.data.corpus import open_corpus
from agr.labels import CLASSES
from agr.registry.records import metric_points
from agr.registry.tracker import Tracker
from agr.registry.uri import EXPERIMENT, REGISTERED_MODEL
from agr.training.batches import clip_weights, epoch_order
from agr.training.loop import Epoch, State, fit
from agr.training.pitch_targets import pitch_shifts
from agr.training.settings import Settings
from search.driver.prefix_queue import PrefixQueue
from search.grid_search import grid
from search.outbox.mlflow_process import MlflowProcess
from search.outbox.outbox import Outbox
from search.session import display
from search.session.session import Session
from search.stages.leases import Leaseholder
from search.stages.pruning import stages
from search.stages.store import Stage, StageStore
from search.tasks.agr_task import AgrTask
from search.tasks.base import trial_report

EPOCHS, TRIALS, STAGES, LEASED = 20, 40, 20, 1000
RESULTS = 100  # that a trial of Ray Tune reports, so that they cost more than its beginning and end
PREPARED = 400  # clips
T = TypeVar("T")


@dataclass(frozen=True)
class Costs:
    """Seconds (`_s`) and bytes of one of each.

    callback_s: of the driver's loop, for an epoch that a trial reports. mlflow_run_s: creating and ending a run;
    mlflow_epoch_s: logging an epoch. draw_s: the live table with 10,000 trials. tune_*: the driver's processor time in
    Ray Tune itself. Of a clip, prepared_bytes: in the shards; sent_bytes: what workers get through Ray's object store;
    epoch_bytes: what each worker makes of its own in an epoch with augmentation; row_bytes: in the driver's memory.
    """

    callback_s: float
    mlflow_run_s: float
    mlflow_epoch_s: float
    mlflow_run_bytes: float
    mlflow_epoch_bytes: float
    mlflow_epoch_rows: float
    stage_bytes: float
    put_s: float
    get_s: float
    outline_s: float
    key_bytes: float
    lease_s: float
    list_s: float
    suggest_s: dict[int, float]
    draw_s: float
    tune_trial_s: float
    tune_result_s: float
    file_bytes: float
    prepare_s: float
    prepared_bytes: float
    sent_bytes: float
    epoch_bytes: float
    row_bytes: float
    train_s: float


def measure(source: str, scratch: Path, say: Callable[[str], None] = print) -> Costs:
    """Measure everything; about two minutes on two cores."""
    parts: dict[str, Callable[[], dict[str, float]]] = {
        "clips": lambda: clip_costs(source, scratch / "clips"),
        "stages": lambda: stage_costs(scratch / "stages"),
        "MLflow": lambda: mlflow_costs(scratch / "mlflow"),
        "the driver": lambda: driver_costs(scratch / "driver"),
        "Ray Tune": lambda: tune_costs(scratch / "tune"),
    }
    found: dict[str, float] = {}
    for what, costs in parts.items():
        say(f"measuring {what} ...")
        found |= costs()
    return Costs(suggest_s={count: suggest_cost(count) for count in (27, 432, 10_000)}, **found)


def each(work: Callable[[T], object], items: Iterable[T]) -> float:
    """The median seconds of one call."""
    seconds = []
    for item in items:
        began = time.perf_counter()
        work(item)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def made_up(number: int) -> Epoch:
    """An epoch with numbers as long as real ones."""
    return Epoch(number, 0.01, *(1 / (number + k / 7) for k in range(8)))


def clip_costs(source: str, scratch: Path) -> dict[str, float]:
    """A recording of `source`: its file, its preparation by one process, its images, its training."""
    corpus = open_corpus(source, scratch)
    few = replace(corpus, clips=corpus.clips[:: max(1, len(corpus.clips) // PREPARED)])
    shards.SIZE = PREPARED // 4  # so that there are several, as of a large corpus
    began = time.perf_counter()
    preparation.prepare(few, scratch / "few", preparation.choose_recipe(few, None))
    seconds = time.perf_counter() - began
    before = pyarrow.total_allocated_bytes()
    made = image_set.load(scratch / "few")
    table = pyarrow.total_allocated_bytes() - before
    split = splits.make(made, "speakers", 0)
    lean = AgrTask(made, split).for_workers()
    sent = len(pickle.dumps(replace(lean, data=replace(lean.data, pixels=np.zeros(0, np.uint8), features=None))))
    sent += sum(pixels.nbytes for pixels in (made.pixels, made.features) if pixels is not None)
    arrays = made.labels, made.speakers, made.takes[1], made.pixels, split.train, split.val, split.test
    held = table + sum(each.nbytes for each in arrays)
    order = epoch_order(split.train, 0, 0)
    own = clip_weights(made, split.train), pitch_shifts(made, split.train), order, made.labels[order]
    logits = len(order) * len(CLASSES) * np.dtype(np.float32).itemsize
    torch.set_num_threads(1)
    history = fit(made, split, Settings(epochs=2, lr=0.001, gamma=0.3), torch.device("cpu")).history
    return {
        "file_bytes": statistics.mean(clip.path.stat().st_size for clip in few.clips),
        "prepare_s": seconds / len(made),
        "prepared_bytes": sum(path.stat().st_size for path in image_set.shards_of(made)) / len(made),
        "sent_bytes": sent / len(made),
        "epoch_bytes": (logits + sum(each.nbytes for each in own)) / len(made),
        "row_bytes": held / len(made),
        "train_s": history[-1].seconds / len(split.train),
    }


def stage_costs(scratch: Path) -> dict[str, float]:
    """A stage of the paper's CNN after EPOCHS epochs, on the local disk; leases and lists of LEASED stages."""
    from agr.training.model import build

    weights = build("cnn").state_dict()
    moments = {f"{key}.{name}": value.clone() for key in ("exp_avg", "exp_avg_sq") for name, value in weights.items()}
    stage = Stage(State(weights, moments, tuple(map(made_up, range(1, EPOCHS + 1)))), ("a" * 32,) * EPOCHS)
    store, keys = StageStore(str(scratch)), [f"{number:064x}" for number in range(LEASED)]
    found = {"put_s": each(lambda key: store.put(key, stage), keys[:STAGES])}
    found |= {"get_s": each(store.get, keys[:STAGES]), "outline_s": each(store.outline, keys[:STAGES])}
    found["stage_bytes"] = next(iter(store.storage.files(".stage"))).size
    small = Stage(State({"a": torch.zeros(1)}, {}, (made_up(1),)), ("a",))
    for key in keys[STAGES:]:
        store.put(key, small)
    found["lease_s"] = each(lambda name: Leaseholder(store, name, keys), [f"lease{n}" for n in range(5)]) / LEASED
    found["key_bytes"] = sum(file.size for file in store.storage.files(".lease")) / (5 * LEASED)
    return found | {"list_s": each(lambda _: stages(store), range(3)) / LEASED}


def mlflow_costs(scratch: Path) -> dict[str, float]:
    """A run of EPOCHS epochs, one call an epoch, in a SQLite store of its own."""
    path = scratch / "mlflow.db"
    tracker = Tracker(f"sqlite:///{path}")
    parent = tracker.start_run("search", {}, {})
    params, tags = Settings(epochs=EPOCHS, lr=0.01, gamma=0.3).config(), {f"tag{n}": "x" * 20 for n in range(10)}
    runs: list[str] = []

    def whole(number: int) -> None:
        runs.append(tracker.start_run(f"trial {number}", params, tags, parent))
        tracker.end_run(runs[-1], "FINISHED")

    before = path.stat().st_size
    found = {"mlflow_run_s": each(whole, range(TRIALS))}
    bare = path.stat().st_size
    pairs = [(run, made_up(number)) for run in runs for number in range(1, EPOCHS + 1)]
    found["mlflow_epoch_s"] = each(lambda pair: tracker.log_points(pair[0], metric_points([pair[1]]), 0), pairs)
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT count(*) FROM metrics").fetchone()[0]
    found |= {"mlflow_run_bytes": (bare - before) / TRIALS, "mlflow_epoch_rows": rows / len(pairs)}
    return found | {"mlflow_epoch_bytes": (path.stat().st_size - bare) / len(pairs)}


def driver_costs(scratch: Path) -> dict[str, float]:
    """What the driver's own thread does for a reported epoch; one picture of the live table with 10,000 trials."""
    with MlflowProcess() as mlflow:
        store = mlflow.open(f"sqlite:///{scratch / 'mlflow.db'}", EXPERIMENT, REGISTERED_MODEL)
        outbox = Outbox(store, scratch / "outbox")
        session = Session("bench", outbox, outbox.start_run("bench", {}, {}), {}, TRIALS)
        began, spent = time.thread_time(), 0
        for trial, point in enumerate(grid([EPOCHS], [0.1 / (k + 1) for k in range(TRIALS)], [0.3])):
            session.start(str(trial), asdict(point))
            for number in range(1, EPOCHS + 1):
                session.add_report(str(trial), trial_report([made_up(number)], ["a"], False, session.schema))
                spent += 1
            session.end(str(trial), None)
        found = {"callback_s": (time.thread_time() - began) / spent}
        session.close("FINISHED")
        outbox.flush()
    first = next(iter(session.records.values()))
    session.records = {str(number): first for number in range(10_000)}
    console = Console(width=120, height=50, quiet=True)
    return found | {"draw_s": each(lambda _: console.print(display.table(session, 10**5, "bench", 40)), range(5))}


def suggest_cost(count: int) -> float:
    """Seconds in which the searcher gives out `count` points, one after the other, and hears of all their epochs."""
    points = grid((5, 10, 20), [0.1 * 0.9**k for k in range(58)], [k / 59 for k in range(1, 59)])[:count]
    began = time.perf_counter()
    waiting = PrefixQueue(points)
    for trial in map(str, range(count)):
        point = waiting.take(trial)
        assert point is not None
        for number in range(1, point.epochs + 1):
            waiting.reached(trial, number)
        waiting.end(trial)
    return time.perf_counter() - began


def tune_costs(scratch: Path) -> dict[str, float]:
    """The driver's processor time for a trial of Ray Tune that does nothing, and for each further result of it."""
    from search.runtime import host
    from search.runtime.cluster import cluster

    with cluster(host.check(2**20, scratch), 2, 1.0, False, False):
        _, one, many = (_tune_seconds(scratch / str(turn), n) for turn, n in enumerate((1, 1, RESULTS + 1)))
    return {"tune_trial_s": one / TRIALS, "tune_result_s": (many - one) / (TRIALS * RESULTS)}


def _tune_seconds(scratch: Path, results: int) -> float:
    from ray import tune

    def idle(config: dict[str, int]) -> None:
        for number in range(config["results"]):
            tune.report({"epoch": number})

    tuner = tune.Tuner(
        tune.with_resources(idle, {"CPU": 1.0}),
        param_space={"results": results},
        tune_config=tune.TuneConfig(num_samples=TRIALS, reuse_actors=True),
        run_config=tune.RunConfig(name=f"idle{results}", storage_path=str(scratch.resolve()), verbose=0),
    )
    began = time.process_time()
    tuner.fit()
    return time.process_time() - began

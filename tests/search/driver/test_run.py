"""Where a strategy trains: what is told of epochs that the stage store has, and what is kept from being pruned."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from agr.data.splits import inner
from agr.errors import AgrError, SettingsError
from agr.training.settings import Settings
from search import run_grid
from search.driver import run
from search.driver.context import SearchContext, shards_uri
from search.options import plan_of
from search.plan import Plan
from search.problems.problem import Problem
from search.session.session import FAILED, FINISHED, Session, ranked
from search.stages.leases import Leaseholder
from search.stages.pruning import prune
from search.stages.store import Stage, StageStore
from search.tasks.agr_task import AGR_SCHEMA, AgrPoint, AgrTask, FoldPoint
from search.tasks.base import Point, TrialSchema
from tests.search.fakes import FakeTracker, bits, epoch, made_stage, small_split

POINT = Settings(epochs=7, lr=0.01, gamma=0.5)
HUNTED = replace(AGR_SCHEMA, best_epoch=True, prunes=True)
SCORES = (0.5, 0.7, 0.6, 0.6, 0.5, 0.9, 0.8)  # best after 2 of the first 5 epochs, after 6 of all


def plan(*arguments: str) -> Plan:
    return plan_of(run_grid.parse(arguments), "search/run_grid.py")


@dataclass
class Stand:
    """A context and what is behind it."""

    context: SearchContext
    store: StageStore
    tracker: FakeTracker

    @property
    def session(self) -> Session:
        return self.context.session

    def key(self, point: Point, count: int) -> str:
        return self.context.lineage(point).key(point.rates()[:count])

    def keep(self, point: Point, *counts: int) -> dict[int, Stage]:
        """Stages of an earlier search after so many epochs, each with weights of its own."""
        made = {}
        for count in counts:
            history = tuple(epoch(n, val_balanced_accuracy=score) for n, score in enumerate(SCORES[:count], start=1))
            state = replace(made_stage(count, seed=count).state, history=history)
            made[count] = Stage(state, ("old",) * count, {})
            self.store.put(self.key(point, count), made[count])
        return made


def stand(folder: str, schema: TrialSchema[AgrPoint] = AGR_SCHEMA) -> Stand:
    data, split = small_split()
    task = AgrTask(data, split, inner(data, split, 2), schema)
    tracker, store = FakeTracker(), StageStore(folder)
    session = Session("grid", tracker, tracker.start_run("grid", {}, {}), {}, 1, schema)

    def forbidden(*_: object, **__: object) -> Any:
        raise AssertionError("neither Ray nor an ending is wanted here")

    problem = Problem(task, "made", {}, {}, data.digest, "made", (), forbidden, forbidden)
    holder = Leaseholder(store, session.id, ())
    return Stand(SearchContext(plan(), problem, session, "cpu", store, holder, forbidden), store, tracker)


@pytest.fixture
def grid(tmp_path_factory: pytest.TempPathFactory) -> Stand:
    """Trials that stand for their last epoch."""
    return stand(str(tmp_path_factory.mktemp("stages")))


@pytest.fixture
def hunt(tmp_path_factory: pytest.TempPathFactory) -> Stand:
    """Trials that stand for their best epoch and may end early."""
    return stand(str(tmp_path_factory.mktemp("stages")), HUNTED)


def same(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    return {name: bits(tensor) for name, tensor in a.items()} == {name: bits(tensor) for name, tensor in b.items()}


# Replaying


def test_a_complete_stage_is_replayed_as_a_finished_trial(grid: Stand) -> None:
    stage = grid.keep(POINT, 7)[7]
    grid.context.replay("t", POINT, stage)
    record = grid.session.records["t"]
    assert (record.status, record.settings, record.history) == (FINISHED, POINT, list(stage.state.history))
    assert record.counts == {"epochs_trained": 0, "epochs_shared": 0, "epochs_earlier": 7}
    assert record.weights is not None
    assert same(record.weights(), stage.state.weights)
    run = grid.tracker.runs[record.run_id]
    assert ([each.epoch for each in run["epochs"]], run["status"]) == ([1, 2, 3, 4, 5, 6, 7], "FINISHED")


@pytest.mark.parametrize(("reached", "best"), [(1, 1), (2, 2), (5, 2), (6, 6), (7, 6), (None, 6)])
def test_a_partly_replayed_stage_has_the_weights_of_its_best_epoch(hunt: Stand, reached: int | None, best: int) -> None:
    stages = hunt.keep(POINT, 1, 2, 6, 7)
    hunt.context.replay("t", POINT, stages[7], reached)
    record, count = hunt.session.records["t"], reached or 7
    assert (record.status, len(record.history), record.chosen.epoch) == (FINISHED, count, best)
    assert record.pruned == (count < 7)
    assert record.earlier == count
    assert record.weights is not None
    assert same(record.weights(), stages[best].state.weights)


def test_a_missing_stage_is_noticed_when_its_weights_are_read(hunt: Stand) -> None:
    stage = hunt.keep(POINT, 7)[7]
    hunt.context.replay("t", POINT, stage, 5)
    record = hunt.session.records["t"]
    assert record.status == FINISHED
    assert record.weights is not None
    with pytest.raises(AgrError, match=f"stage {hunt.key(POINT, 2)[:12]} is gone"):
        record.weights()


def test_a_partly_replayed_stage_is_not_finished_if_the_last_epoch_counts(grid: Stand) -> None:
    grid.context.replay("t", POINT, grid.keep(POINT, 7)[7], 5)
    assert grid.session.records["t"].status == FAILED


# Reading off


def test_stored_points_are_replayed_and_the_others_returned_in_order(grid: Stand) -> None:
    known, half, unknown = POINT, replace(POINT, gamma=0.1), replace(POINT, lr=0.1)
    short = replace(POINT, epochs=3)
    grid.keep(known, 3, 7)
    grid.keep(half, 6)
    left = grid.context.replay_cached([unknown, known, half, short], "seen")
    assert left == (unknown, half)
    told = {trial: record.settings for trial, record in grid.session.records.items()}
    assert told == {"seen-1": known, "seen-3": short}
    assert {record.status for record in grid.session.records.values()} == {FINISHED}


def test_a_fold_is_not_replayed_from_other_folds(grid: Stand) -> None:
    points: list[Point] = [POINT, FoldPoint(POINT, 1), FoldPoint(POINT, 2)]
    grid.keep(points[1], 7)
    assert grid.context.replay_cached(points) == (points[0], points[2])


def damage(stand: Stand, point: Point) -> None:
    """Turn the last byte of a point's last stage: of a tensor, which its notes do not tell."""
    name = StageStore.name(stand.key(point, 7))
    data = stand.store.storage.read(name)
    assert data is not None
    stand.store.storage.write(name, data[:-1] + bytes([data[-1] ^ 1]))


def test_a_damaged_best_stage_is_returned_and_the_next_best_is_champion(grid: Stand) -> None:
    """Scores are the same, so that the loss of the last epoch decides."""
    points = [replace(POINT, gamma=gamma) for gamma in (0.1, 0.2, 0.3)]
    for point, loss in zip(points, (0.4, 0.3, 0.5), strict=True):
        stage = grid.keep(point, 7)[7]
        last = replace(stage.state.history[-1], val_loss=loss)
        state = replace(stage.state, history=(*stage.state.history[:-1], last))
        grid.store.put(grid.key(point, 7), replace(stage, state=state))
    damage(grid, points[1])
    assert grid.context.replay_cached(points) == (points[1],)
    champion = ranked(grid.session.finished())[0]
    assert champion.settings == points[0]
    assert champion.weights is not None
    assert champion.weights()


def test_damaged_stages_are_all_returned(grid: Stand) -> None:
    points = [POINT, replace(POINT, gamma=0.1)]
    for point in points:
        grid.keep(point, 7)
        damage(grid, point)
    assert grid.context.replay_cached(points) == tuple(points)
    assert grid.session.records == {}


def test_nothing_is_replayed_without_a_store(grid: Stand) -> None:
    grid.keep(POINT, 7)
    context = replace(grid.context, store=None, lease=None)
    context.claim([POINT])
    assert context.replay_cached([POINT]) == (POINT,)
    assert grid.session.records == {}


def test_stored_epochs_are_counted_and_an_unreachable_store_has_none(
    grid: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorter, other = replace(POINT, epochs=3), replace(POINT, seed=POINT.seed + 1)
    assert grid.context.stored_epochs([POINT]) == [0]
    grid.keep(POINT, 5)
    assert grid.context.stored_epochs([POINT, other]) == [5, 0]
    assert grid.context.stored_epochs([shorter]) == [0]  # the stage after five is no use to it
    assert replace(grid.context, store=None).stored_epochs([POINT, other]) == [0, 0]

    def away(store: StageStore, key: str) -> None:
        raise OSError("no answer")

    monkeypatch.setattr(StageStore, "outline", away)
    assert grid.context.stored_epochs([POINT]) == [0]


# Leases


def test_stages_of_claimed_points_are_protected_until_the_lease_ends(grid: Stand) -> None:
    claimed, other, fold = POINT, replace(POINT, lr=0.1), FoldPoint(POINT, 1)
    points: list[Point] = [claimed, other, fold]
    for point in points:
        grid.keep(point, 3, 7)
    grid.context.claim([claimed])
    grid.context.claim([fold])
    deleted, _ = prune(grid.store, 0)
    assert {kept.key for kept in deleted} == {grid.key(other, 3), grid.key(other, 7)}
    assert grid.context.lease is not None
    grid.context.lease.end()
    deleted, _ = prune(grid.store, 0)
    assert len(deleted) == 4


# Plans


@pytest.mark.parametrize(
    ("arguments", "stages"),
    [
        ((), "mlflow_store/stages"),
        (("--storage", "s3://b/x"), "s3://b/x/stages"),
        (("--storage", "s3://b/x", "--stage-store", "here"), "here"),
        (("--no-stage-store",), None),
    ],
)
def test_stages_are_stored_below_the_storage_by_default(arguments: tuple[str, ...], stages: str | None) -> None:
    assert plan(*arguments).stage_store == stages


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        (("--folds", "3", "--fold", "0"), None),
        (("--split", "audiomnist-4fold", "--fold", "0"), None),
        (("--fold", "1"), r"^--fold 1: expected --folds N or --split audiomnist-4fold with it$"),
        (("--lanes", "fused", "--no-stage-store"), "^--lanes fused: found --no-stage-store; expected"),
    ],
)
def test_incompatible_flags_are_refused(arguments: tuple[str, ...], refusal: str | None) -> None:
    with pytest.raises(SettingsError, match=refusal) if refusal else nullcontext():
        plan(*arguments)


# Ctrl-C


def test_ctrl_c_before_the_search_begins_does_not_wait_for_ray(
    grid: Stand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hurried: list[bool] = []

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    ray = SimpleNamespace(start=lambda: None, allocation=None, close=lambda hurry: hurried.append(hurry))
    monkeypatch.setattr(run, "RayThread", lambda cluster: ray)
    monkeypatch.setattr(run, "open_session", interrupt)
    monkeypatch.chdir(tmp_path)
    strategy: Any = SimpleNamespace(axes=lambda _: {}, title="", points=(), needs_training=lambda *_: True)
    with pytest.raises(KeyboardInterrupt):
        run.conduct(plan(), grid.context.problem, strategy, cast("Any", SimpleNamespace(open=lambda *_: None)))
    assert hurried == [True]


# Shards


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--storage", "s3://b/agr?region=x"], "s3://b/agr/shards?region=x"),
        (["--storage", "s3://b/agr", "--no-stage-store"], "s3://b/agr/shards"),
        (["--stage-store", "s3://b/stages"], "s3://b/stages/shards"),
    ],
)
def test_shards_go_where_all_nodes_were_found_to_see(arguments: list[str], expected: str) -> None:
    assert shards_uri(plan("--address", "h:1", *arguments)) == expected

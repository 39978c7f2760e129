"""What a worker runs, without Ray: fresh, resumed, on a damaged store, and all 27 points with and without a store."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import quiet  # noqa: F401
import torch
from parts import bits, small_split, without_seconds
from ray import tune
from safetensors.torch import load_file
from torch import Tensor

from agr.images import ImageSet
from agr.splits import Split
from agr.training import STEP_SIZE, Epoch, Settings, fit
from search.grid import distinct_epochs, grid
from search.searcher import PrefixSearcher
from search.stages import Lineage, Stage, StageStore
from search.trial import FINAL_WEIGHTS, Job, run_trial

POINT = Settings(epochs=7, lr=0.003, gamma=0.5)


pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass
class Told:
    """What one trial reported, and the weights that it handed over."""

    reports: list[dict[str, Any]]
    weights: dict[str, Tensor]

    @property
    def history(self) -> list[Epoch]:
        return [Epoch(**values) for report in self.reports for values in report["epochs"]]

    @property
    def trained(self) -> int:
        return sum(len(report["epochs"]) for report in self.reports if not report["read"])


def trial(job: Job, settings: Settings) -> Told:
    """Run one point with `tune.report` replaced."""
    told = Told([], {})

    def report(metrics: dict[str, Any], checkpoint: tune.Checkpoint | None = None) -> None:
        told.reports.append(metrics)
        if checkpoint is not None:
            assert not told.weights, "the final weights are handed over once"
            told.weights |= load_file(str(Path(checkpoint.path) / FINAL_WEIGHTS))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.trial.tune.report", report)
        run_trial(asdict(settings), job)
    return told


@pytest.fixture(scope="module")
def parts() -> tuple[ImageSet, Split]:
    return small_split()


@pytest.fixture
def job(parts: tuple[ImageSet, Split]) -> Job:
    return Job("now", *parts, "cpu", f"memory://{uuid.uuid4().hex}", frozenset({POINT.epochs}))


@pytest.fixture(scope="module")
def reference(parts: tuple[ImageSet, Split]) -> tuple[list[Epoch], dict[str, Tensor]]:
    """POINT by `fit` alone."""
    state = fit(*parts, POINT, torch.device("cpu"))
    return without_seconds(state.history), state.weights


def kept(job: Job, settings: Settings) -> list[int]:
    """The epochs of a trial after which there is a stage."""
    assert job.stages is not None
    store, keys = StageStore(job.stages), Lineage.of(job.data, job.split, settings, job.device).keys(settings.rates())
    return [number for number, key in enumerate(keys, start=1) if store.get(key) is not None]


def assert_equal(told: Told, reference: tuple[Sequence[Epoch], dict[str, Tensor]]) -> None:
    """To the last bit, but for the seconds."""
    history, weights = reference
    assert [repr(epoch) for epoch in without_seconds(told.history)] == [repr(epoch) for epoch in history]
    assert told.weights.keys() == weights.keys()
    assert all(bits(told.weights[name]) == bits(weights[name]) for name in weights)


def test_a_fresh_trial_reports_each_epoch_as_it_comes(
    job: Job, reference: tuple[list[Epoch], dict[str, Tensor]]
) -> None:
    told = trial(job, POINT)
    assert_equal(told, reference)
    assert [report["epoch"] for report in told.reports] == [1, 2, 3, 4, 5, 6, 7]
    assert {(tuple(report["origins"]), report["read"]) for report in told.reports} == {(("now",), False)}
    assert not any("failed" in report for report in told.reports)


def test_only_stages_at_steps_and_ends_stay(job: Job) -> None:
    trial(replace(job, ends=frozenset({3, 7})), POINT)
    assert kept(job, POINT) == [3, STEP_SIZE, 7]


@pytest.fixture(scope="module")
def states(parts: tuple[ImageSet, Split]) -> list[Stage]:
    """POINT after each of its epochs."""
    found: list[Stage] = []
    report: Callable[..., None] = lambda epoch, state: found.append(Stage(state, ("old",) * epoch.epoch))  # noqa: E731
    fit(*parts, POINT, torch.device("cpu"), report)
    return found


def keep(job: Job, stage: Stage) -> str:
    """Put a stage of POINT; returns its key."""
    assert job.stages is not None
    key = Lineage.of(job.data, job.split, POINT, "cpu").key(POINT.rates()[: len(stage.origins)])
    StageStore(job.stages).put(key, stage)
    return key


@pytest.mark.parametrize("done", range(1, 8))
def test_a_trial_goes_on_from_any_stage_as_if_it_had_never_stopped(
    job: Job, reference: tuple[list[Epoch], dict[str, Tensor]], states: list[Stage], done: int
) -> None:
    keep(job, states[done - 1])
    told = trial(job, POINT)
    assert_equal(told, reference)
    assert told.trained == 7 - done
    first = told.reports[0]
    assert (first["epoch"], first["read"], first["origins"]) == (done, True, ["old"] * done)
    assert done in kept(job, POINT), "what another search left stays"


def test_the_read_epochs_are_those_of_the_store_seconds_included(job: Job, states: list[Stage]) -> None:
    keep(job, states[3])
    assert tuple(trial(job, POINT).history[:4]) == states[3].state.history


def test_origins_of_read_epochs_are_handed_on_to_the_next_stage(job: Job, states: list[Stage]) -> None:
    keep(job, states[4])
    trial(job, POINT)
    told = trial(replace(job, search="later"), POINT)
    assert [report["origins"] for report in told.reports] == [["old"] * 5 + ["now"] * 2]


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: b"", lambda data: data[:40] + b"!" + data[41:]]
)
def test_a_damaged_stage_costs_its_epochs_and_nothing_else(
    job: Job,
    reference: tuple[list[Epoch], dict[str, Tensor]],
    states: list[Stage],
    damage: Callable[[bytes], bytes],
) -> None:
    keep(job, states[1])
    assert job.stages is not None
    name, storage = StageStore.name(keep(job, states[5])), StageStore(job.stages).storage
    whole = storage.read(name)
    assert whole is not None
    storage.write(name, damage(whole))
    told = trial(job, POINT)
    assert_equal(told, reference)
    assert told.trained == 5


@pytest.mark.parametrize("fatal", range(1, 8))
def test_a_worker_that_dies_in_a_report_loses_at_most_that_epoch(
    job: Job, reference: tuple[list[Epoch], dict[str, Tensor]], fatal: int
) -> None:
    class Died(BaseException):
        pass

    def report(metrics: dict[str, Any], checkpoint: object = None) -> None:
        if metrics["epoch"] == fatal:
            raise Died

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.trial.tune.report", report)
        with pytest.raises(Died):
            run_trial(asdict(POINT), job)
    told = trial(job, POINT)
    assert_equal(told, reference)
    assert told.trained == 7 - fatal


def test_without_a_store_every_epoch_is_trained(job: Job, reference: tuple[list[Epoch], dict[str, Tensor]]) -> None:
    alone = replace(job, stages=None)
    assert_equal(trial(alone, POINT), reference)
    assert trial(alone, POINT).trained == 7


def test_another_seed_or_split_does_not_share(job: Job, states: list[Stage]) -> None:
    keep(job, states[6])
    assert trial(job, replace(POINT, seed=1, epochs=1)).trained == 1
    fewer = replace(job.split, train=job.split.train[:-1])
    assert trial(replace(job, split=fewer), replace(POINT, epochs=1)).trained == 1


def test_a_divergence_is_reported_with_its_reason_and_not_raised(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every learning rate that Settings lets through trains to the end on these images; an infinite one does not."""
    rates = (0.003, 0.003, float("inf"), 0.003)
    monkeypatch.setattr(Settings, "rates", lambda settings: rates[: settings.epochs])
    told = trial(job, Settings(epochs=4, lr=0.003, gamma=0.5))
    assert [report["epoch"] for report in told.reports] == [1, 2, 2]
    last = told.reports[-1]
    assert last["failed"].startswith("epoch 3: loss")
    assert "nan" in last["failed"]
    assert (last["epochs"], last["origins"], last["read"]) == ([], [], False)
    assert told.weights == {}
    assert kept(job, Settings(epochs=4, lr=0.003, gamma=0.5)) == [2], "what was trained before is still there"


def test_a_divergence_in_the_first_epoch_is_reported_too(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Settings, "rates", lambda settings: (float("inf"),) * settings.epochs)
    told = trial(job, POINT)
    assert [(report["epoch"], report["epochs"]) for report in told.reports] == [(0, [])]
    assert told.reports[0]["failed"].startswith("epoch 1: loss")


# The whole grid


@pytest.fixture(scope="module")
def with_store(parts: tuple[ImageSet, Split]) -> dict[Settings, Told]:
    """All 27 points, one after another in the searcher's order, sharing a store."""
    points = grid()
    job = Job("now", *parts, "cpu", f"memory://{uuid.uuid4().hex}", frozenset(point.epochs for point in points))
    searcher, done = PrefixSearcher(points, 1), {}
    while isinstance(suggested := searcher.suggest("t"), dict):
        point = Settings(**suggested)
        done[point] = trial(job, point)
        searcher.on_trial_result("t", done[point].reports[-1])
        searcher.on_trial_complete("t", done[point].reports[-1])
    return done


def test_27_points_train_150_epochs_and_report_315(with_store: dict[Settings, Told]) -> None:
    assert len(with_store) == 27
    assert sum(len(told.history) for told in with_store.values()) == 315
    assert sum(told.trained for told in with_store.values()) == distinct_epochs(grid()) == 150


def test_all_27_points_are_the_same_to_the_bit_with_and_without_the_store(
    with_store: dict[Settings, Told], parts: tuple[ImageSet, Split]
) -> None:
    job = Job("now", *parts, "cpu", None, frozenset())
    for point, told in with_store.items():
        alone = trial(job, point)
        assert alone.trained == point.epochs
        assert_equal(told, (without_seconds(alone.history), alone.weights))
        assert np.array_equal([epoch.lr for epoch in told.history], point.rates())

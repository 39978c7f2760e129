"""What a worker runs, without Ray: fresh, resumed, on a damaged store, and a whole grid with and without a store."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from agr.data.image_set import ImageSet
from agr.data.splits import Split, inner
from agr.training.loop import Epoch, fit
from agr.training.settings import STEP_SIZE, Settings
from search.driver.prefix_searcher import PrefixSearcher
from search.grid_search import grid
from search.runtime.trial import Job, describe_stage, run_trial, stages_to_drop
from search.stages.store import Stage, StageStore, final_weights
from search.tasks.agr_task import AGR_SCHEMA, AgrTask, FoldPoint
from search.tasks.base import Point, distinct_epochs
from tests.search.fakes import bits, epoch, progress_report, small_split, without_seconds

POINT = Settings(epochs=7, lr=0.003, gamma=0.5)
BEST_EPOCH = replace(AGR_SCHEMA, best_epoch=True)


pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass
class Told:
    """What one trial reported."""

    reports: list[dict[str, Any]]

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """Those that its last report leads to."""
        return final_weights(self.reports[-1]["home"], self.reports[-1]["stage"])

    @property
    def history(self) -> list[Epoch]:
        return [Epoch(**values) for report in self.reports for values in report["epochs"]]

    @property
    def trained(self) -> int:
        return sum(len(report["epochs"]) for report in self.reports if not report["read"])


def trial(job: Job, point: Point) -> Told:
    """Run one point with `tune.report` replaced."""
    told = Told([])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.runtime.trial.tune.report", told.reports.append)
        run_trial(point.config(), job)
    return told


def memory() -> str:
    """The URI of a new empty store."""
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture(scope="module")
def parts() -> tuple[ImageSet, Split]:
    return small_split()


@pytest.fixture
def job(parts: tuple[ImageSet, Split]) -> Job:
    return Job("now", AgrTask(*parts), "cpu", memory(), frozenset({POINT.epochs}), memory())


@pytest.fixture(scope="module")
def reference(parts: tuple[ImageSet, Split]) -> tuple[list[Epoch], dict[str, Tensor]]:
    """POINT by `fit` alone."""
    state = fit(*parts, POINT, torch.device("cpu"))
    return without_seconds(state.history), state.weights


def key_of(job: Job, point: Point, count: int) -> str:
    """The key of a point's stage after so many epochs."""
    lineage = job.task.lineage(point, job.device)
    assert lineage is not None
    return lineage.key(point.rates()[:count])


def kept(job: Job, point: Point) -> list[int]:
    """The epochs of a trial after which there is a stage."""
    assert job.stages is not None
    store, counts = StageStore(job.stages), range(1, point.epochs + 1)
    return [count for count in counts if store.get(key_of(job, point, count)) is not None]


def assert_equal(told: Told, reference: tuple[Sequence[Epoch], Mapping[str, Tensor]]) -> None:
    """To the last bit, but for the seconds."""
    history, weights = reference
    assert [repr(epoch) for epoch in without_seconds(told.history)] == [repr(epoch) for epoch in history]
    assert told.weights.keys() == weights.keys()
    assert all(bits(told.weights[name]) == bits(weights[name]) for name in weights)


def test_a_new_trial_reports_every_epoch(job: Job, reference: tuple[list[Epoch], dict[str, Tensor]]) -> None:
    told = trial(job, POINT)
    assert_equal(told, reference)
    assert [report["epoch"] for report in told.reports] == [1, 2, 3, 4, 5, 6, 7]
    assert {(tuple(report["origins"]), report["read"]) for report in told.reports} == {(("now",), False)}
    assert not any("failed" in report for report in told.reports)
    assert [report["score"] for report in told.reports] == [
        pytest.approx(epoch.val_balanced_accuracy) for epoch in reference[0]
    ]
    assert [report.get("stage") for report in told.reports] == [None] * 6 + [key_of(job, POINT, 7)]


def test_only_stages_at_steps_and_ends_are_kept(job: Job) -> None:
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
    key = key_of(job, POINT, len(stage.origins))
    StageStore(job.stages).put(key, stage)
    return key


@pytest.mark.parametrize("done", range(1, 8))
def test_a_trial_continues_from_any_stage_with_identical_results(
    job: Job, reference: tuple[list[Epoch], dict[str, Tensor]], states: list[Stage], done: int
) -> None:
    keep(job, states[done - 1])
    told = trial(job, POINT)
    assert_equal(told, reference)
    assert told.trained == 7 - done
    first = told.reports[0]
    assert (first["epoch"], first["read"], first["origins"]) == (done, True, ["old"] * done)
    assert done in kept(job, POINT), "what another search left stays"


def test_read_epochs_equal_the_stored_ones_including_seconds(job: Job, states: list[Stage]) -> None:
    keep(job, states[3])
    assert tuple(trial(job, POINT).history[:4]) == states[3].state.history


def test_origins_of_read_epochs_are_copied_to_the_next_stage(job: Job, states: list[Stage]) -> None:
    keep(job, states[4])
    trial(job, POINT)
    told = trial(replace(job, search="later"), POINT)
    assert [report["origins"] for report in told.reports] == [["old"] * 5 + ["now"] * 2]


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: b"", lambda data: data[:40] + b"!" + data[41:]]
)
def test_a_damaged_stage_costs_only_its_epochs(
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
        patch.setattr("search.runtime.trial.tune.report", report)
        with pytest.raises(Died):
            run_trial(asdict(POINT), job)
    told = trial(job, POINT)
    assert_equal(told, reference)
    assert told.trained == 7 - fatal


def test_without_a_store_every_epoch_is_trained(job: Job, reference: tuple[list[Epoch], dict[str, Tensor]]) -> None:
    alone = replace(job, stages=None)
    assert_equal(trial(alone, POINT), reference)
    assert trial(alone, POINT).trained == 7
    assert kept(replace(job, stages=job.scratch), POINT) == [7], "where the driver finds the weights"


def test_another_seed_or_split_does_not_share(job: Job, parts: tuple[ImageSet, Split], states: list[Stage]) -> None:
    keep(job, states[6])
    assert trial(job, replace(POINT, seed=1, epochs=1)).trained == 1
    data, split = parts
    fewer = AgrTask(data, replace(split, train=split.train[:-1]))
    assert trial(replace(job, task=fewer), replace(POINT, epochs=1)).trained == 1


def test_folds_train_on_different_speakers_and_share_nothing(job: Job, parts: tuple[ImageSet, Split]) -> None:
    data, split = parts
    folds, settings = inner(data, split, 3), replace(POINT, epochs=2)
    job = replace(job, task=AgrTask(data, split, folds), ends=frozenset({2}))
    for number, fold in enumerate(folds, start=1):
        told = trial(job, FoldPoint(settings, number))
        alone = fit(data, fold, settings, torch.device("cpu"))
        assert_equal(told, (without_seconds(alone.history), alone.weights))
        assert told.trained == 2
        assert trial(job, FoldPoint(settings, number)).trained == 0
    assert trial(job, settings).trained == 2


# A trial that stands for its best epoch


def scored(*scores: float) -> list[Epoch]:
    """Epochs with these validation scores, as good as each other in all else."""
    return [epoch(number, val_balanced_accuracy=score) for number, score in enumerate(scores, start=1)]


@pytest.mark.parametrize(
    ("scores", "ends", "read", "expected"),
    [
        ((0.5,), {7}, 0, set()),
        ((0.5, 0.6), {7}, 0, {1}),
        ((0.6, 0.5), {7}, 0, set()),  # the one before is the best
        ((0.6, 0.5, 0.4), {7}, 0, {2}),
        ((0.6, 0.5, 0.7), {7}, 0, {1, 2}),  # the one that was best is not any longer
        ((0.6, 0.5, 0.6), {7}, 0, {2}),  # equals: the shorter one stands
        ((0.6, 0.5, 0.7), {1, 7}, 0, {2}),
        ((0.6, 0.5, 0.7), {2}, 0, {1}),
        ((0.6, 0.5, 0.7), {7}, 1, {2}),  # the first was read: it may be another search's end
        ((0.6, 0.5, 0.7), {7}, 2, set()),
        ((0.1, 0.2, 0.3, 0.4, 0.5, 0.6), {7}, 0, set()),  # the fifth is where trials part
        ((0.9, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 0.7), {9}, 0, {7}),
    ],
)
def test_the_stage_of_the_best_epoch_is_kept_if_it_counts(
    scores: Sequence[float], ends: set[int], read: int, expected: set[int]
) -> None:
    assert stages_to_drop(scored(*scores), ends, BEST_EPOCH, read) == expected


@pytest.mark.parametrize(
    ("count", "ends", "read", "expected"),
    [
        (1, {7}, 0, set()),
        (2, {7}, 0, {1}),
        (2, {1}, 0, set()),
        (3, {7}, 2, set()),
        (4, {7}, 2, {3}),
        (6, {7}, 0, set()),
    ],
)
def test_the_stage_before_the_newest_is_dropped_otherwise(
    count: int, ends: set[int], read: int, expected: set[int]
) -> None:
    assert stages_to_drop(scored(*[0.9, 0.1, 0.2, 0.3, 0.4, 0.5][:count]), ends, AGR_SCHEMA, read) == expected


@pytest.mark.parametrize("seed", range(20))
def test_kept_stages_are_steps_ends_and_the_best_for_any_scores(seed: int) -> None:
    """Against the rule said at once of the whole history, not epoch by epoch."""
    draw = np.random.default_rng(seed)
    scores, ends = draw.integers(0, 4, 17) / 4, set(map(int, draw.integers(1, 18, 2)))
    read = int(draw.integers(0, 4))
    there, history = set(range(1, read + 1)), scored(*scores)
    for count in range(read + 1, 18):
        there = (there | {count}) - stages_to_drop(history[:count], ends, BEST_EPOCH, read)
        best = int(np.argmax(scores[:count])) + 1
        steps = {n for n in range(1, count + 1) if n <= read or n % STEP_SIZE == 0 or n in ends}
        assert there == steps | {best, count}


def best_of(job: Job) -> Job:
    assert isinstance(job.task, AgrTask)
    return replace(job, task=replace(job.task, schema=BEST_EPOCH))


def test_every_report_names_the_stage_of_the_best_epoch_so_far(job: Job, states: list[Stage]) -> None:
    job = best_of(job)
    told = trial(job, POINT)
    merits = [(-round(each.val_balanced_accuracy, 9), each.val_loss) for each in states[-1].state.history]
    best = [merits.index(min(merits[:count])) for count in range(1, 8)]
    assert len(set(best)) > 1, "else this shows nothing"
    assert [report["stage"] for report in told.reports] == [key_of(job, POINT, index + 1) for index in best]
    expected = states[best[-1]].state.weights
    assert all(bits(told.weights[name]) == bits(expected[name]) for name in expected)
    assert kept(job, POINT) == sorted({best[-1] + 1, STEP_SIZE, 7})


def test_a_completely_read_trial_names_the_stage_of_its_best_epoch(job: Job) -> None:
    job = best_of(job)
    first, again = trial(job, POINT), trial(job, POINT)
    assert again.trained == 0
    assert again.reports[-1]["stage"] == first.reports[-1]["stage"]


def test_a_stage_is_described_by_rates_and_epochs(job: Job) -> None:
    history = [epoch(1, lr=0.1), epoch(2, lr=0.05)]
    known = {"data": "made", "split": "speakers-seed0", "seed": 0, "recipe": "mfcc", "model": "cnn"}
    assert job.task.describe(POINT) == known
    assert describe_stage(known, history) == known | {"lr": "0.1", "now": "0.05", "epochs": 2}


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
    assert not any("stage" in report for report in told.reports)
    assert last["score"] == float("-inf")
    assert kept(job, Settings(epochs=4, lr=0.003, gamma=0.5)) == [2], "what was trained before is still there"


def test_a_divergence_in_the_first_epoch_is_reported_too(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Settings, "rates", lambda settings: (float("inf"),) * settings.epochs)
    told = trial(job, POINT)
    assert [(report["epoch"], report["epochs"]) for report in told.reports] == [(0, [])]
    assert told.reports[0]["failed"].startswith("epoch 1: loss")


# The whole grid


WHOLE = grid((3, 6, 11), (0.01, 0.001), (0.1, 0.5))  # ends before, after the first and after the second step of gamma


@pytest.fixture(scope="module")
def with_store(parts: tuple[ImageSet, Split]) -> dict[Settings, Told]:
    """All points of WHOLE, one after another in the searcher's order, sharing a store."""
    job = Job("now", AgrTask(*parts), "cpu", memory(), frozenset(point.epochs for point in WHOLE))
    searcher, done = PrefixSearcher(WHOLE, 1), {}
    while isinstance(suggested := searcher.suggest("t"), dict):
        point = Settings(**suggested)
        done[point] = trial(job, point)
        searcher.on_trial_result("t", progress_report(done[point].reports[-1]["epoch"]))
        searcher.on_trial_complete("t", progress_report(done[point].reports[-1]["epoch"]))
    return done


def test_12_points_train_34_epochs_and_report_80(with_store: dict[Settings, Told]) -> None:
    assert len(with_store) == 12
    assert sum(len(told.history) for told in with_store.values()) == 80
    assert sum(told.trained for told in with_store.values()) == distinct_epochs(WHOLE) == 34


def test_all_points_of_a_grid_are_the_same_to_the_bit_with_and_without_the_store(
    with_store: dict[Settings, Told], parts: tuple[ImageSet, Split]
) -> None:
    job = Job("now", AgrTask(*parts), "cpu", None, frozenset(), memory())
    for point, told in with_store.items():
        alone = trial(job, point)
        assert alone.trained == point.epochs
        assert_equal(told, (without_seconds(alone.history), alone.weights))
        assert np.array_equal([epoch.lr for epoch in told.history], point.rates())

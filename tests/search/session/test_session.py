"""A search as it happens, told to a tracker that writes everything down."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agr.errors import AgrError
from agr.training.loop import Epoch
from agr.training.settings import Settings
from search.runtime.callback import SessionCallback
from search.session.session import FAILED, FINISHED, KILLED, RUNNING, Record, Session, ranked
from search.stages.store import StageStore
from search.tasks.agr_task import AGR_SCHEMA, FoldPoint
from search.tasks.base import Objective, Point, TrialReport
from tests.search.fakes import FakeTracker, bits, epoch, made_report, made_stage

POINT = Settings(epochs=3, lr=0.01, gamma=0.5)


@pytest.fixture
def tracker() -> FakeTracker:
    return FakeTracker()


@pytest.fixture
def session(tracker: FakeTracker) -> Session:
    parent = tracker.start_run("grid", {}, {})
    return Session("grid", tracker, parent, {"seed": 0, "split": "s"}, planned=2)


def result(
    session: Session, numbers: Sequence[int], read: bool = False, origins: Sequence[str] | None = None, **more: str
) -> TrialReport:
    """What a trial reports."""
    known = made_report([epoch(n) for n in numbers], [session.id] * len(numbers) if origins is None else origins, read)
    return cast(TrialReport, known | more)


def counts(record: Record) -> tuple[int, int, int]:
    return record.trained, record.shared, record.earlier


def test_a_trial_from_its_beginning_to_its_end(session: Session, tracker: FakeTracker) -> None:
    session.start("t", asdict(POINT))
    record = session.records["t"]
    assert (record.status, record.last) == (RUNNING, None)
    for number in (1, 2, 3):
        session.add_report("t", result(session, [number]))
        assert record.last == epoch(number)
    session.end("t", dict)
    run = tracker.runs[record.run_id]
    assert (record.status, run["status"], run["parent"]) == (FINISHED, "FINISHED", session.parent)
    assert run["params"] == asdict(POINT)
    assert run["tags"] == {"seed": 0, "split": "s"}
    assert run["epochs"] == [epoch(1), epoch(2), epoch(3)]
    assert run["metrics"] == {"epochs_trained": 3, "epochs_shared": 0, "epochs_earlier": 0}
    assert session.finished() == [record]


def test_every_epoch_is_sent_when_it_is_reported_the_last_one_with_the_totals(
    session: Session, tracker: FakeTracker
) -> None:
    session.start("t", asdict(POINT))
    session.add_report("t", result(session, [1, 2], read=True))
    assert len(tracker.batches) == 1
    session.add_report("t", result(session, [3]))
    session.end("t", dict)
    run = session.records["t"].run_id
    assert [batch for batch in tracker.batches if batch[0] == run] == [(run, 2), (run, 1)]


def test_epochs_are_counted_by_origin(session: Session) -> None:
    session.start("t", asdict(Settings(epochs=6, lr=0.01, gamma=0.5)))
    session.add_report("t", result(session, [1, 2, 3, 4], read=True, origins=["old", "older", "old", "old"]))
    session.add_report("t", result(session, [5]))
    session.add_report("t", result(session, [6]))
    session.end("t", dict)
    assert counts(session.records["t"]) == (2, 0, 4)
    session.start("longer", asdict(Settings(epochs=7, lr=0.01, gamma=0.5)))
    origins = ["old", "older", "old", "old", session.id, session.id]
    session.add_report("longer", result(session, [1, 2, 3, 4, 5, 6], read=True, origins=origins))
    session.add_report("longer", result(session, [7]))
    assert counts(session.records["longer"]) == (1, 2, 4)
    assert session.summary() == "2 trials, 13 epochs, 3 trained, 2 shared, 8 from earlier runs"


def test_known_epochs_are_not_sent_or_counted_again_after_a_death(session: Session, tracker: FakeTracker) -> None:
    session.start("t", asdict(POINT))
    session.add_report("t", result(session, [1]))
    session.add_report("t", result(session, [2]))
    session.start("t", asdict(POINT))
    session.add_report("t", result(session, [1, 2], read=True))
    session.add_report("t", result(session, [3]))
    session.end("t", dict)
    run = tracker.runs[session.records["t"].run_id]
    assert run["epochs"] == [epoch(1), epoch(2), epoch(3)]
    assert counts(session.records["t"]) == (3, 0, 0)
    assert len(tracker.runs) == 2, "one run for the search, one for the trial"


def test_retrained_epochs_are_skipped_after_a_death(session: Session, tracker: FakeTracker) -> None:
    session.start("t", asdict(POINT))
    for number in (1, 2):
        session.add_report("t", result(session, [number]))
    session.start("t", asdict(POINT))
    for number in (1, 2, 3):
        session.add_report("t", result(session, [number]))
    session.end("t", dict)
    assert tracker.runs[session.records["t"].run_id]["epochs"] == [epoch(1), epoch(2), epoch(3)]
    assert session.records["t"].status == FINISHED


def test_beats_and_reports_call_the_heartbeats(session: Session) -> None:
    beats: list[None] = []
    session.heartbeats.append(lambda: beats.append(None))
    session.beat()
    assert len(beats) == 1
    session.start("t", asdict(POINT))
    session.add_report("t", result(session, [1]))
    assert len(beats) == 3


def test_a_stored_but_unreported_epoch_counts_as_trained_once(session: Session) -> None:
    session.start("t", asdict(POINT))
    session.add_report("t", result(session, [1]))
    session.start("t", asdict(POINT))
    session.add_report("t", result(session, [1, 2], read=True))
    assert counts(session.records["t"]) == (2, 0, 0)
    session.start("u", asdict(replace(POINT, gamma=POINT.gamma / 2)))
    session.add_report("u", result(session, [1, 2], read=True))
    assert counts(session.records["u"]) == (0, 2, 0)
    session.start("v", asdict(replace(POINT, seed=POINT.seed + 1)))
    session.add_report("v", result(session, [1, 2], read=True))
    assert counts(session.records["v"]) == (2, 0, 0), "another seed shares nothing"


def test_a_diverged_trial_fails_with_its_reason(session: Session, tracker: FakeTracker) -> None:
    session.start("t", asdict(POINT))
    session.add_report("t", result(session, [1]))
    session.add_report("t", result(session, [], failed="epoch 2: loss nan"))
    session.end("t", None)
    record = session.records["t"]
    run = tracker.runs[record.run_id]
    assert (record.status, run["status"], run["tags"]["reason"]) == (FAILED, "FAILED", "epoch 2: loss nan")
    assert run["metrics"]["epochs_trained"] == 1
    assert session.finished() == []


def test_a_crashed_trial_fails_with_its_reason(session: Session, tracker: FakeTracker) -> None:
    session.start("t", asdict(POINT))
    session.end("t", None, error="WorkerCrashedError: gone")
    record = session.records["t"]
    assert (record.status, record.reason) == (FAILED, "WorkerCrashedError: gone")
    assert tracker.runs[record.run_id]["tags"]["reason"] == "WorkerCrashedError: gone"


def test_a_trial_that_ends_early_is_not_finished(session: Session) -> None:
    session.start("t", asdict(POINT))
    session.add_report("t", result(session, [1, 2]))
    session.end("t", dict)
    assert session.records["t"].status == FAILED


def test_a_long_reason_is_cut_to_the_size_of_a_tag(session: Session, tracker: FakeTracker) -> None:
    session.start("t", asdict(POINT))
    session.end("t", None, error="x" * 100_000)
    assert tracker.runs[session.records["t"].run_id]["tags"]["reason"] == "x" * 5000


def test_closing_kills_only_running_trials(session: Session, tracker: FakeTracker) -> None:
    for trial in ("done", "open"):
        session.start(trial, asdict(POINT))
    session.add_report("done", result(session, [1, 2, 3]))
    session.add_report("open", result(session, [1]))
    session.end("done", dict)
    session.close(KILLED)
    statuses = {name: tracker.runs[record.run_id]["status"] for name, record in session.records.items()}
    assert statuses == {"done": "FINISHED", "open": "KILLED"}
    assert tracker.runs[session.records["open"].run_id]["tags"]["reason"] == "interrupted"
    assert tracker.runs[session.parent]["status"] == "KILLED"
    assert session.records["open"].status == KILLED


def test_listeners_are_called_at_every_change(session: Session) -> None:
    heard: list[tuple[str, int]] = []
    session.listeners.append(lambda record: heard.append((record.status, len(record.history))))
    session.start("t", asdict(POINT))
    session.add_report("t", result(session, [1, 2]))
    session.add_report("t", result(session, [3]))
    session.end("t", dict)
    assert heard == [(RUNNING, 0), (RUNNING, 2), (RUNNING, 3), (FINISHED, 3)]


def record(last: Epoch, epochs: int, name: str) -> Record:
    point = Settings(epochs=epochs, lr=0.01, gamma=0.5)
    return Record(point, name, status=FINISHED, history=[replace(last, epoch=epochs)])


def test_the_best_is_ranked_first_then_the_lower_loss_then_fewer_epochs() -> None:
    records = [
        record(epoch(1, val_balanced_accuracy=0.8, val_loss=0.1), 5, "worse, with little loss"),
        record(epoch(1, val_balanced_accuracy=0.9, val_loss=0.5), 20, "tied, longest"),
        record(epoch(1, val_balanced_accuracy=0.9, val_loss=0.5), 5, "tied, shortest"),
        record(epoch(1, val_balanced_accuracy=0.9, val_loss=0.4), 20, "best"),
        record(epoch(1, val_balanced_accuracy=0.9, val_loss=0.5), 10, "tied, between"),
        record(epoch(1, val_balanced_accuracy=0.9, val_accuracy=1.0, val_loss=0.6), 5, "more accurate, more loss"),
    ]
    order = ["best", "tied, shortest", "tied, between", "tied, longest", "more accurate, more loss"]
    assert [each.run_id for each in ranked(records)] == [*order, "worse, with little loss"]


def test_only_the_last_epoch_is_ranked() -> None:
    rising, falling = record(epoch(2, val_loss=0.4), 2, "rising"), record(epoch(2, val_loss=0.5), 2, "falling")
    falling.history.insert(0, epoch(1, val_balanced_accuracy=1.0, val_loss=0.0))
    assert [each.run_id for each in ranked([falling, rising])] == ["rising", "falling"]


def test_full_ties_keep_the_order_of_starts() -> None:
    records = [record(epoch(1), 5, name) for name in "cab"]
    assert [each.run_id for each in ranked(records)] == ["c", "a", "b"]


def fake_trial(stage: str = "", error: str = "") -> Any:
    last = {"stage": stage} if stage else {}
    return SimpleNamespace(trial_id="t", config=asdict(POINT), last_result=last, get_error=lambda: error)


def test_the_callback_passes_events_on_even_after_pickling(session: Session, tmp_path: Path) -> None:
    stage, key = made_stage(), "ab" * 32
    StageStore(str(tmp_path)).put(key, stage)
    callback: SessionCallback = pickle.loads(pickle.dumps(SessionCallback(session, str(tmp_path))))
    trial = fake_trial(key)
    callback.on_trial_start(0, [], trial)
    callback.on_trial_result(0, [], trial, result(session, [1, 2, 3]))
    callback.on_trial_complete(0, [], trial)
    done = session.records["t"]
    assert done.status == FINISHED
    assert done.weights is not None
    assert {name: bits(tensor) for name, tensor in done.weights().items()} == {
        name: bits(tensor) for name, tensor in stage.state.weights.items()
    }


def test_missing_weights_are_a_one_line_error(session: Session, tmp_path: Path) -> None:
    callback = SessionCallback(session, str(tmp_path))
    callback.on_trial_start(0, [], fake_trial())
    callback.on_trial_complete(0, [], fake_trial("cd" * 32))
    weights = session.records["t"].weights
    assert weights is not None
    with pytest.raises(AgrError, match=f"{tmp_path}: stage cdcdcdcdcdcd is gone"):
        weights()


def test_a_trial_without_a_final_stage_has_no_weights(session: Session) -> None:
    callback = SessionCallback(session, "")
    callback.on_trial_start(0, [], fake_trial())
    callback.on_trial_complete(0, [], fake_trial())
    assert session.records["t"].weights is None


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("Traceback\n  File x\nValueError: bad\n\n", "ValueError: bad"),
        ("", "its worker died"),
        ("  \n", "its worker died"),
    ],
)
def test_the_last_line_of_an_error_is_kept(session: Session, error: str, reason: str) -> None:
    callback = SessionCallback(session, "")
    callback.on_trial_start(0, [], fake_trial())
    callback.on_trial_error(0, [], fake_trial(error=error))
    assert (session.records["t"].status, session.records["t"].reason) == (FAILED, reason)


def test_two_searches_with_the_same_name_are_separate(tracker: FakeTracker) -> None:
    a, b = (Session("grid", tracker, tracker.start_run("grid", {}, {}), {}, 1) for _ in range(2))
    first, _ = SessionCallback(a, ""), SessionCallback(b, "")
    first.on_trial_start(0, [], fake_trial())
    assert (list(a.records), list(b.records)) == (["t"], [])


def test_rounding_errors_do_not_decide_the_ranking() -> None:
    first, second = (Record(Settings(epochs=1, lr=0.1, gamma=0.5), run_id) for run_id in "ab")
    first.history.append(replace(epoch(1), val_balanced_accuracy=0.8333333333333334, val_loss=0.6))
    second.history.append(replace(epoch(1), val_balanced_accuracy=0.8333333333333333, val_loss=0.5))
    assert ranked([first, second]) == [second, first]


# The best score so far, by epochs trained


def play(session: Session, trial: str, point: Point, *scores: float, read: int = 0, error: str = "") -> None:
    """A trial with these validation scores, the first `read` of them from the store, from beginning to end."""
    session.start(trial, point.config())
    every = [epoch(number, val_balanced_accuracy=each) for number, each in enumerate(scores, start=1)]
    if read:
        session.add_report(trial, made_report(every[:read], ["old"] * read, read=True))
    for each in every[read:]:
        session.add_report(trial, made_report([each], [session.id]))
    session.end(trial, dict, error)


def curve(tracker: FakeTracker, session: Session, metric: str = "val_balanced_accuracy") -> list[tuple[int, float]]:
    """(step, best so far) as the search's own run has it."""
    return [(each.epoch, getattr(each, f"best_{metric}")) for each in tracker.runs[session.parent]["epochs"]]


def test_a_new_best_score_is_logged_at_the_number_of_trained_epochs(session: Session, tracker: FakeTracker) -> None:
    play(session, "a", POINT, 0.9, 0.8, 0.6)
    play(session, "worse", POINT, 0.9, 0.8, 0.5)
    play(session, "equal", POINT, 0.9, 0.8, 0.6)
    play(session, "better", POINT, 0.1, 0.1, 0.7)
    expected = [(3, 0.6), (12, 0.7)]
    assert session.best == curve(tracker, session) == expected
    play(session, "worst", POINT, 0.1, 0.1, 0.1)
    session.close(FINISHED)
    assert curve(tracker, session) == [*expected, (15, 0.7)], "the end of the curve is the end of the search"


def test_the_end_of_the_curve_is_not_logged_twice(session: Session, tracker: FakeTracker) -> None:
    play(session, "a", POINT, 0.9, 0.8, 0.6)
    session.close(FINISHED)
    assert curve(tracker, session) == [(3, 0.6)]


def test_read_epochs_do_not_advance_the_best_curve(session: Session, tracker: FakeTracker) -> None:
    play(session, "known", POINT, 0.1, 0.2, 0.3, read=3)
    play(session, "half", POINT, 0.1, 0.2, 0.4, read=2)
    assert curve(tracker, session) == [(0, 0.3), (1, 0.4)]


def test_failed_and_later_trials_do_not_update_the_best(session: Session, tracker: FakeTracker) -> None:
    play(session, "crashed", POINT, 0.9, error="gone")
    session.tracks_best = False
    play(session, "again with another seed", POINT, 0.9, 0.9, 0.9)
    session.close(FINISHED)
    assert curve(tracker, session) == session.best == []


def test_a_single_fold_does_not_update_the_best_but_a_mean_does(session: Session, tracker: FakeTracker) -> None:
    for fold, score in ((1, 0.9), (2, 0.5)):
        play(session, str(fold), FoldPoint(POINT, fold), score, score, score)
    assert session.best == []
    session.update_best_score(0.7)
    session.update_best_score(0.6)
    assert curve(tracker, session) == [(6, 0.7)]


def test_the_best_curve_of_a_minimised_metric_falls(tracker: FakeTracker) -> None:
    schema = replace(AGR_SCHEMA, objective=Objective("val_loss", False, "val loss"))
    parent = tracker.start_run("grid", {}, {})
    session = Session("grid", tracker, parent, {}, 3, schema)
    for trial, loss in (("a", 0.5), ("b", 0.75), ("c", 0.25)):
        session.start(trial, asdict(replace(POINT, epochs=1)))
        session.add_report(trial, made_report([epoch(1, val_loss=loss)], [session.id]))
        session.end(trial, dict)
    assert session.best == [(1, -0.5), (3, -0.25)]
    assert curve(tracker, session, "val_loss") == [(1, 0.5), (3, 0.25)]


# Trials that stand for their best epoch, and may be pruned


@pytest.fixture
def hunt(tracker: FakeTracker) -> Session:
    schema = replace(AGR_SCHEMA, best_epoch=True, prunes=True)
    return Session("hunt", tracker, tracker.start_run("hunt", {}, {}), {}, 0, schema)


def test_any_epoch_may_update_the_best_if_the_best_epoch_counts(hunt: Session, tracker: FakeTracker) -> None:
    play(hunt, "a", POINT, 0.5, 0.7, 0.6)
    assert curve(tracker, hunt) == [(1, 0.5), (2, 0.7)]
    record = hunt.records["a"]
    assert (record.score, record.chosen.epoch, len(record.history)) == (0.7, 2, 3)
    assert record.named == {"epochs": 2, "lr": 0.01, "gamma": 0.5}
    metrics = tracker.runs[record.run_id]["metrics"]
    assert metrics["chosen_epoch"] == 2
    assert metrics["chosen_val_balanced_accuracy"] == 0.7


def test_a_pruned_trial_is_finished_and_marked_as_pruned(hunt: Session) -> None:
    play(hunt, "a", POINT, 0.5, 0.7)
    play(hunt, "b", POINT, 0.5, 0.7, 0.8)
    assert [(record.status, record.pruned) for record in hunt.records.values()] == [(FINISHED, True), (FINISHED, False)]
    assert hunt.finished() == list(hunt.records.values())


def test_a_trial_without_epochs_is_not_finished(hunt: Session) -> None:
    play(hunt, "a", POINT)
    assert hunt.records["a"].status == FAILED


def test_a_failed_trial_is_named_by_its_planned_epochs(session: Session) -> None:
    play(session, "diverged", POINT, 0.5, error="epoch 2: loss nan")
    assert session.records["diverged"].named == {"epochs": 3, "lr": 0.01, "gamma": 0.5}

"""A search as it happens, told to a tracker that writes everything down."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import quiet  # noqa: F401
import torch
from parts import FakeTracker, epoch
from safetensors.torch import save_file

from agr.tracking import Tracker
from agr.training import Epoch, Settings
from search.callback import SessionCallback
from search.session import FAILED, FINISHED, KILLED, RUNNING, Record, Session, ranked
from search.trial import FINAL_WEIGHTS

POINT = Settings(epochs=3, lr=0.01, gamma=0.5)


@pytest.fixture
def tracker() -> FakeTracker:
    return FakeTracker()


@pytest.fixture
def session(tracker: FakeTracker) -> Session:
    parent = tracker.start_run("grid", {}, {})
    return Session("grid", cast(Tracker, tracker), parent, {"seed": 0, "split": "s"}, planned=2)


def result(
    session: Session, numbers: Sequence[int], read: bool = False, origins: Sequence[str] | None = None, **more: Any
) -> dict[str, Any]:
    """What a trial reports."""
    epochs = [asdict(epoch(number)) for number in numbers]
    known = {"epoch": max(numbers, default=0), "epochs": epochs, "read": read}
    return known | {"origins": [session.id] * len(numbers) if origins is None else origins} | more


def counts(record: Record) -> tuple[int, int, int]:
    return record.trained, record.shared, record.earlier


def test_a_trial_from_its_beginning_to_its_end(session: Session, tracker: FakeTracker) -> None:
    session.start("t", asdict(POINT))
    record = session.records["t"]
    assert (record.status, record.last, session.complete()) == (RUNNING, None, False)
    for number in (1, 2, 3):
        session.advance("t", result(session, [number]))
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
    session.advance("t", result(session, [1, 2], read=True))
    assert len(tracker.batches) == 1
    session.advance("t", result(session, [3]))
    session.end("t", dict)
    run = session.records["t"].run_id
    assert [batch for batch in tracker.batches if batch[1]] == [(run, 2), (run, 1)]


def test_epochs_are_counted_by_where_they_came_from(session: Session) -> None:
    session.start("t", asdict(Settings(epochs=6, lr=0.01, gamma=0.5)))
    session.advance("t", result(session, [1, 2, 3, 4], read=True, origins=["old", "older", session.id, "old"]))
    session.advance("t", result(session, [5]))
    session.advance("t", result(session, [6]))
    session.end("t", dict)
    assert counts(session.records["t"]) == (2, 1, 3)
    assert session.summary() == "1 trials, 6 epochs, 2 trained, 1 shared, 3 from earlier runs"


def test_after_a_worker_died_known_epochs_are_neither_sent_nor_counted_again(
    session: Session, tracker: FakeTracker
) -> None:
    session.start("t", asdict(POINT))
    session.advance("t", result(session, [1]))
    session.advance("t", result(session, [2]))
    session.start("t", asdict(POINT))
    session.advance("t", result(session, [1, 2], read=True))
    session.advance("t", result(session, [3]))
    session.end("t", dict)
    run = tracker.runs[session.records["t"].run_id]
    assert run["epochs"] == [epoch(1), epoch(2), epoch(3)]
    assert counts(session.records["t"]) == (3, 0, 0)
    assert len(tracker.runs) == 2, "one run for the search, one for the trial"


def test_after_a_death_that_cost_the_stages_epochs_trained_again_are_passed_over(
    session: Session, tracker: FakeTracker
) -> None:
    session.start("t", asdict(POINT))
    for number in (1, 2):
        session.advance("t", result(session, [number]))
    session.start("t", asdict(POINT))
    for number in (1, 2, 3):
        session.advance("t", result(session, [number]))
    session.end("t", dict)
    assert tracker.runs[session.records["t"].run_id]["epochs"] == [epoch(1), epoch(2), epoch(3)]
    assert session.records["t"].status == FINISHED


def test_an_epoch_kept_but_not_reported_before_a_death_counts_as_shared(session: Session) -> None:
    session.start("t", asdict(POINT))
    session.advance("t", result(session, [1]))
    session.start("t", asdict(POINT))
    session.advance("t", result(session, [1, 2], read=True))
    assert counts(session.records["t"]) == (1, 1, 0)


def test_a_diverged_trial_fails_with_its_reason(session: Session, tracker: FakeTracker) -> None:
    session.start("t", asdict(POINT))
    session.advance("t", result(session, [1]))
    session.advance("t", result(session, [], failed="epoch 2: loss nan"))
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


def test_a_trial_that_ends_before_its_last_epoch_is_no_finished_one(session: Session) -> None:
    session.start("t", asdict(POINT))
    session.advance("t", result(session, [1, 2]))
    session.end("t", dict)
    assert session.records["t"].status == FAILED


def test_a_very_long_reason_fits_a_tag(session: Session, tracker: FakeTracker) -> None:
    session.start("t", asdict(POINT))
    session.end("t", None, error="x" * 100_000)
    assert tracker.runs[session.records["t"].run_id]["tags"]["reason"] == "x" * 5000


def test_closing_kills_what_still_runs_and_leaves_the_rest(session: Session, tracker: FakeTracker) -> None:
    for trial in ("done", "open"):
        session.start(trial, asdict(POINT))
    session.advance("done", result(session, [1, 2, 3]))
    session.advance("open", result(session, [1]))
    session.end("done", dict)
    assert not session.complete()
    session.close(KILLED)
    statuses = {name: tracker.runs[record.run_id]["status"] for name, record in session.records.items()}
    assert statuses == {"done": "FINISHED", "open": "KILLED"}
    assert tracker.runs[session.records["open"].run_id]["tags"]["reason"] == "interrupted"
    assert tracker.runs[session.parent]["status"] == "KILLED"
    assert session.records["open"].status == KILLED


def test_complete_means_every_planned_trial_has_ended(session: Session) -> None:
    session.start("a", asdict(POINT))
    session.end("a", None, "crash")
    assert not session.complete()
    session.start("b", asdict(POINT))
    assert not session.complete()
    session.advance("b", result(session, [1, 2, 3]))
    session.end("b", dict)
    assert session.complete()


def test_listeners_hear_of_every_step(session: Session) -> None:
    heard: list[tuple[str, int]] = []
    session.listeners.append(lambda record: heard.append((record.status, len(record.history))))
    session.start("t", asdict(POINT))
    session.advance("t", result(session, [1, 2]))
    session.advance("t", result(session, [3]))
    session.end("t", dict)
    assert heard == [(RUNNING, 0), (RUNNING, 2), (RUNNING, 3), (FINISHED, 3)]


def record(last: Epoch, epochs: int, name: str) -> Record:
    return Record(Settings(epochs=epochs, lr=0.01, gamma=0.5), name, FINISHED, [last])


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


def test_full_ties_keep_the_order_of_the_beginnings() -> None:
    records = [record(epoch(1), 5, name) for name in "cab"]
    assert [each.run_id for each in ranked(records)] == ["c", "a", "b"]


def fake_trial(checkpoint: Path | None = None, error: str = "") -> Any:
    kept = SimpleNamespace(path=str(checkpoint)) if checkpoint else None
    return SimpleNamespace(trial_id="t", config=asdict(POINT), checkpoint=kept, get_error=lambda: error)


def test_the_callback_hands_on_what_ray_says_even_after_a_pickle(session: Session, tmp_path: Path) -> None:
    weights: Mapping[str, torch.Tensor] = {"a": torch.tensor([1.0, 2.0])}
    save_file(dict(weights), str(tmp_path / FINAL_WEIGHTS))
    callback: SessionCallback = pickle.loads(pickle.dumps(SessionCallback(session)))
    trial = fake_trial(tmp_path)
    callback.on_trial_start(0, [], trial)
    callback.on_trial_result(0, [], trial, result(session, [1, 2, 3]))
    callback.on_trial_complete(0, [], trial)
    done = session.records["t"]
    assert done.status == FINISHED
    assert done.weights is not None
    assert torch.equal(done.weights()["a"], weights["a"])


def test_a_trial_without_a_checkpoint_has_no_weights(session: Session) -> None:
    callback = SessionCallback(session)
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
def test_of_an_error_the_last_line_is_kept(session: Session, error: str, reason: str) -> None:
    callback = SessionCallback(session)
    callback.on_trial_start(0, [], fake_trial())
    callback.on_trial_error(0, [], fake_trial(error=error))
    assert (session.records["t"].status, session.records["t"].reason) == (FAILED, reason)


def test_two_searches_of_one_name_do_not_hear_of_each_other(tracker: FakeTracker) -> None:
    a, b = (Session("grid", cast(Tracker, tracker), tracker.start_run("grid", {}, {}), {}, 1) for _ in range(2))
    first, _ = SessionCallback(a), SessionCallback(b)
    first.on_trial_start(0, [], fake_trial())
    assert (list(a.records), list(b.records)) == (["t"], [])


def test_a_rounding_error_in_the_mean_of_two_recalls_does_not_decide() -> None:
    first, second = (Record(Settings(epochs=1, lr=0.1, gamma=0.5), run_id) for run_id in "ab")
    first.history.append(replace(epoch(1), val_balanced_accuracy=0.8333333333333334, val_loss=0.6))
    second.history.append(replace(epoch(1), val_balanced_accuracy=0.8333333333333333, val_loss=0.5))
    assert ranked([first, second]) == [second, first]

"""What the session hears of Ray Tune's events."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from search.outbox.outbox import Outbox
from search.runtime.callback import SessionCallback
from search.session.session import FAILED, Session
from tests.search.fakes import FakeTracker


class Trial:
    """A trial of Ray Tune whose worker died."""

    trial_id = "a"
    config: dict[str, Any] = {"epochs": 3, "lr": 0.01, "gamma": 0.5}  # noqa: RUF012

    def get_error(self) -> str:
        return "Traceback (most recent call last):\nActorUnavailableError: connection reset\n"


def test_a_trial_whose_worker_died_before_it_began_is_a_failed_trial() -> None:
    tracker = FakeTracker()
    session = Session("s", cast(Outbox, tracker), tracker.start_run("s", {}, {}), {}, 1)
    SessionCallback(session, "").on_trial_error(0, [], cast(Any, Trial()))
    (record,) = session.records.values()
    assert (record.status, record.reason) == (FAILED, "ActorUnavailableError: connection reset")


def test_an_error_while_a_trial_ends_is_raised_after_the_step_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tune would hide it and run the trial again."""

    def end(*_: object) -> None:
        raise OSError("disk")

    tracker = FakeTracker()
    session = Session("s", cast(Outbox, tracker), tracker.start_run("s", {}, {}), {}, 1)
    monkeypatch.setattr(session, "end", end)
    callback = SessionCallback(session, "")
    callback.on_trial_complete(0, [], cast(Any, SimpleNamespace(trial_id="a", last_result={})))
    with pytest.raises(OSError, match="disk"):
        callback.on_step_end(0, [])
    callback.on_step_end(1, [])

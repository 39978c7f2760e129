"""What the session hears of Ray Tune's events."""

from __future__ import annotations

from typing import Any, cast

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

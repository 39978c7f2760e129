"""Passes Ray Tune's events to the session of the search."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec

from ray.tune import Callback
from ray.tune.experiment import Trial

from agr.common.cli import complain
from agr.common.credentials import hide
from search.runtime.shared_storage import last_line
from search.session.session import Session
from search.stages.store import final_weights
from search.tasks.base import TrialReport

_SESSIONS: dict[str, Session] = {}
_WARNED: set[str] = set()  # sessions whose user has been warned that the stage store cannot be written to
_RAISED: list[Exception] = []  # while trials ended, and not passed on yet
P = ParamSpec("P")


def raised_after_step(end: Callable[P, None]) -> Callable[P, None]:
    """Decorates what Tune calls when a trial ends.

    Tune takes an error in it for one of the trial, hides it and runs the trial again, which its searcher no longer
    knows. `SessionCallback` raises it instead, once the step is over.
    """

    @functools.wraps(end)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            end(*args, **kwargs)
        except Exception as error:
            _RAISED.append(error)

    return guarded


class SessionCallback(Callback):  # type: ignore[misc]
    """Passes Ray Tune's events to a session, which it refers to by id because Ray pickles callbacks."""

    def __init__(self, session: Session, finals: str) -> None:
        """finals: the URI of the store with the final stages."""
        self._id = session.id
        self._finals = finals
        _SESSIONS[session.id] = session

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: object) -> None:
        """Start the trial."""
        _SESSIONS[self._id].start(trial.trial_id, trial.config)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: TrialReport, **info: object
    ) -> None:
        """Pass on a report; warn on stderr the first time that the stage store cannot be written to."""
        if (trouble := result.get("unsaved")) and self._id not in _WARNED:
            _WARNED.add(self._id)
            store = hide(self._finals, self._finals)
            complain(f"{store}: {trouble}; training goes on, its stages are stored as soon as the store takes them")
        _SESSIONS[self._id].add_report(trial.trial_id, result)

    @raised_after_step
    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: object) -> None:
        """End a trial that finished or was pruned."""
        key, home = trial.last_result.get("stage"), trial.last_result.get("home", self._finals)
        _SESSIONS[self._id].end(trial.trial_id, functools.partial(final_weights, home, key) if key else None)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: object) -> None:
        """Raise what went wrong while a trial ended."""
        if _RAISED:
            raise _RAISED.pop()

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: object) -> None:
        """End a trial that failed and is not restarted; its worker may have died before the trial began."""
        if trial.trial_id not in _SESSIONS[self._id].records:
            _SESSIONS[self._id].start(trial.trial_id, trial.config)
        _SESSIONS[self._id].end(trial.trial_id, None, last_line(trial.get_error() or "", "its worker died"))

"""Ray Tune's events, handed to the session of the search."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from safetensors.torch import load_file

from search.session import Session
from search.trial import FINAL_WEIGHTS

_SESSIONS: dict[str, Session] = {}


class SessionCallback(Callback):  # type: ignore[misc]
    """Ray pickles callbacks, so this one carries only the session's id and finds the rest in its process."""

    def __init__(self, session: Session) -> None:
        """Feed this session."""
        self._id = session.id
        _SESSIONS[session.id] = session

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """See `Session.start`."""
        _SESSIONS[self._id].start(trial.trial_id, trial.config)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """See `Session.advance`."""
        _SESSIONS[self._id].advance(trial.trial_id, result)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """See `Session.end`."""
        final = Path(trial.checkpoint.path) / FINAL_WEIGHTS if trial.checkpoint else None
        _SESSIONS[self._id].end(trial.trial_id, functools.partial(load_file, str(final)) if final else None)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """See `Session.end`."""
        _SESSIONS[self._id].end(trial.trial_id, None, _reason(trial))


def _reason(trial: Trial) -> str:
    """The last line of what Ray says went wrong."""
    lines = [line.strip() for line in str(trial.get_error() or "").splitlines() if line.strip()]
    return lines[-1] if lines else "its worker died"

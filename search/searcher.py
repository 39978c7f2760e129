"""Which point runs next, so that no two trials compute the same epoch at the same time.

A point waits, holding no worker, while a running trial is about to compute epochs that it needs too. When that
trial dies, whoever asks next takes over. Of the points that need not wait, the one with most epochs left to train
goes first; the short ones are then read off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ray.tune.search import Searcher

from agr.training import Settings

Rates = tuple[float, ...]


class PrefixSearcher(Searcher):  # type: ignore[misc]
    """Hands out given points, each once, `at_once` at a time."""

    def __init__(self, points: Sequence[Settings], at_once: int, share: bool = True) -> None:
        """share: whether trials read each other's epochs; if not, none has to wait."""
        super().__init__(metric="epoch", mode="max")
        self._waiting = list(points)
        self._running: dict[str, Rates] = {}
        self._epochs: dict[str, int] = {}
        self._done: set[Rates] = set()
        self._at_once = at_once
        self._share = share

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next point's settings, None if all that are left have to wait, FINISHED if none is left."""
        if not self._waiting:
            return str(Searcher.FINISHED)
        if len(self._running) >= self._at_once:
            return None
        free = [point for point in self._waiting if not self._must_wait(point.rates())]
        if not free:
            return None
        point = max(free, key=lambda point: self._left(point.rates()))
        self._waiting.remove(point)
        self._running[trial_id] = point.rates()
        self._epochs[trial_id] = 0
        return asdict(point)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Note how far a trial has come."""
        count = int(result["epoch"])
        self._epochs[trial_id] = count
        self._done.update(self._running[trial_id][:k] for k in range(1, count + 1))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A trial has ended, one way or another; nobody waits for it any longer."""
        self._running.pop(trial_id, None)
        self._epochs.pop(trial_id, None)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to keep: what was trained is in the stage store."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""

    def _left(self, rates: Rates) -> int:
        known = next((k for k in range(len(rates), 0, -1) if rates[:k] in self._done), 0) if self._share else 0
        return len(rates) - known

    def _must_wait(self, rates: Rates) -> bool:
        """Whether a running trial has yet to compute an epoch that these learning rates share with it.

        It has not if another trial already did, even where its own first word is still to come.
        """
        if not self._share:
            return False
        return any(
            self._epochs[trial] < (shared := common(rates, other)) and rates[:shared] not in self._done
            for trial, other in self._running.items()
        )


def common(a: Rates, b: Rates) -> int:
    """How many leading learning rates are the same."""
    return next((index for index, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))

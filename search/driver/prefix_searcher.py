"""Chooses the point that runs next, so that no two trials compute the same epoch at the same time.

A point waits, without a worker, while a running trial is about to compute epochs that it needs too. If that trial dies,
the next one takes over. Of the points that need not wait, `search.driver.prefix_queue` chooses one with the longest way left, so
that all workers end early.
"""

from __future__ import annotations

from collections.abc import Sequence

from ray.tune.search import Searcher

from search.driver.prefix_queue import balanced_queue
from search.tasks.base import Config, Point, TrialReport


class PrefixSearcher(Searcher):  # type: ignore[misc]
    """Hands out given points, each once, `at_once` at a time."""

    def __init__(self, points: Sequence[Point], at_once: int, share: bool = True) -> None:
        """share: whether trials read each other's epochs; if not, none has to wait."""
        super().__init__(metric="epoch", mode="max")
        self._waiting = balanced_queue(points, at_once, share)
        self._at_once = at_once

    @property
    def exhausted(self) -> bool:
        """Whether every point has run."""
        return not self._waiting and not self._waiting.running

    def suggest(self, trial_id: str) -> Config | str | None:
        """The next point's settings; None if all that are left have to wait; FINISHED if none is left."""
        if not self._waiting:
            return str(Searcher.FINISHED)
        if self._waiting.running >= self._at_once:
            return None
        point = self._waiting.take(trial_id)
        return None if point is None else point.config()

    def on_trial_result(self, trial_id: str, result: TrialReport) -> None:
        """A trial has come further."""
        self._waiting.reached(trial_id, result["epoch"])

    def on_trial_complete(self, trial_id: str, result: TrialReport | None = None, error: bool = False) -> None:
        """A trial has ended, finished or not; no other waits for it any longer."""
        self._waiting.end(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to keep: what was trained is in the stage store."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""

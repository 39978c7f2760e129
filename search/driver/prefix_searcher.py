"""A Ray Tune searcher that runs given points so that no two trials compute the same epoch at the same time.

A point waits, without a worker, while a running trial is about to compute epochs that it needs too. If that trial dies,
the next one takes over. `search.driver.prefix_queue` chooses among the points that need not wait.
"""

from __future__ import annotations

from collections.abc import Sequence

from ray.tune.search import Searcher

from search.driver.prefix_queue import balanced_queue
from search.runtime.callback import raised_after_step
from search.tasks.base import Config, Point, TrialReport


class PrefixSearcher(Searcher):  # type: ignore[misc]
    """Suggests each given point once, at most `max_concurrent` at a time."""

    def __init__(self, points: Sequence[Point], max_concurrent: int, share: bool = True) -> None:
        """share: whether trials read each other's epochs; otherwise no point waits."""
        super().__init__(metric="epoch", mode="max")
        self._queue = balanced_queue(points, max_concurrent, share)
        self._max_concurrent = max_concurrent

    @property
    def exhausted(self) -> bool:
        """Whether every point has run."""
        return not self._queue and not self._queue.running

    def suggest(self, trial_id: str) -> Config | str | None:
        """The settings of the next point; None if all remaining points have to wait; FINISHED if none remains."""
        if not self._queue:
            return str(Searcher.FINISHED)
        if self._queue.running >= self._max_concurrent:
            return None
        point = self._queue.take(trial_id)
        return None if point is None else point.config()

    def on_trial_result(self, trial_id: str, result: TrialReport) -> None:
        """Let points continue that waited for the epochs of this report."""
        self._queue.reached(trial_id, result["epoch"])

    @raised_after_step
    def on_trial_complete(self, trial_id: str, result: TrialReport | None = None, error: bool = False) -> None:
        """Let points continue that waited for this trial, whether it finished or not."""
        self._queue.end(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Does nothing: trained epochs are in the stage store."""

    restore = save

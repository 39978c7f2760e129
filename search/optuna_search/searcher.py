"""Passes the trials that an Optuna study proposes on to Ray Tune."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from search.optuna_search.ask_tell import AskTell, StudyTrial
from search.runtime.callback import raised_after_step
from search.tasks.base import Config, Point, TrialReport, TrialSchema

GRACE = 4  # no trial is pruned in the first of so many parts of its epochs, where gamma has no effect yet
REDUCTION = 2  # one of so many trials continues
BRACKETS = 2  # of Hyperband; trials of the second are first pruned later
Prefix = tuple[Hashable, ...]


class Running:
    """The running trials, their progress, and the epochs that are done."""

    def __init__(self) -> None:
        """Start without trials."""
        self._prefixes: dict[str, Prefix] = {}
        self._epochs: dict[str, int] = {}
        self._done: set[Prefix] = set()

    def start(self, trial: str, prefix: Prefix) -> None:
        """Add a trial that begins."""
        self._prefixes[trial] = prefix
        self._epochs[trial] = 0

    def reached(self, trial: str, count: int) -> None:
        """Record that the first `count` epochs of a trial are done."""
        self._epochs[trial] = count
        self._done.update(self._prefixes[trial][:k] for k in range(1, count + 1))

    def end(self, trial: str) -> None:
        """Remove a trial that has finished or failed."""
        self._prefixes.pop(trial, None)
        self._epochs.pop(trial, None)

    def computes(self, prefix: Prefix) -> bool:
        """Whether a running trial has yet to compute epochs, which no trial has done, that this prefix shares."""
        return any(
            self._epochs[trial] < (shared := common(prefix, other)) and prefix[:shared] not in self._done
            for trial, other in self._prefixes.items()
        )


@dataclass(frozen=True)
class FoldTrial:
    """One fold of a trial of the study."""

    trial: StudyTrial
    fold: int

    @property
    def point(self) -> Point:
        """The point to train."""
        return self.trial.points[self.fold]


class StudySearcher(Searcher):  # type: ignore[misc]
    """Asks for a new trial when a worker is free and no point of an earlier trial can run."""

    def __init__(
        self,
        ask_tell: AskTell,
        schema: TrialSchema[Point],
        at_once: int,
        claim: Callable[[Sequence[Point]], None],
        ended: Callable[[], None],
    ) -> None:
        """claim: Called with the points that are about to run. ended: Called after every trial of Ray Tune."""
        super().__init__(metric="score", mode="max")
        self._ask_tell, self._schema, self._claim, self._ended = ask_tell, schema, claim, ended
        self._at_once = at_once
        self._waiting: list[FoldTrial] = []
        self._pieces: dict[str, FoldTrial] = {}
        self._running = Running()
        self.exhausted = False

    def __getstate__(self) -> dict[str, object]:
        """Empty: Ray pickles searchers to restore them, but here the study itself continues."""
        return {}

    def suggest(self, trial_id: str) -> Config | str | None:
        """A configuration; None while every point waits for running trials; FINISHED once the budget is spent."""
        if len(self._pieces) >= self._at_once:
            return None
        fold_trial = self._next()
        if fold_trial is None:
            self.exhausted = not self._waiting and not self._pieces
            return str(Searcher.FINISHED) if self.exhausted else None
        self._pieces[trial_id] = fold_trial
        self._running.start(trial_id, fold_trial.point.prefix())
        return fold_trial.point.config()

    def _next(self) -> FoldTrial | None:
        for each in self._waiting:
            if not self._running.computes(each.point.prefix()):
                self._waiting.remove(each)
                return each
        if self._waiting or (trial := self._ask_tell.ask()) is None:
            return None
        self._claim(trial.points)
        self._waiting = [FoldTrial(trial, fold) for fold in range(len(trial.points))]
        return self._next()

    def on_trial_result(self, trial_id: str, result: TrialReport) -> None:
        """Take in the new epochs of a trial."""
        self._running.reached(trial_id, result["epoch"])
        self._take(self._pieces[trial_id], result)

    def _take(self, fold_trial: FoldTrial, result: TrialReport) -> None:
        epochs = [self._schema.epoch(**values) for values in result["epochs"]]
        self._ask_tell.advance(fold_trial.trial, fold_trial.fold, epochs, result["read"])
        fold_trial.trial.failed = fold_trial.trial.failed or result.get("failed", "")

    @raised_after_step
    def on_trial_complete(self, trial_id: str, result: TrialReport | None = None, error: bool = False) -> None:
        """End a trial. If a scheduler pruned it, Ray passes its last result only here."""
        self._running.end(trial_id)
        fold_trial = self._pieces.pop(trial_id, None)
        if fold_trial is not None:
            if result and "epochs" in result:
                self._take(fold_trial, result)
            self._ask_tell.end(fold_trial.trial, fold_trial.fold, "its worker died" if error else "")
            self._ended()

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the study has its own storage."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing."""


def common(a: Prefix, b: Prefix) -> int:
    """The number of leading entries that are equal."""
    return next((index for index, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def scheduler(name: str, most_epochs: int) -> TrialScheduler:
    """The scheduler `asha`, `hyperband` (asynchronous: ASHA in several brackets) or `none`."""
    if name == "none" or most_epochs < GRACE:
        return FIFOScheduler()
    return AsyncHyperBandScheduler(
        time_attr="epoch",
        metric="score",
        mode="max",
        max_t=most_epochs + 1,  # more than a trial has, so that finished trials do not count as pruned
        grace_period=most_epochs // GRACE,
        reduction_factor=REDUCTION,
        brackets=BRACKETS if name == "hyperband" else 1,
    )

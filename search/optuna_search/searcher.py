"""Hands out to Ray Tune the points of the trials that an Optuna study proposes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from search.optuna_search.ask_tell import AskTell, StudyTrial
from search.tasks.base import Config, Kind, Point, TrialReport

GRACE = 4  # the first cut comes after one of so many parts of the epochs: gamma changes nothing before
REDUCTION = 2  # one of so many goes on
BRACKETS = 2  # of Hyperband: some trials are cut later than others
Prefix = tuple[Hashable, ...]


class Running:
    """The trials that run, how far each has come, and which epochs are done."""

    def __init__(self) -> None:
        """None yet."""
        self._prefixes: dict[str, Prefix] = {}
        self._epochs: dict[str, int] = {}
        self._done: set[Prefix] = set()

    def start(self, trial: str, prefix: Prefix) -> None:
        """A trial begins."""
        self._prefixes[trial] = prefix
        self._epochs[trial] = 0

    def reached(self, trial: str, count: int) -> None:
        """A trial has come this far."""
        self._epochs[trial] = count
        self._done.update(self._prefixes[trial][:k] for k in range(1, count + 1))

    def end(self, trial: str) -> None:
        """A trial has ended, finished or not; no other waits for it any longer."""
        self._prefixes.pop(trial, None)
        self._epochs.pop(trial, None)

    def computes(self, prefix: Prefix) -> bool:
        """Whether a running trial has yet to compute an epoch that a point with this prefix shares with it.

        It has not if another trial already did, even if it has not reported anything itself.
        """
        return any(
            self._epochs[trial] < (shared := common(prefix, other)) and prefix[:shared] not in self._done
            for trial, other in self._prefixes.items()
        )


@dataclass(frozen=True)
class FoldTrial:
    """One point of an asked trial."""

    asked: StudyTrial
    fold: int

    @property
    def point(self) -> Point:
        """What is to be trained."""
        return self.asked.points[self.fold]


class StudySearcher(Searcher):  # type: ignore[misc]
    """Asks for a new trial whenever a worker is free and no point of an earlier one can run."""

    def __init__(
        self,
        ask_tell: AskTell,
        kind: Kind[Point],
        at_once: int,
        claim: Callable[[Sequence[Point]], None],
        ended: Callable[[], None],
    ) -> None:
        """claim: gets the points that are about to run. ended: is called after every trial."""
        super().__init__(metric="score", mode="max")
        self._ledger, self._kind, self._claim, self._ended = ask_tell, kind, claim, ended
        self._at_once = at_once
        self._waiting: list[FoldTrial] = []
        self._pieces: dict[str, FoldTrial] = {}
        self._running = Running()
        self.exhausted = False

    def __getstate__(self) -> dict[str, object]:
        """Nothing: Ray pickles searchers to restore them, but this project continues the study instead."""
        return {}

    def suggest(self, trial_id: str) -> Config | str | None:
        """A configuration; None if all has to wait for running trials; FINISHED once the budget is spent."""
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
        free = next(
            (fold_trial for fold_trial in self._waiting if not self._running.computes(fold_trial.point.prefix())), None
        )
        if free is not None:
            self._waiting.remove(free)
            return free
        if self._waiting:
            return None
        asked = self._ledger.ask()
        if asked is None:
            return None
        self._claim(asked.points)
        self._waiting = [FoldTrial(asked, fold) for fold in range(len(asked.points))]
        return self._next()

    def on_trial_result(self, trial_id: str, result: TrialReport) -> None:
        """A trial has come further."""
        self._running.reached(trial_id, result["epoch"])
        self._take(self._pieces[trial_id], result)

    def _take(self, fold_trial: FoldTrial, result: TrialReport) -> None:
        epochs = [self._kind.epoch(**values) for values in result["epochs"]]
        self._ledger.advance(fold_trial.asked, fold_trial.fold, epochs, result["read"])
        fold_trial.asked.failed = fold_trial.asked.failed or result.get("failed", "")

    def on_trial_complete(self, trial_id: str, result: TrialReport | None = None, error: bool = False) -> None:
        """A trial has ended, pruned or not; if a scheduler ended it, Ray gives its last result only here."""
        self._running.end(trial_id)
        fold_trial = self._pieces.pop(trial_id, None)
        if fold_trial is not None:
            if result and "epochs" in result:
                self._take(fold_trial, result)
            self._ledger.end(fold_trial.asked, fold_trial.fold, "its worker died" if error else "")
            self._ended()

    def save(self, checkpoint_path: str) -> None:
        """Nothing to keep: the study has its own storage."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


def common(a: Prefix, b: Prefix) -> int:
    """How many leading entries are the same."""
    return next((index for index, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def scheduler(name: str, most_epochs: int) -> TrialScheduler:
    """`asha`, `hyperband` (its asynchronous form: ASHA in several brackets) or `none`."""
    if name == "none" or most_epochs < GRACE:
        return FIFOScheduler()
    brackets = BRACKETS if name == "hyperband" else 1
    return AsyncHyperBandScheduler(
        time_attr="epoch",
        metric="score",
        mode="max",
        max_t=most_epochs + 1,  # which trials do not reach: they end by themselves, not as pruned
        grace_period=most_epochs // GRACE,
        reduction_factor=REDUCTION,
        brackets=brackets,
    )

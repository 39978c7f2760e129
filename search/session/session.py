"""One search as it happens: the state of every trial, in memory and in MLflow.

The driver feeds it, from Ray Tune's callbacks or from the stage store; nothing here runs in a worker.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING

from torch import Tensor

from agr.errors import AgrError
from search.tasks.agr_task import VOICES
from search.tasks.base import Config, EpochMetrics, Kind, Point, TrialReport, counted

if TYPE_CHECKING:
    from search.outbox.outbox import Outbox

RUNNING, FINISHED, FAILED, KILLED = "RUNNING", "FINISHED", "FAILED", "KILLED"
Weights = Callable[[], Mapping[str, Tensor]]  # reads them when they are needed


@dataclass
class Record:
    """One trial so far. It trained `trained` epochs itself, `shared` came from this search, `earlier` from others.

    An epoch that this search trained in lanes, or in a trial whose worker died before it reported it, counts as
    `trained` in the first trial that read it.
    """

    settings: Point
    run_id: str
    kind: Kind[Point] = VOICES
    status: str = RUNNING
    history: list[EpochMetrics] = field(default_factory=list)
    trained: int = 0
    shared: int = 0
    earlier: int = 0
    reason: str = ""
    weights: Weights | None = None
    unsent: list[EpochMetrics] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """Where its epochs came from, as metrics for MLflow."""
        return {"epochs_trained": self.trained, "epochs_shared": self.shared, "epochs_earlier": self.earlier}

    @property
    def standing(self) -> dict[str, float]:
        """The metrics of the epoch for which it stands, for MLflow; {} where that is always the last."""
        if not (self.kind.best_epoch and self.history):
            return {}
        return {"chosen_epoch": self.chosen.epoch} | {
            f"chosen_{name}": getattr(self.chosen, name) for name in self.kind.columns
        }

    @property
    def last(self) -> EpochMetrics | None:
        """The latest epoch; None before the first."""
        return self.history[-1] if self.history else None

    @property
    def chosen(self) -> EpochMetrics:
        """The epoch for which the trial stands; there must be one."""
        return self.kind.chosen(self.history)

    @property
    def named(self) -> dict[str, object]:
        """The settings that tell it apart; of a finished trial, `epochs` is the epoch for which it stands."""
        known = self.settings.config()
        known |= {"epochs": self.chosen.epoch} if self.status == FINISHED else {}
        return {name: known[name] for name in self.kind.axes}

    @property
    def score(self) -> float:
        """How good the trial is; more is better."""
        return self.kind.aim.score(self.chosen)

    @property
    def pruned(self) -> bool:
        """Whether it was ended before its planned epochs, and counts all the same."""
        return self.status == FINISHED and len(self.history) < self.settings.epochs


class Session:
    """All trials of a search by Ray's trial id, in the order in which they started."""

    def __init__(
        self,
        name: str,
        tracker: Outbox,
        parent: str,
        tags: Mapping[str, object],
        planned: int,
        kind: Kind[Point] = VOICES,
    ) -> None:
        """parent: the search's run in MLflow. tags: for the runs of its trials. planned: how many trials."""
        self.name = name
        self.tracker = tracker
        self.parent = parent
        self.planned = planned
        self.kind = kind
        self.records: dict[str, Record] = {}
        self.listeners: list[Callable[[Record], None]] = []
        self.heartbeats: list[Callable[[], None]] = []
        self.began = time.monotonic()
        self.noting = True  # whether a finished trial may become the best so far
        self.best: list[tuple[int, float]] = []  # epochs trained so far and the best score, which only rises
        self._counted: set[tuple[Hashable, ...]] = set()  # prefixes that end at an epoch that counts as trained
        self._tags = tags

    @property
    def id(self) -> str:
        """Names this search in stages, leases and Ray's files: unlike `name`, no other search has it."""
        return self.parent

    def start(self, trial_id: str, config: Config) -> None:
        """A trial starts, or starts again after its worker died."""
        if trial_id not in self.records:
            point = self.kind.point(config)
            params = point.config()
            run_id = self.tracker.start_run(self.kind.title(params), params, self._tags, self.parent)
            self.records[trial_id] = Record(point, run_id, self.kind)
        self._tell(self.records[trial_id])

    def advance(self, trial_id: str, result: TrialReport) -> None:
        """A trial reports epochs; those already known, from before its worker died, are skipped."""
        record = self.records[trial_id]
        record.reason = result.get("failed", "")
        for values, origin in zip(result["epochs"], result["origins"], strict=True):
            epoch = self.kind.epoch(**values)
            if epoch.epoch <= len(record.history):
                continue
            record.history.append(epoch)
            record.unsent.append(epoch)
            self._count(record, epoch.epoch, origin, read=result["read"])
        if len(record.history) < record.settings.epochs:  # the last ones go with the totals, when the trial ends
            self._send(record)
        if record.kind.best_epoch and record.history:
            self.note(record)
        self._tell(record)

    def beat(self) -> None:
        """The search is alive."""
        for beat in self.heartbeats:
            beat()

    def end(self, trial_id: str, weights: Weights | None, error: str = "") -> None:
        """A trial has ended: it finished, diverged (then `reason` is set) or crashed (`error`)."""
        record = self.records[trial_id]
        record.reason = record.reason or error
        record.weights = weights
        reached = len(record.history) >= (1 if self.kind.prunes else record.settings.epochs)
        done = reached and not record.reason
        self._close(record, FINISHED if done else FAILED)

    def close(self, status: str) -> None:
        """The search is over: end the runs that are still open, then the search's own."""
        for record in list(self.records.values()):
            if record.status == RUNNING:
                record.reason = record.reason or "interrupted"
                self._close(record, KILLED)
        if self.best and self.trained > self.best[-1][0]:
            self._log_best()
        self.tracker.end_run(self.parent, status)

    def settle(self) -> None:
        """Wait until MLflow has everything; from then on the records carry its run ids. Raises: OutageError."""
        self.tracker.settle()
        for record in list(self.records.values()):
            record.run_id = self.tracker.run_id(record.run_id)

    def note(self, record: Record) -> None:
        """Log this trial's score if it is the best so far; the step is the number of epochs trained so far."""
        if self.noting and not getattr(record.settings, "fold", 0):
            self.note_score(record.score)

    def note_score(self, score: float) -> None:
        """Log a score if it is the best so far."""
        if not self.best or score > self.best[-1][1]:
            self.best.append((self.trained, score))
            self._log_best()

    @property
    def trained(self) -> int:
        """How many epochs this search trained so far."""
        return sum(record.trained for record in list(self.records.values()))

    def finished(self) -> list[Record]:
        """The trials that finished, pruned ones included."""
        return [record for record in list(self.records.values()) if record.status == FINISHED]

    def ranking(self, given: Sequence[Record] | None = None) -> Sequence[Record]:
        """A ranking, by default of all finished trials, best first. Raises: AgrError if it is empty."""
        found = ranked(self.finished()) if given is None else given
        if not found:
            reasons = sorted({record.reason for record in list(self.records.values()) if record.reason})
            why = "; ".join(reasons) or "no reason given"
            raise AgrError(f"no champion: none of {len(self.records)} trials finished ({why})")
        return found

    def summary(self) -> str:
        """One line: trials, and where their epochs came from."""
        records = list(self.records.values())
        total = sum(len(record.history) for record in records)
        trained, shared, earlier = (sum(getattr(r, key) for r in records) for key in ("trained", "shared", "earlier"))
        whole = f"{counted(len(records), 'trial')}, {counted(total, 'epoch')}"
        return f"{whole}, {trained} trained, {shared} shared, {earlier} from earlier runs"

    def _count(self, record: Record, epoch: int, origin: str, read: bool) -> None:
        if read and origin != self.id:
            record.earlier += 1
            return
        prefix = record.settings.prefix()[:epoch]
        if read and prefix in self._counted:
            record.shared += 1
        else:
            record.trained += 1
            self._counted.add(prefix)

    def _tell(self, record: Record) -> None:
        for listener in self.listeners:
            listener(record)
        self.beat()

    def _log_best(self) -> None:
        aim = self.kind.aim
        value = {f"best_{aim.metric}": aim.value(self.best[-1][1])}
        self.tracker.log_epochs(self.parent, [SimpleNamespace(epoch=self.trained, **value)])

    def _send(self, record: Record, totals: Mapping[str, float] | None = None) -> None:
        self.tracker.log_epochs(record.run_id, record.unsent, totals)
        record.unsent.clear()

    def _close(self, record: Record, status: str) -> None:
        record.status = status
        if status == FINISHED:
            self.note(record)
        self._send(record, record.counts | record.standing)
        if record.reason:
            self.tracker.set_tags(record.run_id, {"reason": record.reason[:5000]})
        self.tracker.end_run(record.run_id, status)
        self._tell(record)


def ranked(records: Sequence[Record]) -> list[Record]:
    """Records sorted by `Kind.merit`, best first."""
    return sorted(records, key=lambda record: record.kind.merit(record.chosen))

"""One search as it happens: what became of every trial, in memory and in MLflow.

The driver feeds it, from Ray Tune's callbacks or from the stage store; nothing here runs in a worker.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from agr.promotion import TIE_DIGITS
from agr.tracking import Tracker
from agr.training import Epoch, Settings

RUNNING, FINISHED, FAILED, KILLED = "RUNNING", "FINISHED", "FAILED", "KILLED"


Weights = Callable[[], Mapping[str, Tensor]]  # reads them only when they are wanted


@dataclass
class Record:
    """One trial so far. `trained` epochs are its own, `shared` came from this search, `earlier` from others.

    Of epochs that fused lanes trained, each counts as `trained` in the first trial that read it.
    """

    settings: Settings
    run_id: str
    status: str = RUNNING
    history: list[Epoch] = field(default_factory=list)
    trained: int = 0
    shared: int = 0
    earlier: int = 0
    reason: str = ""
    weights: Weights | None = None
    unsent: list[Epoch] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """How its epochs came about, as MLflow's metrics name it."""
        return {"epochs_trained": self.trained, "epochs_shared": self.shared, "epochs_earlier": self.earlier}

    @property
    def last(self) -> Epoch | None:
        """The latest epoch."""
        return self.history[-1] if self.history else None


class Session:
    """All trials of a search, by Ray's trial id, in the order in which they began."""

    def __init__(self, name: str, tracker: Tracker, parent: str, tags: Mapping[str, object], planned: int) -> None:
        """parent: the MLflow run of the search. tags: what every trial's run carries. planned: trials."""
        self.name = name
        self.tracker = tracker
        self.parent = parent
        self.planned = planned
        self.records: dict[str, Record] = {}
        self.listeners: list[Callable[[Record], None]] = []
        self.heartbeats: list[Callable[[], None]] = []
        self.began = time.monotonic()
        self._unclaimed: set[tuple[float, ...]] = set()  # learning rates up to epochs that no trial counted yet
        self._tags = tags

    @property
    def id(self) -> str:
        """What names this search for good, in stages, leases and Ray's own files; two may have the same name."""
        return self.parent

    def start(self, trial_id: str, config: Mapping[str, Any]) -> None:
        """A trial begins, or begins again after its worker died."""
        if trial_id not in self.records:
            settings = Settings(**config)
            title = f"epochs={settings.epochs} lr={settings.lr:g} gamma={settings.gamma:g}"
            run_id = self.tracker.start_run(title, asdict(settings), self._tags, self.parent)
            self.records[trial_id] = Record(settings, run_id)
        self._tell(self.records[trial_id])

    def advance(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """New epochs of a trial; those already known, from before its worker died, are passed over."""
        record = self.records[trial_id]
        record.reason = str(result.get("failed", ""))
        for values, origin in zip(result["epochs"], result["origins"], strict=True):
            epoch = Epoch(**values)
            if epoch.epoch <= len(record.history):
                continue
            record.history.append(epoch)
            record.unsent.append(epoch)
            self._count(record, epoch.epoch, origin, read=bool(result["read"]))
        if len(record.history) < record.settings.epochs:  # the last ones go with the totals, when the trial ends
            self._send(record)
        self._tell(record)

    def lanes_trained(self, epochs: Iterable[tuple[float, ...]]) -> None:
        """Fused lanes trained epochs, given by the learning rates up to them; the first trial to read one counts it."""
        self._unclaimed.update(epochs)
        self._beat()

    def end(self, trial_id: str, weights: Weights | None, error: str = "") -> None:
        """A trial has ended: finished, diverged (`reason` is set) or crashed (`error`)."""
        record = self.records[trial_id]
        record.reason = record.reason or error
        record.weights = weights
        done = len(record.history) == record.settings.epochs and not record.reason
        self._close(record, FINISHED if done else FAILED)

    def close(self, status: str) -> None:
        """The search is over: end the runs that are still open, then the search's own."""
        for record in self.records.values():
            if record.status == RUNNING:
                record.reason = record.reason or "interrupted"
                self._close(record, KILLED)
        self.tracker.end_run(self.parent, status)

    def complete(self) -> bool:
        """Whether every planned trial has ended, one way or another."""
        ended = sum(1 for record in self.records.values() if record.status != RUNNING)
        return ended == self.planned

    def finished(self) -> list[Record]:
        """Trials that ran to their last epoch."""
        return [record for record in self.records.values() if record.status == FINISHED]

    def summary(self) -> str:
        """How many epochs were trained, and how many were read."""
        records = self.records.values()
        total = sum(len(record.history) for record in records)
        trained, shared, earlier = (sum(getattr(r, key) for r in records) for key in ("trained", "shared", "earlier"))
        return f"{len(records)} trials, {total} epochs, {trained} trained, {shared} shared, {earlier} from earlier runs"

    def _count(self, record: Record, epoch: int, origin: str, read: bool) -> None:
        rates = record.settings.rates()[:epoch]
        if not read or (origin == self.id and rates in self._unclaimed):
            record.trained += 1
            self._unclaimed.discard(rates)
        elif origin == self.id:
            record.shared += 1
        else:
            record.earlier += 1

    def _tell(self, record: Record) -> None:
        for listener in self.listeners:
            listener(record)
        self._beat()

    def _beat(self) -> None:
        for beat in self.heartbeats:
            beat()

    def _send(self, record: Record, totals: Mapping[str, float] | None = None) -> None:
        self.tracker.log_epochs(record.run_id, record.unsent, totals)
        record.unsent.clear()

    def _close(self, record: Record, status: str) -> None:
        record.status = status
        self._send(record, record.counts)
        if record.reason:
            self.tracker.set_tags(record.run_id, {"reason": record.reason[:5000]})
        self.tracker.end_run(record.run_id, status)
        self._tell(record)


def ranked(records: Sequence[Record]) -> list[Record]:
    """Best first: balanced accuracy on validation speakers, then the lower loss, then fewer epochs."""

    def merit(record: Record) -> tuple[float, float, int]:
        last = record.history[-1]
        score = round(last.val_balanced_accuracy, TIE_DIGITS)
        return -score, last.val_loss, record.settings.epochs

    return sorted(records, key=merit)

"""The state of a running search in the driver: all of its trials, in memory and in MLflow."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING

from torch import Tensor

from agr.errors import AgrError
from search.tasks.agr_task import AGR_SCHEMA
from search.tasks.base import Config, EpochMetrics, Point, TrialReport, TrialSchema, pluralize

if TYPE_CHECKING:
    from search.outbox.outbox import Outbox

RUNNING, FINISHED, FAILED, KILLED = "RUNNING", "FINISHED", "FAILED", "KILLED"
ORIGINS = ("trained", "shared", "earlier")  # of the epochs of a `Record`
Weights = Callable[[], Mapping[str, Tensor]]  # reads the weights of a trial


@dataclass
class Record:
    """One trial so far."""

    settings: Point
    run_id: str
    schema: TrialSchema[Point] = AGR_SCHEMA
    status: str = RUNNING
    # all epochs: `trained` by this trial, `shared` by others of this search, `earlier` by other searches. Epochs of
    # fused training, or of a worker that died before its report, count for their first reader
    history: list[EpochMetrics] = field(default_factory=list)
    trained: int = 0
    shared: int = 0
    earlier: int = 0
    reason: str = ""
    weights: Weights | None = None
    unsent: list[EpochMetrics] = field(default_factory=list)  # epochs that are not logged yet

    @property
    def counts(self) -> dict[str, int]:
        """The numbers of epochs by origin, as MLflow metrics."""
        return {f"epochs_{origin}": getattr(self, origin) for origin in ORIGINS}

    @property
    def last(self) -> EpochMetrics | None:
        """The latest epoch; None before the first."""
        return self.history[-1] if self.history else None

    @property
    def chosen(self) -> EpochMetrics:
        """The epoch that is ranked and registered; the history must not be empty."""
        return self.schema.chosen(self.history)

    @property
    def named(self) -> dict[str, object]:
        """The settings that distinguish the trial; `epochs` of a finished trial is its chosen epoch."""
        known = self.settings.config() | ({"epochs": self.chosen.epoch} if self.status == FINISHED else {})
        return {name: known[name] for name in self.schema.axes}

    @property
    def score(self) -> float:
        """The score of the chosen epoch; higher is better."""
        return self.schema.objective.score(self.chosen)

    @property
    def pruned(self) -> bool:
        """Whether it finished before its planned epochs."""
        return self.status == FINISHED and len(self.history) < self.settings.epochs


@dataclass(eq=False)
class Session:
    """All trials of a search by Ray's trial id, in order of their start."""

    name: str
    tracker: Outbox
    parent: str  # the MLflow run of the search
    tags: Mapping[str, object]  # of every trial's run
    planned: int  # the number of trials, 0 if unknown
    schema: TrialSchema[Point] = AGR_SCHEMA
    records: dict[str, Record] = field(default_factory=dict)
    listeners: list[Callable[[Record], None]] = field(default_factory=list)
    heartbeats: list[Callable[[], None]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    tracks_best: bool = True  # whether finished trials update `best`
    best: list[tuple[int, float]] = field(default_factory=list)  # trained epochs and score at every improvement
    counted: set[tuple[Hashable, ...]] = field(default_factory=set)  # prefixes of the epochs counted as trained

    @property
    def id(self) -> str:
        """Unique, unlike `name`; identifies the search in stages, leases and Ray's files."""
        return self.parent

    def start(self, trial_id: str, config: Config) -> None:
        """Add a trial, unless it restarts after its worker died."""
        if trial_id not in self.records:
            point = self.schema.point(config)
            params = point.config()
            run_id = self.tracker.start_run(self.schema.title(params), params, self.tags, self.parent)
            self.records[trial_id] = Record(point, run_id, self.schema)
        self._notify(self.records[trial_id])

    def add_report(self, trial_id: str, result: TrialReport) -> None:
        """Add the epochs of a report, except those that a worker reported before it died."""
        record = self.records[trial_id]
        record.reason = result.get("failed", "")
        for values, origin in zip(result["epochs"], result["origins"], strict=True):
            epoch = self.schema.epoch(**values)
            if epoch.epoch <= len(record.history):
                continue
            record.history.append(epoch)
            record.unsent.append(epoch)
            if result["read"] and origin != self.id:
                record.earlier += 1
            elif (prefix := record.settings.prefix()[: epoch.epoch]) in self.counted and result["read"]:
                record.shared += 1
            else:
                record.trained += 1
                self.counted.add(prefix)
        if len(record.history) < record.settings.epochs:  # the last epochs are sent with the totals in `end`
            self._send(record)
        if record.schema.best_epoch and record.history:
            self.update_best(record)
        self._notify(record)

    def beat(self) -> None:
        """Call all heartbeats, such as the renewal of the lease."""
        for beat in self.heartbeats:
            beat()

    def end(self, trial_id: str, weights: Weights | None, error: str = "") -> None:
        """End a trial that finished, diverged (its last report has the reason) or crashed (`error` has it)."""
        record = self.records[trial_id]
        record.reason = record.reason or error
        record.weights = weights
        reached = len(record.history) >= (1 if self.schema.prunes else record.settings.epochs)
        self._close(record, FINISHED if reached and not record.reason else FAILED)

    def close(self, status: str) -> None:
        """End the runs of trials that are still running, then the run of the search."""
        for record in list(self.records.values()):
            if record.status == RUNNING:
                record.reason = record.reason or "interrupted"
                self._close(record, KILLED)
        if self.best and self.trained > self.best[-1][0]:
            self._log_best()
        self.tracker.end_run(self.parent, status)

    def settle(self) -> None:
        """Wait until MLflow has received everything, then set the records' real run ids. Raises: OutageError."""
        self.tracker.flush()
        for record in list(self.records.values()):
            record.run_id = self.tracker.run_id(record.run_id)

    def update_best(self, record: Record) -> None:
        """Log this trial's score if it is the best so far; trials on one fold do not count."""
        if self.tracks_best and not getattr(record.settings, "fold", 0):
            self.update_best_score(record.score)

    def update_best_score(self, score: float) -> None:
        """Log a score if it is the best so far; the step is the number of trained epochs."""
        if not self.best or score > self.best[-1][1]:
            self.best.append((self.trained, score))
            self._log_best()

    @property
    def trained(self) -> int:
        """The number of epochs that this search has trained so far."""
        return sum(record.trained for record in list(self.records.values()))

    def finished(self) -> list[Record]:
        """The finished trials, including pruned ones."""
        return [record for record in list(self.records.values()) if record.status == FINISHED]

    def ranking(self, given: Sequence[Record] | None = None) -> Sequence[Record]:
        """The given ranking, by default all finished trials, best first. Raises: AgrError if it is empty."""
        found = ranked(self.finished()) if given is None else given
        if not found:
            reasons = sorted({record.reason for record in list(self.records.values()) if record.reason})
            why = "; ".join(reasons) or "no reason given"
            raise AgrError(f"no champion: none of {len(self.records)} trials finished ({why})")
        return found

    def summary(self) -> str:
        """One line: the number of trials, and of epochs by origin."""
        records = list(self.records.values())
        total = sum(len(record.history) for record in records)
        trained, shared, earlier = (sum(getattr(r, key) for r in records) for key in ORIGINS)
        whole = f"{pluralize(len(records), 'trial')}, {pluralize(total, 'epoch')}"
        return f"{whole}, {trained} trained, {shared} shared, {earlier} from earlier runs"

    def _notify(self, record: Record) -> None:
        for listener in self.listeners:
            listener(record)
        self.beat()

    def _log_best(self) -> None:
        value = {f"best_{self.schema.objective.metric}": self.schema.objective.value(self.best[-1][1])}
        self.tracker.log_epochs(self.parent, [SimpleNamespace(epoch=self.trained, **value)])

    def _send(self, record: Record, totals: Mapping[str, float] | None = None) -> None:
        self.tracker.log_epochs(record.run_id, record.unsent, totals)
        record.unsent.clear()

    def _close(self, record: Record, status: str) -> None:
        record.status = status
        if status == FINISHED:
            self.update_best(record)
        names = ("epoch", *record.schema.columns) if record.schema.best_epoch and record.history else ()
        self._send(record, record.counts | {f"chosen_{name}": getattr(record.chosen, name) for name in names})
        if record.reason:
            self.tracker.set_tags(record.run_id, {"reason": record.reason[:5000]})
        self.tracker.end_run(record.run_id, status)
        self._notify(record)


def ranked(records: Sequence[Record]) -> list[Record]:
    """Sort records by `TrialSchema.sort_key`, best first."""
    return sorted(records, key=lambda record: record.schema.sort_key(record.chosen))

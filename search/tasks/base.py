"""The interface between a search and what it trains.

A task turns configurations into points, names what determines each epoch of a point, and trains the point. `AgrTask`
trains AGR's own models; `search.tasks.custom` turns a user's `fit` into a task.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NotRequired, Protocol, TypedDict, TypeVar

from agr.metrics.scoring import TIE_DIGITS
from agr.training.loop import Epoch, Report, State
from search.stages.store import Lineage

Config = Mapping[str, object]  # the settings of a trial, by name


class Point(Protocol):
    """A configuration to train."""

    @property
    def epochs(self) -> int:
        """The number of planned epochs."""

    def rates(self) -> tuple[Hashable, ...]:
        """One entry per epoch that identifies it within the lineage; for AGR's models, the learning rates."""

    def prefix(self) -> tuple[Hashable, ...]:
        """One entry per epoch; two points share their first k epochs if their first k entries are equal."""

    def config(self) -> dict[str, Any]:
        """All settings by name, as MLflow shows them."""


class EpochMetrics(Protocol):
    """The results of one epoch; its metrics are further attributes."""

    @property
    def epoch(self) -> int:
        """The number of the epoch, counted from 1."""


class TrialReport(TypedDict):
    """What a trial sends to the driver: the epochs since its last report, and where they come from."""

    epoch: int  # the number of the latest epoch
    score: float  # of the latest epoch, for schedulers; higher is better
    epochs: Sequence[Mapping[str, Any]]  # the new epochs, each as metrics by name
    origins: Sequence[str]  # for each new epoch, the id of the search that trained it
    read: bool  # whether the epochs come from the stage store
    failed: NotRequired[str]  # why the trial ended early
    stage: NotRequired[str]  # the key of the stage with the trial's chosen epoch
    home: NotRequired[str]  # the URI of the store that holds this stage
    unsaved: NotRequired[str]  # why the stage store could not be written to


P = TypeVar("P", bound=Point)
P_co = TypeVar("P_co", bound=Point, covariant=True)


@dataclass(frozen=True)
class Objective:
    """A metric to maximise or minimise; `label` is the name shown to users."""

    metric: str
    highest: bool  # whether higher is better
    label: str

    def score(self, epoch: EpochMetrics) -> float:
        """The metric, negated if lower is better; rounded, so that the order of floating-point sums does not matter."""
        value = float(getattr(epoch, self.metric))
        return round(value if self.highest else -value, TIE_DIGITS)

    def value(self, score: float) -> float:
        """Convert a score back to the metric."""
        return score if self.highest else -score


ACCURACY = Objective("val_balanced_accuracy", True, "val balanced accuracy")
COLUMNS = {"val_balanced_accuracy": "val bal. acc.", "val_accuracy": "val acc.", "val_loss": "val loss"}


@dataclass(frozen=True)
class TrialSchema(Generic[P_co]):
    """How a search builds, compares and displays its trials."""

    point: Callable[[Config], P_co]  # builds the point of a configuration
    epoch: Callable[..., EpochMetrics] = Epoch  # builds an epoch from its metrics
    objective: Objective = ACCURACY
    tie: str = "val_loss"  # the metric, lower is better, that orders trials with equal scores
    columns: Mapping[str, str] = field(default_factory=COLUMNS.copy)  # displayed metrics and their headings
    axes: tuple[str, ...] = ("epochs", "lr", "gamma")  # the settings that distinguish trials
    best_epoch: bool = False  # whether the best epoch of a trial is ranked and registered, instead of the last
    prunes: bool = False  # whether trials that were stopped early are ranked too

    def chosen(self, history: Sequence[EpochMetrics]) -> EpochMetrics:
        """The epoch of a trial that is ranked and registered."""
        return min(history, key=self.sort_key) if self.best_epoch else history[-1]

    def sort_key(self, epoch: EpochMetrics) -> tuple[float, float, int]:
        """Sorts epochs best first: by score, then by the `tie` metric, then by fewer epochs."""
        return -self.objective.score(epoch), float(getattr(epoch, self.tie, 0.0)), epoch.epoch

    def title(self, config: Config) -> str:
        """The name of a trial, short enough for a narrow column: "e5 lr0.01 g0.1"."""
        return " ".join(f"{_initials(name)}{format_setting(config[name])}" for name in self.axes)


def trial_report(
    epochs: Sequence[EpochMetrics], origins: Sequence[str], read: bool, schema: TrialSchema[Point]
) -> TrialReport:
    """Build the report of one or more new epochs."""
    return {
        "epoch": epochs[-1].epoch,
        "score": schema.objective.score(epochs[-1]),
        "epochs": [dict(vars(epoch)) for epoch in epochs],
        "origins": list(origins),
        "read": read,
    }


def _initials(name: str) -> str:
    return name if len(name) < 3 else "".join(word[:1] for word in name.split("_"))


def format_setting(value: object) -> str:
    """Format a setting; numbers with three significant digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def pluralize(number: int, what: str) -> str:
    """A number and a noun: "1 trial", "27 trials"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


class Task(Protocol[P]):
    """Trains points of one type; Ray sends it to the workers."""

    @property
    def name(self) -> str:
        """The name of the data."""

    @property
    def schema(self) -> TrialSchema[P]:
        """How its trials are built, compared and displayed."""

    @property
    def nbytes(self) -> int:
        """Bytes of data for Ray's object store."""

    def lineage(self, point: P, device: str) -> Lineage | None:
        """Everything besides the rates that determines the point's epochs; None if unknown."""

    def fit(self, point: P, device: str, report: Report, resume: State | None) -> object:
        """Train a point from a state or from scratch, and call `report` after every new epoch."""

    def describe(self, point: P) -> dict[str, object]:
        """What `python -m search.stages list` shows about the point's stages."""

    def for_workers(self) -> Task[P]:
        """The task reduced to what workers need, with all data in memory."""

    def with_schema(self, schema: TrialSchema[P]) -> Task[P]:
        """A copy with another schema."""


AnyTask = Task[Any]  # for code that gets its points from the task itself


def lineage_of(task: Task[P], point: P, device: str, search: str) -> Lineage:
    """The task's lineage of a point; if unknown, one of the point and the search alone, which shares no stages."""
    alone = point.config() | {"search": search}
    return task.lineage(point, device) or Lineage(tuple((key, str(value)) for key, value in alone.items()))


def distinct_epochs(points: Iterable[Point]) -> int:
    """The number of epochs of all points; a shared epoch counts once."""
    prefixes = (point.prefix() for point in points)
    return len({prefix[: count + 1] for prefix in prefixes for count in range(len(prefix))})

"""What a search trains, as the search sees it.

A task turns configurations into points, says what determines each epoch of a point, and trains it. `AgrTask` trains
AGR's own models on clips; `search.tasks.custom` makes a task of anybody's `fit`.
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
    """One trial to be."""

    @property
    def epochs(self) -> int:
        """How many epochs are planned."""

    def rates(self) -> tuple[Hashable, ...]:
        """What names each epoch within the point's lineage; the learning rates of AGR's own trials."""

    def prefix(self) -> tuple[Hashable, ...]:
        """An entry for each epoch; two points of a search share the epochs whose entries, from the first on, agree."""

    def config(self) -> dict[str, Any]:
        """Every setting by name; MLflow shows them as parameters."""


class EpochMetrics(Protocol):
    """What one epoch gave; its metrics are further attributes."""

    @property
    def epoch(self) -> int:
        """Its number, counted from 1."""


class TrialReport(TypedDict):
    """What a trial tells the driver: the epochs since its last report, and where they come from."""

    epoch: int  # how far the trial has come
    score: float  # of its latest epoch, for schedulers; more is better
    epochs: Sequence[Mapping[str, Any]]  # the new epochs, each as its metrics by name
    origins: Sequence[str]  # the searches that trained them
    read: bool  # whether they come from the stage store
    failed: NotRequired[str]  # why the trial ended early
    stage: NotRequired[str]  # the key of the stage for which the trial stands
    home: NotRequired[str]  # the URI of the store that holds it
    unsaved: NotRequired[str]  # why the stage store does not take it


P = TypeVar("P", bound=Point)
P_co = TypeVar("P_co", bound=Point, covariant=True)


@dataclass(frozen=True)
class Objective:
    """A metric that a search makes as high, or as low, as it can. `label` is its name for people."""

    metric: str
    highest: bool
    label: str

    def score(self, epoch: EpochMetrics) -> float:
        """The metric with its sign set so that more is better, rounded so that the order of sums does not matter."""
        value = float(getattr(epoch, self.metric))
        return round(value if self.highest else -value, TIE_DIGITS)

    def value(self, score: float) -> float:
        """The metric behind a score."""
        return score if self.highest else -score


ACCURACY = Objective("val_balanced_accuracy", True, "val balanced accuracy")


@dataclass(frozen=True)
class TrialSchema(Generic[P_co]):
    """How a search reads its trials."""

    point: Callable[[Config], P_co]  # makes the point of a configuration
    epoch: Callable[..., EpochMetrics] = Epoch  # makes an epoch of its metrics
    objective: Objective = ACCURACY  # the metric that the search improves
    tie: str = "val_loss"  # the metric, lower is better, that decides between equal scores
    columns: Mapping[str, str] = field(  # the metrics that people are shown, with their headings
        default_factory=lambda: {
            "val_balanced_accuracy": "val bal. acc.",
            "val_accuracy": "val acc.",
            "val_loss": "val loss",
        }
    )
    axes: tuple[str, ...] = ("epochs", "lr", "gamma")  # the settings that tell trials apart
    best_epoch: bool = False  # whether a trial stands for its best epoch, or for its last
    prunes: bool = False  # whether a trial that was ended before its planned epochs counts all the same

    def chosen(self, history: Sequence[EpochMetrics]) -> EpochMetrics:
        """The epoch for which a trial with this history stands."""
        return min(history, key=self.sort_key) if self.best_epoch else history[-1]

    def sort_key(self, epoch: EpochMetrics) -> tuple[float, float, int]:
        """What trials are sorted by, best first: score, then the tie's metric, then fewer epochs."""
        return -self.objective.score(epoch), float(getattr(epoch, self.tie, 0.0)), epoch.epoch

    def title(self, config: Config) -> str:
        """A trial's name."""
        return " ".join(f"{name}={format_setting(config[name])}" for name in self.axes)


def trial_report(
    epochs: Sequence[EpochMetrics], origins: Sequence[str], read: bool, schema: TrialSchema[Point]
) -> TrialReport:
    """The report of one or more new epochs of a trial."""
    last = epochs[-1]
    return {
        "epoch": last.epoch,
        "score": schema.objective.score(last),
        "epochs": [dict(vars(epoch)) for epoch in epochs],
        "origins": list(origins),
        "read": read,
    }


def format_setting(value: object) -> str:
    """A setting with at most three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def pluralize(number: int, what: str) -> str:
    """A number and a noun: "1 trial", "27 trials"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


class Task(Protocol[P]):
    """What Ray's workers are given: how to train points of one type."""

    @property
    def name(self) -> str:
        """The name of the data."""

    @property
    def schema(self) -> TrialSchema[P]:
        """How its trials are read."""

    @property
    def nbytes(self) -> int:
        """The size of the data in Ray's object store."""

    def lineage(self, point: P, device: str) -> Lineage | None:
        """Everything besides its rates that determines the point's epochs; None if that is not known."""

    def fit(self, point: P, device: str, report: Report, resume: State | None) -> object:
        """Train a point from a state, or from its beginning; `report` gets every new epoch."""

    def describe(self, point: P) -> dict[str, object]:
        """What `python -m search.stages list` shows of the point's stages."""

    def for_workers(self) -> Task[P]:
        """The task, in memory, with no more than workers need."""

    def with_schema(self, schema: TrialSchema[P]) -> Task[P]:
        """The task with its trials read in another way."""


AnyTask = Task[Any]  # where the type of its points does not matter, because the task itself makes them


def lineage_of(task: Task[P], point: P, device: str, search: str) -> Lineage:
    """What determines a point's epochs; where that is not known, the point and the search: then nothing is shared."""
    alone = Lineage(tuple((key, str(value)) for key, value in (point.config() | {"search": search}).items()))
    return task.lineage(point, device) or alone


def distinct_epochs(points: Iterable[Point]) -> int:
    """How many epochs the points have together, counting those that they share once."""
    prefixes: set[tuple[Hashable, ...]] = set()
    for point in points:
        prefix = point.prefix()
        prefixes.update(prefix[: count + 1] for count in range(len(prefix)))
    return len(prefixes)

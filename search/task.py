"""What a search trains, as the search sees it.

A task makes points of configurations, says what determines each of their epochs, and trains one. `Voices` is AGR's
own: its models on clips. `search.custom` makes a task of anybody's `fit`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

import numpy as np
import torch

from agr.images import ImageSet
from agr.scoring import TIE_DIGITS
from agr.splits import Split
from agr.training import Epoch, Report, Settings, State, fit
from search.device import torch_device
from search.stages import Lineage


class Point(Protocol):
    """One trial to be."""

    @property
    def epochs(self) -> int:
        """How many are planned."""

    def rates(self) -> tuple[Any, ...]:
        """For each epoch what names it within the point's lineage: of AGR's trials, learning rates."""

    def prefix(self) -> tuple[Any, ...]:
        """The same within a search: points share as many epochs as their prefixes have leading entries in common."""

    def config(self) -> dict[str, Any]:
        """All that makes the point, by name; what MLflow shows as its parameters."""


@dataclass(frozen=True)
class Aim:
    """A metric of an epoch that a search wants high or low; `says` is for people."""

    metric: str
    highest: bool
    says: str

    def score(self, epoch: Any) -> float:
        """The metric, so turned that more is better, rounded so that the order of sums does not decide."""
        value = float(getattr(epoch, self.metric))
        return round(value if self.highest else -value, TIE_DIGITS)

    def value(self, score: float) -> float:
        """The metric that has this score."""
        return score if self.highest else -score


ACCURACY = Aim("val_balanced_accuracy", True, "val balanced accuracy")


@dataclass(frozen=True)
class Kind:
    """How a search reads its trials.

    epoch: what makes an epoch of its numbers. axes: the settings that tell trials apart. tie: the metric, wanted low,
    that decides between equals. columns: metrics that people are shown, and their headings. best_epoch: whether a
    trial stands for its best epoch, or for its last. prunes: whether a trial may be ended before its planned epochs,
    and counts all the same.
    """

    point: Callable[[Mapping[str, Any]], Point]
    epoch: Callable[..., Any] = Epoch
    aim: Aim = ACCURACY
    tie: str = "val_loss"
    columns: Mapping[str, str] = field(
        default_factory=lambda: {
            "val_balanced_accuracy": "val bal. acc.",
            "val_accuracy": "val acc.",
            "val_loss": "val loss",
        }
    )
    axes: tuple[str, ...] = ("epochs", "lr", "gamma")
    best_epoch: bool = False
    prunes: bool = False

    def chosen(self, history: Sequence[Any]) -> Any:
        """The epoch for which a trial with this history stands."""
        return min(history, key=self.merit) if self.best_epoch else history[-1]

    def merit(self, epoch: Any) -> tuple[float, float, int]:
        """The lower the better: score, then the tie's metric, then fewer epochs."""
        return -self.aim.score(epoch), float(getattr(epoch, self.tie, 0.0)), epoch.epoch

    def title(self, config: Mapping[str, Any]) -> str:
        """A trial's name."""
        return " ".join(f"{name}={readable(config[name])}" for name in self.axes)


def readable(value: Any) -> str:
    """A setting as people read it."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def counted(number: int, what: str) -> str:
    """So many of something: "1 trial", "27 trials"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def settled(config: Mapping[str, Any]) -> Point:
    """The point of AGR's own trials that a configuration describes; `fold` is 0 or missing for the search's split."""
    values = dict(config)
    fold = values.pop("fold", 0)
    settings = Settings(**values)
    return Folded(settings, fold) if fold else settings


VOICES = Kind(settled)


@dataclass(frozen=True)
class Folded:
    """Settings to be trained on fold `fold`, counted from 1, of the search's training and validation speakers."""

    settings: Settings
    fold: int

    @property
    def epochs(self) -> int:
        """How many are planned."""
        return self.settings.epochs

    def rates(self) -> tuple[float, ...]:
        """The learning rate of each epoch."""
        return self.settings.rates()

    def prefix(self) -> tuple[Any, ...]:
        """As of the settings; folds share nothing."""
        first, *rest = self.settings.prefix()
        return ((self.fold, first), *rest)

    def config(self) -> dict[str, Any]:
        """The settings, and the fold."""
        return self.settings.config() | {"fold": self.fold}


class Task(Protocol):
    """What Ray's workers are given."""

    @property
    def name(self) -> str:
        """Of the data."""

    @property
    def kind(self) -> Kind:
        """How its trials are read."""

    @property
    def nbytes(self) -> int:
        """What the data takes in Ray's object store."""

    def lineage(self, point: Any, device: str) -> Lineage | None:
        """All that determines the point's epochs besides its rates; None if nothing is known to."""

    def fit(self, point: Any, device: str, report: Report, resume: State | None) -> object:
        """Train a point from a state, or from its beginning; `report` gets every new epoch."""

    def about(self, point: Any) -> dict[str, object]:
        """What `python -m search.stages list` shows of the point's stages."""

    def lean(self) -> Task:
        """The task with all that workers need and no more, in memory."""

    def reading(self, kind: Kind) -> Task:
        """The task with its trials read otherwise."""


def lineage_of(task: Task, point: Point, device: str, search: str) -> Lineage:
    """What determines a point's epochs; where that is not known, the point and the search, which share with nobody."""
    alone = Lineage(tuple((key, str(value)) for key, value in (point.config() | {"search": search}).items()))
    return task.lineage(point, device) or alone


USUAL = {item.name: item.default for item in fields(Settings)}
TOLD = ("batch_size", "weight_decay", "dropout", "label_smoothing", "width")  # of a stage, where they are not as usual


@dataclass(frozen=True)
class Voices:
    """AGR's models on clips. `folds`: splits of the training and validation speakers of `split`."""

    data: ImageSet
    split: Split
    folds: tuple[Split, ...] = ()
    kind: Kind = VOICES

    @property
    def name(self) -> str:
        """Of the data."""
        return self.data.name

    @property
    def nbytes(self) -> int:
        """See `Task`."""
        return int(self.data.pixels.nbytes)

    def lineage(self, point: Settings | Folded, device: str) -> Lineage:
        """See `Task`."""
        return Lineage.of(self.data, self._split(point), _settings(point), device)

    def fit(self, point: Settings | Folded, device: str, report: Report, resume: State | None) -> State:
        """See `agr.training.fit`; on a CPU it takes one thread."""
        where = torch_device(device)
        if where.type == "cpu":
            torch.set_num_threads(1)
        return fit(self.data, self._split(point), _settings(point), where, report, resume)

    def about(self, point: Settings | Folded) -> dict[str, object]:
        """See `Task`."""
        settings = _settings(point)
        told = {"data": self.name, "split": self._split(point).name, "seed": settings.seed}
        own = {"recipe": self.data.recipe.name, "model": settings.model}
        return told | own | {name: getattr(settings, name) for name in TOLD if getattr(settings, name) != USUAL[name]}

    def reading(self, kind: Kind) -> Voices:
        """See `Task`."""
        return replace(self, kind=kind)

    def lean(self) -> Voices:
        """The images without the manifest's rows."""
        return replace(self, data=replace(self.data, pixels=np.asarray(self.data.pixels), rows=()))

    def _split(self, point: Settings | Folded) -> Split:
        return self.folds[point.fold - 1] if isinstance(point, Folded) else self.split


def _settings(point: Settings | Folded) -> Settings:
    return point.settings if isinstance(point, Folded) else point

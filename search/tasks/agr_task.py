"""The task of training AGR's own models."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from agr.common.rows import Texts
from agr.data import image_set
from agr.data.image_set import ImageSet
from agr.data.shards import Sharded
from agr.data.splits import Split
from agr.data.tracks import Tracks
from agr.errors import SettingsError
from agr.training.loop import Epoch, Report, State, fit
from agr.training.settings import Settings
from search.stages.shard_place import ShardPlace, publish
from search.stages.store import Lineage
from search.tasks.base import EpochMetrics, Point, TrialSchema
from search.tasks.device import prepare_device


@dataclass(frozen=True)
class FoldPoint:
    """Settings to train on one fold, counted from 1, of the training and validation speakers."""

    settings: Settings
    fold: int

    @property
    def epochs(self) -> int:
        """The number of planned epochs."""
        return self.settings.epochs

    def rates(self) -> tuple[float, ...]:
        """The learning rate of every epoch."""
        return self.settings.rates()

    def prefix(self) -> tuple[Hashable, ...]:
        """The entries of the settings; the first one includes the fold, because folds share no epochs."""
        first, *rest = self.settings.prefix()
        return ((self.fold, first), *rest)

    def config(self) -> dict[str, Any]:
        """The settings and the fold."""
        return self.settings.config() | {"fold": self.fold}


AgrPoint = Settings | FoldPoint


def agr_point(config: Mapping[str, Any]) -> AgrPoint:
    """Build the point of a configuration; `fold`, unless 0, selects a fold of `--score-folds`."""
    settings = Settings(**{name: value for name, value in config.items() if name != "fold"})
    return FoldPoint(settings, config["fold"]) if config.get("fold") else settings


AGR_SCHEMA: TrialSchema[AgrPoint] = TrialSchema(agr_point)
DESCRIBED = (
    "batch_size",
    "weight_decay",
    "dropout",
    "label_smoothing",
    "width",
    "precision",
)  # unless they have their defaults


@dataclass(frozen=True)
class AgrTask:
    """Trains AGR's models on images.

    `folds`: splits of the training and validation speakers of `split`. `place`: where nodes find the shards of `data`.
    """

    data: ImageSet
    split: Split
    folds: tuple[Split, ...] = ()
    schema: TrialSchema[AgrPoint] = AGR_SCHEMA
    place: ShardPlace | None = None

    @property
    def name(self) -> str:
        """The name of the corpus."""
        return self.data.name

    @property
    def nbytes(self) -> int:
        """The size in bytes of what workers get through Ray: all but what is in several shards, which they map."""
        sent = vars(self.for_workers().data).values()
        held = (value for value in sent if isinstance(value, np.ndarray | Sharded | Tracks | Texts))
        return sum(int(value.nbytes) for value in held)

    def lineage(self, point: AgrPoint, device: str) -> Lineage:
        """Data, split, settings, training code, torch version and device."""
        return Lineage.of(self.data, self._split(point), settings_of(point), device)

    def fit(self, point: AgrPoint, device: str, report: Report, resume: State | None) -> State:
        """Train with `agr.training.loop.fit`, with one thread on a CPU."""
        return fit(self.images(), self._split(point), settings_of(point), prepare_device(device), report, resume)

    def describe(self, point: AgrPoint) -> dict[str, object]:
        """Data, split, recipe and model, and the settings that differ from their defaults."""
        settings = settings_of(point)
        known = {"data": self.name, "split": self._split(point).name, "seed": settings.seed}
        known |= {"recipe": self.data.recipe.name, "model": settings.model}
        return known | {
            name: value for name in DESCRIBED if (value := getattr(settings, name)) != getattr(Settings, name)
        }

    def with_schema(self, schema: TrialSchema[AgrPoint]) -> AgrTask:
        """A copy with another schema."""
        return replace(self, schema=schema)

    def for_workers(self) -> AgrTask:
        """The same without the rows of the manifest and the digests of recordings, which training does not read."""
        return replace(self, data=replace(self.data, rows=(), recordings=self.data.recordings[:0]))

    def published(self, uri: str) -> AgrTask:
        """The same for nodes that do not see this machine's disk: its shards are in a storage that they see."""
        paths = image_set.shards_of(self.data)
        return replace(self, place=publish(paths, uri)) if paths else self

    def images(self) -> ImageSet:
        """The images, on this machine. Raises: CorpusError or OSError if it lacks shards and cannot fetch them."""
        return image_set.moved(self.data, self.place.fetch()) if self.place else self.data

    def _split(self, point: AgrPoint) -> Split:
        return self.folds[point.fold - 1] if isinstance(point, FoldPoint) else self.split


def agr_epochs(history: Sequence[EpochMetrics]) -> list[Epoch]:
    """The history of a trial of AGR's models."""
    return [epoch for epoch in history if isinstance(epoch, Epoch)]


def settings_of(point: object) -> Settings:
    """The settings of a point of AGR's models. Raises: TypeError for a point of another task."""
    if isinstance(point, FoldPoint):
        return point.settings
    if not isinstance(point, Settings):
        raise TypeError(f"{type(point).__name__}: expected a point of AGR's own models")
    return point


def fusible_settings(points: Sequence[Point]) -> list[Settings]:
    """The points as settings for fused training. Raises: SettingsError for points of a trainable or a fold."""
    found = [point for point in points if isinstance(point, Settings)]
    if len(found) < len(points):
        raise SettingsError("--lanes fused: found a trainable; expected AGR's own models, without --trainable")
    return found

"""The training clips, batch by batch, and how much each of them counts.

    train_set = TrainingSet.of(data, split, settings, device)
    for pictures, labels, weights in train_set.batches(epoch_order(split.train, seed, index), index): ...

What chance decides is drawn from the seed and the epoch alone, so that a trial may go on from any epoch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agr import joint, population
from agr.corpus import CLASSES
from agr.errors import SettingsError
from agr.images import ImageSet
from agr.splits import Indices, Split
from agr.variation import NONE, drawn, vary

if TYPE_CHECKING:
    from agr.training import Settings

ONE_SIDED = 0.01  # how much a corpus of a single gender counts: hardly, see docs/experiments.md


def epoch_order(train: Indices, seed: int, index: int) -> Indices:
    """The order in which epoch `index` (from 0) visits the training clips; drawn from (seed, index) alone."""
    return np.random.default_rng([seed, index]).permutation(train)


def epoch_noise(seed: int, index: int) -> torch.Generator:
    """What dropout draws its masks from in epoch `index` (from 0), on the CPU; seeded by (seed, index) alone."""
    (mixed,) = np.random.SeedSequence([seed, index, 2]).generate_state(1, np.uint64).tolist()
    return torch.Generator().manual_seed(mixed)


def class_weights(labels: NDArray[np.int64]) -> Tensor:
    """Weights that make both genders count the same: (2,), float32, of mean 1 over the clips."""
    counts = np.bincount(labels, minlength=len(CLASSES))
    return torch.tensor(len(labels) / (len(CLASSES) * counts), dtype=torch.float32)


@dataclass(frozen=True)
class TrainingSet:
    """The training clips as the loop reads them.

    source: evidence where clips are varied, else pixels. weights: (n,), float32, 0 for clips that do not train.
    moved: (n,), how far each clip's pitch is moved in every epoch alike, see `agr.population`.
    home: on a GPU, `source` in its memory, zero for clips that do not train.
    """

    data: ImageSet
    source: NDArray[np.uint8]
    weights: Tensor
    moved: NDArray[np.float64]
    settings: Settings
    device: torch.device
    home: Tensor | None

    @classmethod
    def of(cls, data: ImageSet, split: Split, settings: Settings, device: torch.device) -> TrainingSet:
        """Raises: SettingsError if clips are to be varied that hold no evidence."""
        if settings.variation != NONE and data.evidence is None:
            raise SettingsError(f"{data.name}: images of recipe {data.recipe.name}; expected voice to vary them")
        source = data.pixels if settings.variation == NONE or data.evidence is None else data.evidence
        home = None
        if device.type != "cpu":
            home = torch.zeros(source.shape, dtype=torch.uint8, device=device)
            home[torch.from_numpy(split.train).to(device)] = torch.from_numpy(source[split.train]).to(device)
        moved = population.moves(data, split.train, settings.variation.population)
        return cls(data, source, clip_weights(data, split.train), moved, settings, device, home)

    def batches(self, order: Indices, index: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Pictures (batch, 12, 98, 3), labels and weights (batch,) of epoch `index` (from 0), in this order."""
        strength, size = self.settings.variation, self.settings.batch_size
        draws = drawn(len(self.data), self.settings.seed, index) if strength != NONE else None
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            pictures = self._kept(rows)
            if draws is not None:
                pictures = vary(pictures, draws[rows], strength, self.moved[rows])
            labels = torch.from_numpy(self.data.labels[rows]).to(self.device)
            yield pictures, labels, self.weights[rows].to(self.device)

    def _kept(self, rows: Indices) -> Tensor:
        """The evidence of clips where they are varied, else their pictures, on the device."""
        if self.home is not None:
            return self.home[torch.from_numpy(rows).to(self.device)]
        return torch.from_numpy(self.source[rows])


def clip_weights(data: ImageSet, train: Indices) -> Tensor:
    """How much each clip counts: (n,), float32, of mean 1 over the training clips, 0 for the others.

    Both genders count the same, over all and within each corpus that has both, so that how a corpus was recorded tells
    nothing of a gender. A corpus counts by the square root of its speakers, one of a single gender by ONE_SIDED of
    that; within a corpus and gender every clip counts the same.
    """
    corpora, labels = joint.corpora(data)[train], data.labels[train]
    shares = np.zeros(len(train))
    for corpus in np.unique(corpora):
        own = corpora == corpus
        genders = np.unique(labels[own])
        size = math.sqrt(len(np.unique(data.speakers[train][own]))) * (1.0 if len(genders) > 1 else ONE_SIDED)
        for label in genders:
            cell = own & (labels == label)
            shares[cell] = size / cell.sum()
    for label in np.unique(labels):
        shares[labels == label] /= shares[labels == label].sum()
    weights = torch.zeros(len(data))
    weights[torch.from_numpy(train)] = torch.from_numpy(shares / shares.mean()).to(torch.float32)
    return weights


def weighted_loss(output: Tensor, y: Tensor, weights: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of logits (n, 2), averaged by weights (n,).

    smoothing: the share of each label that is spread over both classes (Szegedy et al., CVPR 2016).
    """
    each = nn.functional.cross_entropy(output, y, reduction="none", label_smoothing=smoothing)
    return (each * weights).sum() / weights.sum()

"""The training clips in batches, and the weight of each clip in the loss.

    train_set = TrainingSet.of(data, split, settings, device)
    for pictures, labels, weights in train_set.batches(epoch_order(split.train, seed, index), index): ...

All random numbers depend on the seed and the epoch alone, so that training can continue from any epoch.
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

from agr.data import combine
from agr.data.image_set import ImageSet
from agr.data.splits import Indices, Split
from agr.errors import SettingsError
from agr.labels import CLASSES
from agr.training import pitch_targets
from agr.training.augmentation import NONE, augment, drawn

if TYPE_CHECKING:
    from agr.training.settings import Settings

ONE_SIDED = 0.01  # the weight of a corpus with a single gender, beside 1; docs/experiments.md says why


def epoch_order(train: Indices, seed: int, index: int) -> Indices:
    """The training clips, (n,), in the random order of epoch `index` (from 0), which depends on (seed, index) alone."""
    return np.random.default_rng([seed, index]).permutation(train)


def epoch_noise(seed: int, index: int) -> torch.Generator:
    """The generator of dropout masks, on the CPU, for epoch `index` (from 0); seeded by (seed, index) alone."""
    (mixed,) = np.random.SeedSequence([seed, index, 2]).generate_state(1, np.uint64).tolist()
    return torch.Generator().manual_seed(mixed)


def class_weights(labels: NDArray[np.int64]) -> Tensor:
    """Weights with which both classes count the same.

    Args:
        labels: (n,), int64, with clips of both classes.

    Returns:
        (2,), float32, with mean 1 over the clips.
    """
    counts = np.bincount(labels, minlength=len(CLASSES))
    return torch.tensor(len(labels) / (len(CLASSES) * counts), dtype=torch.float32)


@dataclass(frozen=True)
class TrainingSet:
    """The training clips as the epoch loop reads them; n counts all clips of the image set.

    Attributes:
        data: All images.
        source: Voice features if clips are augmented, else images, (n, ...), uint8.
        weights: Weight of each clip in the loss, (n,), float32; 0 for clips outside the training set.
        moved: Shift of the logarithm of each clip's pitch, the same in every epoch, (n,), as in `agr.training.pitch_targets`.
        settings: Of the trial.
        device: Where the model is trained.
        home: On a GPU, `source` in its memory with zeros for clips outside the training set; None on a CPU.
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
        """Collect what training with these settings reads.

        Raises:
            SettingsError: If clips are to be augmented that hold no voice features.
        """
        if settings.augmentation != NONE and data.features is None:
            raise SettingsError(f"{data.name}: images of recipe {data.recipe.name}; expected voice to vary them")
        source = data.pixels if settings.augmentation == NONE or data.features is None else data.features
        home = None
        if device.type != "cpu":
            home = torch.zeros(source.shape, dtype=torch.uint8, device=device)
            home[torch.from_numpy(split.train).to(device)] = torch.from_numpy(source[split.train]).to(device)
        moved = pitch_targets.moves(data, split.train, settings.augmentation.pitch_targets)
        return cls(data, source, clip_weights(data, split.train), moved, settings, device, home)

    def batches(self, order: Indices, index: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """The batches of epoch `index` (from 0), in the order of the clips `order`.

        Yields:
            Images, (batch, 12, 98, 3), uint8; labels, (batch,), int64; weights, (batch,), float32: all on
            `device`.
        """
        strength, size = self.settings.augmentation, self.settings.batch_size
        draws = drawn(len(self.data), self.settings.seed, index) if strength != NONE else None
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            pictures = self._kept(rows)
            if draws is not None:
                pictures = augment(pictures, draws[rows], strength, self.moved[rows])
            labels = torch.from_numpy(self.data.labels[rows]).to(self.device)
            yield pictures, labels, self.weights[rows].to(self.device)

    def _kept(self, rows: Indices) -> Tensor:
        """The rows of `source` for some clips, on the device."""
        if self.home is not None:
            return self.home[torch.from_numpy(rows).to(self.device)]
        return torch.from_numpy(self.source[rows])


def clip_weights(data: ImageSet, train: Indices) -> Tensor:
    """The weight of each clip in the loss.

    Both genders weigh the same, in all and within each corpus that has both, so that the sound of a corpus says nothing
    about the gender. A corpus weighs as much as the square root of its number of speakers, or ONE_SIDED of that if it
    has a single gender. The clips of one gender in one corpus weigh the same.

    Args:
        data: All images.
        train: The clips of the training set.

    Returns:
        (n,), float32, with mean 1 over the training clips, 0 for the others.
    """
    corpora, labels = combine.corpora(data)[train], data.labels[train]
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
    """The weighted mean of the cross-entropy, in nats.

    Args:
        output: Logits, (n, 2).
        y: Labels, (n,), int64.
        weights: (n,), float32.
        smoothing: Share of each label that is spread over both classes (Szegedy et al., CVPR 2016).
    """
    each = nn.functional.cross_entropy(output, y, reduction="none", label_smoothing=smoothing)
    return (each * weights).sum() / weights.sum()

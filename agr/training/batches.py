"""Batches of training clips, and the weight of each clip in the loss.

Random numbers depend on the seed and the epoch alone, so that training can be resumed after any epoch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agr.data import combine
from agr.data.image_set import ImageSet
from agr.data.shards import Clips
from agr.data.splits import Indices, Split
from agr.data.tracks import Tracks
from agr.errors import SettingsError
from agr.labels import CLASSES
from agr.training import pitch_targets
from agr.training.augmentation import NONE, augment, random_numbers
from agr.training.model import check_reads
from agr.training.random_rows import uniform_rows
from agr.training.settings import Settings

CANDIDATES = 2  # windows of a clip; training reads the one with more speech
SINGLE_GENDER_WEIGHT = 0.01  # of a corpus with a single gender; 1 for the others (docs/experiments.md says why)


def epoch_order(train: Indices, seed: int, index: int) -> Indices:
    """The training clips, (n,), in the random order of epoch `index` (from 0)."""
    return np.random.default_rng([seed, index]).permutation(train)


def dropout_generator(seed: int, index: int) -> torch.Generator:
    """The generator of the dropout masks of epoch `index` (from 0), on the CPU."""
    (combined,) = np.random.SeedSequence([seed, index, 2]).generate_state(1, np.uint64).tolist()
    return torch.Generator().manual_seed(combined)


def window_places(rows: Indices, seed: int, index: int) -> NDArray[np.float64]:
    """Where in some clips, (m,), windows may begin in epoch `index` (from 0): (m, CANDIDATES), uniform in [0, 1)."""
    return uniform_rows((seed, index, 3), rows, CANDIDATES)


def class_weights(labels: NDArray[np.int64]) -> Tensor:
    """Weights that balance the classes of labels, (n,), int64: (2,), float32, with mean 1 over the clips."""
    counts = np.bincount(labels, minlength=len(CLASSES))
    return torch.tensor(len(labels) / (len(CLASSES) * counts), dtype=torch.float32)


@dataclass(frozen=True)
class TrainingSet:
    """The training clips as the epoch loop reads them; n counts all clips of the image set."""

    data: ImageSet
    source: Clips | Tracks  # voice features if clips are augmented or stored whole, else images, (n, ...)
    weights: Tensor  # weight of each clip in the loss, (n,), float32; 0 outside the training set
    # added to the logarithm of each clip's pitch in every epoch, (n,) (`agr.training.pitch_targets`)
    pitch_shift: NDArray[np.float64]
    settings: Settings
    device: torch.device
    # on a GPU, `source` in its memory, with zeros outside the training set; None on a CPU and for whole clips
    device_copy: Tensor | None

    @classmethod
    def of(cls, data: ImageSet, split: Split, settings: Settings, device: torch.device) -> TrainingSet:
        """Collect what training reads. Raises: SettingsError if images without voice features are to be augmented."""
        if settings.augmentation != NONE and data.features is None:
            raise SettingsError(f"{data.name}: images of recipe {data.recipe.name}; expected voice to augment them")
        check_reads(settings.model, data.recipe)
        plain = settings.augmentation == NONE and not isinstance(data.features, Tracks)
        source = data.pixels if plain or data.features is None else data.features
        device_copy = None
        if device.type != "cpu" and not isinstance(source, Tracks):
            device_copy = torch.zeros(source.shape, dtype=torch.uint8, device=device)
            device_copy[torch.from_numpy(split.train).to(device)] = torch.from_numpy(source[split.train]).to(device)
        pitch_shift = pitch_targets.pitch_shifts(data, split.train, settings.augmentation.pitch_targets)
        return cls(data, source, clip_weights(data, split.train), pitch_shift, settings, device, device_copy)

    def batches(self, order: Indices, index: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """The batches of epoch `index` (from 0), with the clips in the order of `order`, on `device`.

        Each is images, (batch, *image_shape), uint8; labels, (batch,), int64; and weights, (batch,), float32.
        """
        strength, size, copy = self.settings.augmentation, self.settings.batch_size, self.device_copy
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            images = self._stored(rows, index) if copy is None else copy[torch.from_numpy(rows).to(copy.device)]
            if strength != NONE:
                draws = random_numbers(rows, self.settings.seed, index)
                images = augment(images, draws, strength, self.data.recipe, self.pitch_shift[rows])
            elif self._whole:
                images = torch.from_numpy(self.data.recipe.images(images.numpy()))
            labels = torch.from_numpy(self.data.labels[rows]).to(self.device)
            yield images.to(self.device), labels, self.weights[rows].to(self.device)

    @property
    def _whole(self) -> bool:
        return isinstance(self.source, Tracks)

    def _stored(self, rows: Indices, index: int) -> Tensor:
        """Images, or windows of voice features, of clips, (batch,), in epoch `index`."""
        if isinstance(self.source, Tracks):
            return torch.from_numpy(self.source.draw(rows, window_places(rows, self.settings.seed, index)))
        return torch.from_numpy(self.source[rows])


def clip_weights(data: ImageSet, train: Indices) -> Tensor:
    """The weight of each clip in the loss, (n,), float32, with mean 1 over the clips in `train`, 0 for the others.

    Both genders weigh the same, in total and within each corpus that has both, so that the sound of a corpus does not
    predict the gender. A corpus weighs as much as the square root of its number of speakers, or SINGLE_GENDER_WEIGHT
    of that if it has a single gender. A speaker with n clips weighs as much as the square root of n within a gender of
    a corpus, and the clips of one speaker weigh the same.
    """
    corpora, labels, speakers = combine.corpora(data).numbers[train], data.labels[train], data.people[1][train]
    shares = np.zeros(len(train))
    for corpus in np.unique(corpora):
        own = corpora == corpus
        genders = np.unique(labels[own])
        size = math.sqrt(len(np.unique(speakers[own]))) * (1.0 if len(genders) > 1 else SINGLE_GENDER_WEIGHT)
        for label in genders:
            cell = own & (labels == label)
            _, speaker, clips = np.unique(speakers[cell], return_inverse=True, return_counts=True)
            each = 1 / np.sqrt(clips[speaker])
            shares[cell] = size * each / each.sum()
    for label in np.unique(labels):
        shares[labels == label] /= shares[labels == label].sum()
    weights = torch.zeros(len(data))
    weights[torch.from_numpy(train)] = torch.from_numpy(shares / shares.mean()).to(torch.float32)
    return weights


def weighted_loss(output: Tensor, y: Tensor, weights: Tensor, smoothing: float = 0.0) -> Tensor:
    """The mean cross-entropy, in nats, of logits, (n, 2), and labels, (n,), int64, with `weights`, (n,), float32.

    `smoothing`: the share of each label that is spread over both classes (Szegedy et al., CVPR 2016).
    """
    each = nn.functional.cross_entropy(output, y, reduction="none", label_smoothing=smoothing)
    return (each * weights).sum() / weights.sum()

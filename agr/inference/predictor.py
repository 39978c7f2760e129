"""From samples to probabilities: what `predict`, `evaluate` and MLflow's servers share.

probabilities = of_clips([y], bundle)             # y: mono float32 at bundle.card.recipe.sample_rate
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agr.inference.bundle import Bundle
from agr.recipes import encode
from agr.training.model import predict_logits

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Heard:
    """What a model says about n clips.

    Attributes:
        probabilities: In the order of CLASSES, (n, 2), float64.
        speech: Seconds of voiced speech in each clip, (n,), float64.
    """

    probabilities: NDArray[np.float64]
    speech: NDArray[np.float64]


def of_clips(clips: Sequence[NDArray[np.float32]], bundle: Bundle) -> NDArray[np.float64]:
    """Probabilities of clips of any length: (len(clips), 2), float64, in the order of CLASSES."""
    return hear(clips, bundle).probabilities


def hear(clips: Sequence[NDArray[np.float32]], bundle: Bundle) -> Heard:
    """Probabilities and seconds of speech of clips of any length.

    A clip longer than a second is read in windows. Its logits are the mean of the windows' logits, weighted by how
    much of the clip's speech each window holds.

    Args:
        clips: Mono float32, each (n,), at the recipe's rate.
        bundle: The model.
    """
    with _one_thread():
        cut = list(encode.cut_clips(clips, bundle.card.recipe))
        logits = logits_of(np.concatenate([windows.images for windows in cut]), bundle)  # (windows, 2)
    ends = np.cumsum([len(windows.images) for windows in cut])[:-1]
    each = zip(cut, np.split(logits, ends), strict=True)
    odds = np.stack([windows.weights @ own for windows, own in each])
    return Heard(softmax(odds), np.array([windows.speech for windows in cut]))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch to one thread: its idle threads busy-wait and make numpy several times slower on small batches."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def logits_of(pixels: NDArray[np.uint8], bundle: Bundle) -> NDArray[np.float64]:
    """Calibrated logits of images, (n, *IMAGE_SHAPE) uint8: (n, 2), float64."""
    logits = predict_logits(bundle.model, pixels, np.arange(len(pixels)), CPU)
    return logits.numpy().astype(np.float64) / bundle.card.temperature


def of_images(pixels: NDArray[np.uint8], bundle: Bundle) -> NDArray[np.float64]:
    """Probabilities of images, (n, *IMAGE_SHAPE) uint8: (n, 2), float64."""
    return softmax(logits_of(pixels, bundle))


def softmax(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Rows of logits to rows of probabilities, float64."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))

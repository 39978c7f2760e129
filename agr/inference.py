"""From samples to probabilities: what `predict`, `evaluate` and MLflow's servers share.

probabilities = of_clips([y], bundle)             # y: mono float32 at bundle.card.recipe.sample_rate
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agr import recipe
from agr.bundle import Bundle
from agr.training import predict_logits

CPU = torch.device("cpu")
WINDOWS_AT_ONCE = 256  # the spectra of so many take about 250 MB; an hour of sound has 7,200 windows


def of_clips(clips: Sequence[NDArray[np.float32]], bundle: Bundle) -> NDArray[np.float64]:
    """Probabilities of clips of any length: (len(clips), 2), float64, in the order of CLASSES.

    A clip longer than the recipe's window is read in windows, and the probabilities of its windows are averaged.
    """
    cut = [recipe.windows(y, bundle.card.recipe) for y in clips]
    pixels = _images([window for windows in cut for window in windows], bundle.card.recipe)
    owner = np.repeat(np.arange(len(clips)), [len(windows) for windows in cut])
    with _one_thread():
        each = of_images(pixels, bundle)  # (windows, 2)
    sums = np.zeros((len(clips), each.shape[1]))
    np.add.at(sums, owner, each)
    return np.asarray(sums / np.bincount(owner)[:, None])


def _images(windows: Sequence[NDArray[np.float32]], wanted: recipe.Recipe) -> NDArray[np.uint8]:
    starts = range(0, len(windows), WINDOWS_AT_ONCE)
    return np.concatenate([recipe.images(windows[start : start + WINDOWS_AT_ONCE], wanted) for start in starts])


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch to one thread: its idle ones spin, and on small batches slow numpy's down several times over."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def of_images(pixels: NDArray[np.uint8], bundle: Bundle) -> NDArray[np.float64]:
    """Probabilities of images, (n, *IMAGE_SHAPE) uint8: (n, 2), float64."""
    logits = predict_logits(bundle.model, pixels, np.arange(len(pixels)), CPU)
    return softmax(logits.numpy())


def softmax(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Rows of logits to rows of probabilities, float64."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))

"""From samples or images to probabilities, for `predict`, `evaluate` and MLflow's servers.

probabilities = predict_proba([y], bundle)        # y: mono float32 at bundle.info.recipe.sample_rate
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from agr.common.threads import blas_on_one_thread
from agr.errors import RecipeError
from agr.inference.bundle import Bundle
from agr.inference.turns import shares_of_windows
from agr.recipes import encode
from agr.training.model import predict_logits

if TYPE_CHECKING:
    from agr.data.image_set import ImageSet
    from agr.data.splits import Indices


@dataclass(frozen=True)
class Predictions:
    """What a model predicts for n clips."""

    probabilities: NDArray[np.float64]  # (n, 2), in the order of CLASSES
    speech: NDArray[np.float64]  # (n,), seconds of voiced speech
    shares: Sequence[tuple[float, float] | None]  # of each class in the speech of clips in which both speak


def predict_proba(clips: Sequence[NDArray[np.float32]], bundle: Bundle) -> NDArray[np.float64]:
    """Probabilities of clips of any length: (len(clips), 2), float64, in the order of CLASSES."""
    return predict(clips, bundle).probabilities


def predict(clips: Sequence[NDArray[np.float32]], bundle: Bundle) -> Predictions:
    """Probabilities and seconds of speech of clips of any length: mono float32, each (n,), at the recipe's rate.

    A clip longer than a second is read in windows. Its logits are the mean of the windows' logits, weighted by how
    much of the clip's speech each window holds.
    """
    with one_thread():
        encoded = list(encode.cut_clips(clips, bundle.info.recipe))
        logits = logits_of_images(np.concatenate([windows.images for windows in encoded]), bundle)  # (windows, 2)
    ends = np.cumsum([len(windows.images) for windows in encoded])[:-1]
    by_clip = list(zip(encoded, np.split(logits, ends), strict=True))
    means = np.stack([windows.weights @ each for windows, each in by_clip])  # (len(clips), 2)
    shares = [shares_of_windows(each[:, 0] - each[:, 1], windows.weights) for windows, each in by_clip]
    return Predictions(softmax(means), np.array([windows.speech for windows in encoded]), shares)


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch and BLAS on one thread: idle threads busy-wait, and make numpy several times slower on small batches."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with blas_on_one_thread():
            yield
    finally:
        torch.set_num_threads(threads)


def logits_of_images(pixels: NDArray[np.uint8], bundle: Bundle) -> NDArray[np.float64]:
    """Calibrated logits of images, (n, *image_shape) uint8: (n, 2), float64."""
    logits = predict_logits(bundle.folded, pixels, np.arange(len(pixels)), torch.device("cpu"))
    return logits.numpy().astype(np.float64) / bundle.info.temperature


def logits_of_clips(data: ImageSet, rows: Indices, bundle: Bundle) -> NDArray[np.float64]:
    """Calibrated logits of clips of an image set, (m,), as `predict` gives them: (m, 2), float64.

    Raises: RecipeError if the images are made by another recipe, unless both keep the same voice features.
    """
    from agr.training.whole_clips import clip_logits  # not at the top: a prediction does not need what it imports

    recipe = bundle.info.recipe
    if data.recipe != recipe and not (data.features is not None and recipe.keeps_features):
        raise RecipeError(f"{data.name}: images of recipe {data.recipe.name}; expected {recipe.name}")
    logits = clip_logits(bundle.model, data, rows, torch.device("cpu"), recipe)
    return logits.numpy().astype(np.float64) / bundle.info.temperature


def predict_images(pixels: NDArray[np.uint8], bundle: Bundle) -> NDArray[np.float64]:
    """Probabilities of images, (n, *image_shape) uint8: (n, 2), float64."""
    return softmax(logits_of_images(pixels, bundle))


def softmax(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Rows of logits to rows of probabilities, float64."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))

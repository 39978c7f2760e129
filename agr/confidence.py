"""How often a model is right at each level of confidence.

    bins(probabilities, labels).ece

This is apart from `agr.calibration`, so that training does not have to import scipy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15  # as in Guo et al., On Calibration of Modern Neural Networks, ICML 2017

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Bins:
    """Clips in bins of confidence; bins without clips are left out.

    Attributes:
        confidence: The mean confidence in each bin, (k,), 0..1.
        accuracy: The share of clips answered correctly in each bin, (k,), 0..1.
        share: The share of all clips in each bin, (k,), 0..1.
    """

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    share: NDArray[np.float64]

    @property
    def ece(self) -> float:
        """Expected calibration error, 0..1: the mean gap between confidence and accuracy, weighted by share."""
        return float(self.share @ np.abs(self.accuracy - self.confidence))


@dataclass(frozen=True)
class Coverage:
    """How many clips are answered, and how well, if only those above a threshold of confidence are.

    Attributes:
        share: The share of clips answered, (k,), for falling thresholds.
        accuracy: The accuracy on these clips, (k,).
        marks: For a few thresholds: threshold, share and accuracy (NaN if no clip reaches it).
    """

    share: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    marks: tuple[tuple[float, float, float], ...]


def bins(probabilities: Floats, labels: NDArray[np.int64]) -> Bins:
    """Sort clips into BINS bins of confidence of equal width; each bin includes its upper edge.

    With two classes, confidence is at least 0.5, so that only the upper bins hold clips.

    Args:
        probabilities: (n, 2), n > 0.
        labels: (n,), int64.
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    inner = np.linspace(0, 1, BINS + 1)[1:-1]
    place = np.searchsorted(inner, confidence)
    counts = np.bincount(place, minlength=BINS)
    there = counts > 0
    sums = (np.bincount(place, weights=values, minlength=BINS)[there] for values in (confidence, right))
    sure, accuracy = (values / counts[there] for values in sums)
    return Bins(sure, accuracy, counts[there] / len(labels))

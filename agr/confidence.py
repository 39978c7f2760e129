"""How often a model is right when it is so and so sure.

    bins(probabilities, labels).ece

Apart from `agr.calibration`, which fits a temperature, so that training measures this without an optimiser.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15  # as many as Guo et al. (On Calibration of Modern Neural Networks, ICML 2017) take

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Bins:
    """Clips by how sure the model is. confidence, accuracy: (k,), means of each bin that holds clips; share: (k,)."""

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    share: NDArray[np.float64]

    @property
    def ece(self) -> float:
        """Expected calibration error, 0..1: the mean gap between confidence and accuracy, weighed by the share."""
        return float(self.share @ np.abs(self.accuracy - self.confidence))


@dataclass(frozen=True)
class Coverage:
    """Of the clips answered, when only those at least so sure are: share, accuracy: (k,), the surest alone first.

    marks: of some thresholds of confidence, the threshold, share and accuracy (NaN where no clip reaches it).
    """

    share: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    marks: tuple[tuple[float, float, float], ...]


def bins(probabilities: Floats, labels: NDArray[np.int64]) -> Bins:
    """Clips in BINS equally wide bins of confidence, each with its upper edge.

    probabilities: (n, 2). labels: (n,), n > 0.
    Of two classes the likelier has 0.5 and more, so that only the upper bins hold clips.
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    inner = np.linspace(0, 1, BINS + 1)[1:-1]
    place = np.searchsorted(inner, confidence)
    counts = np.bincount(place, minlength=BINS)
    there = counts > 0
    sums = (np.bincount(place, weights=values, minlength=BINS)[there] for values in (confidence, right))
    sure, accuracy = (values / counts[there] for values in sums)
    return Bins(sure, accuracy, counts[there] / len(labels))

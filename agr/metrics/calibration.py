"""Calibration: measure how reliable a model's probabilities are, and correct them by a temperature.

    found = fit(logits, labels)                       # of validation clips
    probabilities = softmax(logits / found["temperature"])

Dividing all logits by one temperature changes a model's confidence, not its answers (Guo et al., On Calibration of
Modern Neural Networks, ICML 2017). It is fitted on validation speakers, or on corpora left out in turn.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_softmax, softmax

BINS = 15  # as in Guo et al.
Floats = NDArray[np.floating[Any]]
LOWEST, HIGHEST = 0.05, 50.0  # of the temperature
TOLERANCE = 1e-6  # of its logarithm
THRESHOLDS = (0.7, 0.8, 0.9)  # of confidence, at which coverage and accuracy are reported


def fit_temperature(logits: Floats, labels: NDArray[np.int64]) -> float:
    """The temperature that minimises the negative log likelihood in which both genders count the same.

    Logits are (n, 2), n > 0, labels (n,) int64; the temperature is LOWEST to HIGHEST.
    """
    return fit_across([(logits, labels)])


def fit_across(sets: Sequence[tuple[Floats, NDArray[np.int64]]]) -> float:
    """As `fit_temperature`, for several sets of logits and labels, each of which counts the same.

    The target probability of a gender with n clips is (n + 1) / (n + 2) instead of 1 (Platt, Probabilistic Outputs for
    Support Vector Machines, 1999). Otherwise a model without mistakes would get a temperature of 0.
    """
    margins, targets, weights = (
        np.concatenate(parts) for parts in zip(*itertools.starmap(_likelihood, sets), strict=True)
    )

    def slope(log_temperature: float) -> float:
        """The derivative of the log likelihood by 1 / temperature, in which it is concave."""
        return float(np.sum((targets - expit(margins / np.exp(log_temperature))) * margins * weights))

    low, high = float(np.log(LOWEST)), float(np.log(HIGHEST))
    while high - low > TOLERANCE:  # bisection, because importing scipy.optimize takes longer
        middle = (low + high) / 2
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return float(np.exp((low + high) / 2))


def _likelihood(logits: Floats, labels: NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
    """How far each clip is on the side of its label, the target of its probability there, and its weight: (n,) each."""
    counts = np.bincount(labels, minlength=2)
    own, rows = counts[labels], np.arange(len(labels))
    margins = logits[rows, labels].astype(np.float64) - logits[rows, 1 - labels]
    return margins, (own + 1) / (own + 2), 1 / (own * np.count_nonzero(counts))


def fit(logits: Floats, labels: NDArray[np.int64], given: float | None = None) -> dict[str, float]:
    """`temperature` for logits, (n, 2), and labels, (n,), `bins`, and `metrics` of `val_before` and `val_after` it.

    given: A temperature that was fitted elsewhere, such as by `fit_across` on corpora left out.
    """
    found = fit_temperature(logits, labels) if given is None else given
    before, after = metrics(logits, labels, "val_before"), metrics(logits / found, labels, "val_after")
    return {"temperature": found, "bins": BINS, "given": given is not None} | before | after


def metrics(logits: Floats, labels: NDArray[np.int64], side: str) -> dict[str, float]:
    """`ece_SIDE`, 0..1, over BINS bins, and `nll_SIDE`, the `balanced_nll`, of logits, (n, 2), for labels, (n,)."""
    return {f"ece_{side}": bins(softmax(logits, axis=1), labels).ece, f"nll_{side}": balanced_nll(logits, labels)}


def balanced_nll(logits: Floats, labels: NDArray[np.int64]) -> float:
    """The negative log likelihood, in nats, of labels (n,) under logits (n, 2): the mean of both genders' means."""
    each = -log_softmax(np.asarray(logits, dtype=np.float64), axis=1)
    own = each[np.arange(len(labels)), labels]
    return float(np.mean([own[labels == label].mean() for label in np.unique(labels)]))


def coverage(probabilities: Floats, labels: NDArray[np.int64]) -> Coverage:
    """Share of clips answered and their accuracy; probabilities are (n, 2), n > 0, labels (n,) int64."""
    confidence = probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    right = np.cumsum((probabilities.argmax(axis=1) == labels)[order])
    clips = np.arange(1, len(labels) + 1)
    last = np.append(np.diff(confidence[order]) != 0, True)  # clips of equal confidence are answered together
    marks = tuple((threshold, *coverage_at(probabilities, labels, threshold)) for threshold in THRESHOLDS)
    return Coverage(clips[last] / len(labels), right[last] / clips[last], marks)


def coverage_at(probabilities: Floats, labels: NDArray[np.int64], threshold: float) -> tuple[float, float]:
    """The share of clips whose confidence reaches the threshold, and their accuracy, NaN if there are none."""
    sure = probabilities.max(axis=1) >= threshold
    right = probabilities.argmax(axis=1)[sure] == labels[sure]
    return float(sure.mean()), float(right.mean()) if sure.any() else float("nan")


def summarize(found: Mapping[str, float]) -> str:
    """The results of `fit` and of `metrics` for the test side, as sentences."""
    v = {key: f"{value:.4f}" for key, value in found.items()}
    origin = "given to the search" if found.get("given") else "fitted on validation speakers"
    return (
        f"Temperature {v['temperature']}, {origin}. Expected calibration error over {BINS} "
        f"equally wide bins of confidence (Guo et al., 2017): validation {v['ece_val_before']} before and "
        f"{v['ece_val_after']} after, test {v['ece_test']}. Negative log likelihood, both genders counting the same: "
        f"validation {v['nll_val_before']} and {v['nll_val_after']}, test {v['nll_test']}."
    )


@dataclass(frozen=True)
class Bins:
    """Mean confidence, accuracy and share of all clips, each (k,), 0..1, of the k non-empty bins of confidence."""

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    share: NDArray[np.float64]

    @property
    def ece(self) -> float:
        """Expected calibration error, 0..1: the mean gap between confidence and accuracy, weighted by share."""
        return float(self.share @ np.abs(self.accuracy - self.confidence))


@dataclass(frozen=True)
class Coverage:
    """The share of clips answered, (k,), and the accuracy on them, (k,), for falling thresholds of confidence.

    `marks` holds (threshold, share, accuracy) for THRESHOLDS, the accuracy NaN if no clip reaches one.
    """

    share: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    marks: tuple[tuple[float, float, float], ...]


def bins(probabilities: Floats, labels: NDArray[np.int64]) -> Bins:
    """Sort clips into BINS bins of confidence of equal width; each bin includes its upper edge.

    Probabilities are (n, 2), n > 0, labels (n,) int64. Confidence is at least 0.5: only the upper bins hold clips.
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    place = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], confidence)
    counts = np.bincount(place, minlength=BINS)
    there = counts > 0
    sums = (np.bincount(place, weights=values, minlength=BINS)[there] for values in (confidence, right))
    sure, accuracy = (values / counts[there] for values in sums)
    return Bins(sure, accuracy, counts[there] / len(labels))

"""Trains a classifier on the features of a public tool and scores it on the test side of splits.

    result = compete(EXTRACTORS["praat"], features, voices, [split])
    result.balanced_accuracy, result.together.balanced_accuracy_ci95

A median pitch is compared with a threshold, other features get
logistic regression; both learn from training clips only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agr.baselines.extractors import Extractor, Vector
from agr.data.splits import Indices, Labelled, Split
from agr.errors import CorpusError
from agr.labels import CLASSES
from agr.metrics.scoring import Scores, score

NO_ANSWER = -1
Answers = NDArray[np.int64]


@dataclass(frozen=True)
class Result:
    """The scores of one tool: of each fold, and of the test clips of all folds together.

    `unanswered` is the share of test clips without an answer, `hz` the threshold of each fold, if it has one.
    """

    rival: Extractor
    folds: tuple[Scores, ...]
    together: Scores
    unanswered: float
    hz: tuple[float, ...]

    @property
    def balanced_accuracy(self) -> float:
        """The mean over folds."""
        return float(np.mean([fold.balanced_accuracy for fold in self.folds]))


def threshold(pitch: Vector, labels: NDArray[np.int64]) -> float:
    """The pitch in Hz from which upwards a voice is best called a woman's, by balanced accuracy; the lowest of equals.

    Args:
        pitch: (n,) in Hz; NaN, where none was found, is wrong with any threshold.
        labels: (n,).

    Raises:
        CorpusError: if all are NaN.
    """
    known = np.unique(pitch[np.isfinite(pitch)])  # ascending
    if not len(known):
        raise CorpusError(f"no pitch in any of {len(pitch)} training clips; expected voices")
    cuts = np.concatenate([known[:1], (known[1:] + known[:-1]) / 2])  # (k,)
    women, men = (np.sort(pitch[(labels == label) & np.isfinite(pitch)]) for label in range(len(CLASSES)))
    right_women = len(women) - np.searchsorted(women, cuts)  # (k,), clips at or above each cut
    right_men = np.searchsorted(men, cuts)
    totals = np.maximum(np.bincount(labels, minlength=2), 1)
    return float(cuts[np.argmax(right_women / totals[0] + right_men / totals[1])])


def by_threshold(pitch: Vector, hz: float) -> Answers:
    """Classify pitches, (n,) in Hz: returns (n,) indices into CLASSES, women from `hz` upwards, NO_ANSWER for NaN."""
    return np.where(np.isfinite(pitch), np.where(pitch >= hz, 0, 1), NO_ANSWER)


def by_regression(train: Vector, labels: NDArray[np.int64], test: Vector) -> Answers:
    """Logistic regression on standardised features, with both genders weighted equally.

    Args:
        train: (n, d).
        labels: (n,).
        test: (m, d).

    Returns:
        (m,) indices into CLASSES, NO_ANSWER where a feature is NaN.

    Raises:
        CorpusError: if a gender has no training clip with features.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    whole, heard = np.isfinite(train).all(axis=1), np.isfinite(test).all(axis=1)
    if len(np.unique(labels[whole])) < len(CLASSES):
        raise CorpusError(f"features of {whole.sum()} of {len(train)} training clips; expected some of both genders")
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=5_000))
    model.fit(train[whole], labels[whole])
    answers = np.full(len(test), NO_ANSWER, dtype=np.int64)
    if heard.any():
        answers[heard] = model.predict(test[heard])
    return answers


def compete(rival: Extractor, features: Vector, voices: Labelled, sides: Sequence[Split]) -> Result:
    """Train on each split's training clips and score its test clips; `features` is (n, d)."""
    rounds = [_answers(rival, features, voices.labels, split) for split in sides]
    tested = np.concatenate([split.test for split in sides])
    given = np.concatenate([answers for answers, _ in rounds])
    return Result(
        rival,
        tuple(_score(answers, voices, split.test) for (answers, _), split in zip(rounds, sides, strict=True)),
        _score(given, voices, tested),
        float((given == NO_ANSWER).mean()),
        tuple(hz for _, hz in rounds if hz is not None),
    )


def _answers(
    rival: Extractor, features: Vector, labels: NDArray[np.int64], split: Split
) -> tuple[Answers, float | None]:
    """The answers to a split's test clips, and the threshold that gave them."""
    if not rival.pitch:
        return by_regression(features[split.train], labels[split.train], features[split.test]), None
    pitch = features[:, 0]
    hz = threshold(pitch[split.train], labels[split.train]) if rival.hz is None else rival.hz
    return by_threshold(pitch[split.test], hz), hz


def _score(answers: Answers, voices: Labelled, rows: Indices) -> Scores:
    """Scores in which NO_ANSWER counts as the wrong answer."""
    labels = voices.labels[rows]
    counted = np.where(answers == NO_ANSWER, 1 - labels, answers)
    return score(labels, np.eye(len(CLASSES))[counted], voices.speakers[rows])

"""Train a classifier on the features of a public tool and score it on the test clips of each split.

    result = cross_validate(EXTRACTORS["praat"], features, recordings, [split])
    result.balanced_accuracy, result.pooled.balanced_accuracy_ci95

A median pitch gets a threshold, other features a logistic regression; both are trained on training clips only.
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
UNIT_C = 100.0  # inverse strength of regularisation where features are small, as in vectors of length 1
Answers = NDArray[np.int64]


@dataclass(frozen=True)
class Result:
    """The scores of one tool for each fold, and `pooled` over the test clips of all folds.

    `unanswered` is the share of test clips without an answer; `hz` has the pitch threshold of each fold, if any.
    """

    extractor: Extractor
    folds: tuple[Scores, ...]
    pooled: Scores
    unanswered: float
    hz: tuple[float, ...]

    @property
    def balanced_accuracy(self) -> float:
        """The mean over folds."""
        return float(np.mean([fold.balanced_accuracy for fold in self.folds]))


def fit_threshold(pitch: Vector, labels: NDArray[np.int64]) -> float:
    """The pitch threshold in Hz with the best balanced accuracy, women above; the lowest of equally good ones.

    `pitch` is (n,) in Hz, NaN where none was found, which counts as wrong. Raises: CorpusError if all are NaN.
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
    """Classify pitches, (n,) in Hz, as (n,) indices into CLASSES: women from `hz` upwards, NO_ANSWER for NaN."""
    return np.where(np.isfinite(pitch), np.where(pitch >= hz, 0, 1), NO_ANSWER)


def by_regression(train: Vector, labels: NDArray[np.int64], test: Vector, standardised: bool = True) -> Answers:
    """Logistic regression on features, standardised unless they are of unit length, both genders weighted equally.

    Trains on (n, d) features and (n,) labels; returns (m,) indices into CLASSES for (m, d) test features, NO_ANSWER
    where a feature is NaN. Raises: CorpusError if a gender has no training clip with features.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    usable, answerable = np.isfinite(train).all(axis=1), np.isfinite(test).all(axis=1)
    if len(np.unique(labels[usable])) < len(CLASSES):
        raise CorpusError(f"features of {usable.sum()} of {len(train)} training clips; expected some of both genders")
    regression = LogisticRegression(class_weight="balanced", max_iter=5_000, C=1.0 if standardised else UNIT_C)
    model = make_pipeline(StandardScaler(), regression) if standardised else regression
    model.fit(train[usable], labels[usable])
    answers = np.full(len(test), NO_ANSWER, dtype=np.int64)
    if answerable.any():
        answers[answerable] = model.predict(test[answerable])
    return answers


def cross_validate(extractor: Extractor, features: Vector, data: Labelled, splits: Sequence[Split]) -> Result:
    """Train on each split's training clips and score its test clips; `features` is (n, d)."""
    answers, hz = [], []
    for split in splits:
        train, labels, test = features[split.train], data.labels[split.train], features[split.test]
        if extractor.pitch:
            hz.append(fit_threshold(train[:, 0], labels) if extractor.hz is None else extractor.hz)
            answers.append(by_threshold(test[:, 0], hz[-1]))
        else:
            answers.append(by_regression(train, labels, test, not extractor.unit))
    given = np.concatenate(answers)
    return Result(
        extractor,
        tuple(_score(own, data, split.test) for own, split in zip(answers, splits, strict=True)),
        _score(given, data, np.concatenate([split.test for split in splits])),
        float((given == NO_ANSWER).mean()),
        tuple(hz),
    )


def _score(answers: Answers, data: Labelled, rows: Indices) -> Scores:
    """Scores with NO_ANSWER counted as wrong."""
    labels = data.labels[rows]
    counted = np.where(answers == NO_ANSWER, 1 - labels, answers)
    return score(labels, np.eye(len(CLASSES))[counted], data.speakers[rows])

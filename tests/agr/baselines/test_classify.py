"""Thresholds and regressions: optimal, trained on training clips only, and scored with missing answers as wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from numpy.typing import NDArray

from agr.baselines.classify import NO_ANSWER, by_regression, by_threshold, cross_validate, fit_threshold
from agr.baselines.compare import Recordings
from agr.baselines.extractors import Extract, Extractor
from agr.data.splits import Split
from agr.errors import CorpusError
from agr.metrics.scoring import score

NONE = np.nan


def never() -> Extract:
    raise AssertionError("features are given, no library is to be loaded")


PITCH = Extractor("tuner", "Tuner", "numpy", (), never, pitch=True)
VECTOR = Extractor("vector", "Vector", "numpy", ("sklearn",), never)


def voices(labels: Sequence[int], clips: int = 1) -> Recordings:
    """One speaker an entry, with as many clips each."""
    repeated = np.repeat(np.array(labels, dtype=np.int64), clips)
    names = np.repeat([f"made/{k}" for k in range(len(labels))], clips)
    digests = np.array([f"{k:032x}" for k in range(len(repeated))])
    return Recordings("made", repeated, names, digests, [{}] * len(repeated), [Path("x.wav")] * len(repeated), True)


def sides(train: Sequence[int], test: Sequence[int]) -> Split:
    return Split("by-hand", np.array(train), np.zeros(0, dtype=np.int64), np.array(test))


def column(*values: float) -> NDArray[np.float64]:
    return np.array(values)[:, None]


def balanced(pitch: NDArray[np.float64], labels: NDArray[np.int64], hz: float) -> float:
    """The plain definition, clip by clip."""
    recalls = []
    for label in (0, 1):
        own = [value for value, truth in zip(pitch, labels, strict=True) if truth == label]
        recalls.append(sum((value >= hz) if label == 0 else (value < hz) for value in own) / len(own))
    return float(np.mean(recalls))


@pytest.mark.parametrize("seed", range(6))
def test_fitted_threshold_has_the_best_balanced_accuracy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [9, 40])
    pitch = rng.normal(np.where(labels == 0, 200, 150), 40)
    pitch[rng.random(len(pitch)) < 0.2] = NONE
    tried = [balanced(pitch, labels, hz) for hz in np.arange(0, 500, 0.2)]
    assert balanced(pitch, labels, fit_threshold(pitch, labels)) == pytest.approx(max(tried))


@pytest.mark.parametrize(
    ("pitch", "labels", "expected"),
    [
        ([220, 120], [0, 1], 170),
        ([220, 120, 120, 120, 200], [0, 1, 1, 1, 0], 160),
        ([220, 120, NONE, NONE], [0, 1, 1, 0], 170),
        ([150, 150], [0, 1], 150),  # whatever is said, half of it is wrong
        ([100, 200, 300, 400], [1, 0, 1, 0], 150),  # 150 and 350 do equally well
    ],
)
def test_threshold_is_the_midpoint_between_neighbouring_pitches(
    pitch: list[float], labels: list[int], expected: float
) -> None:
    assert fit_threshold(np.array(pitch, dtype=np.float64), np.array(labels)) == expected


def test_training_clips_without_pitch_are_refused() -> None:
    with pytest.raises(CorpusError, match=r"^no pitch in any of 2 training clips; expected voices$"):
        fit_threshold(np.array([NONE, NONE]), np.array([0, 1]))


def test_pitch_at_the_threshold_is_female_and_nan_has_no_answer() -> None:
    answers = by_threshold(np.array([155.0, 154.9, 400.0, NONE]), 155)
    assert answers.tolist() == [0, 1, 0, NO_ANSWER]


def test_test_speakers_do_not_influence_the_threshold() -> None:
    data = voices([0, 1, 0, 1], clips=5)
    low_women = np.repeat([220.0, 120.0, 130.0, 210.0], 5)[:, None]  # the test speakers contradict the others
    split = sides(range(10), range(10, 20))
    result = cross_validate(PITCH, low_women, data, [split])
    assert result.hz == (170,)
    assert result.balanced_accuracy == 0
    usual = np.repeat([220.0, 120.0, 230.0, 110.0], 5)[:, None]
    assert cross_validate(PITCH, usual, data, [split]).hz == (170,)


def test_validation_speakers_do_not_influence_the_threshold() -> None:
    data = voices([0, 1, 0, 1, 0, 1])
    split = Split("by-hand", np.array([0, 1]), np.array([2, 3]), np.array([4, 5]))
    assert cross_validate(PITCH, column(220, 120, 130, 210, 250, 100), data, [split]).hz == (170,)


def test_fixed_threshold_is_not_trained() -> None:
    given = Extractor("tuner", "Tuner", "numpy", (), never, pitch=True, hz=155.0)
    result = cross_validate(given, column(500, 400, 160, 150), voices([0, 1, 0, 1]), [sides([0, 1], [2, 3])])
    assert (result.hz, result.balanced_accuracy) == ((155.0,), 1.0)


def test_clips_without_an_answer_count_as_wrong() -> None:
    data = voices([0, 1, 0, 1], clips=4)
    pitch = np.repeat([220.0, 120.0, 220.0, 120.0], 4)[:, None]
    pitch[8:11], pitch[12] = NONE, NONE  # three clips of the woman who tests, one of the man
    result = cross_validate(PITCH, pitch, data, [sides(range(8), range(8, 16))])
    assert result.unanswered == 0.5
    assert result.pooled.recall == {"female": 0.25, "male": 0.75}
    assert result.pooled.confusion == ((1, 3), (1, 3))
    assert result.balanced_accuracy == 0.5


def test_mean_is_over_folds_and_interval_over_all_test_speakers() -> None:
    data = voices([0, 1, 0, 1, 0, 1], clips=2)
    pitch = np.repeat([220.0, 120.0, 240.0, 110.0, 130.0, 100.0], 2)[:, None]
    folds = [sides(range(4), range(4, 8)), sides(range(4), range(8, 12))]
    result = cross_validate(PITCH, pitch, data, folds)
    assert [fold.balanced_accuracy for fold in result.folds] == [1.0, 0.5]
    assert result.balanced_accuracy == 0.75
    tested = np.arange(4, 12)
    answers = (pitch[tested, 0] < 170).astype(int)
    assert result.pooled == score(data.labels[tested], np.eye(2)[answers], data.speakers[tested])
    assert result.hz == (170, 170)


def cloud(labels: NDArray[np.int64], seed: int, apart: float = 3.0) -> NDArray[np.float64]:
    """Three features of very different scales; the last one tells the genders apart."""
    noise = np.random.default_rng(seed).normal(size=(len(labels), 3))
    noise[:, 2] += apart * (labels == 0)
    return np.asarray(noise * [1e6, 1, 1e-6])


def test_regression_is_independent_of_feature_scale() -> None:
    pytest.importorskip("sklearn")
    labels = np.repeat([0, 1], 200)
    answers = by_regression(cloud(labels, 1, apart=8), labels, cloud(labels, 2, apart=8))
    assert (answers == labels).mean() > 0.98


def bell(middle: float, count: int) -> NDArray[np.float64]:
    """As many values as asked for, spread as a normal distribution of width 1 has them."""
    return np.array([NormalDist(middle).inv_cdf((k + 0.5) / count) for k in range(count)])


def test_regression_weights_both_genders_equally() -> None:
    pytest.importorskip("sklearn")
    labels = np.repeat([0, 1], [100, 2_000])
    features = np.concatenate([bell(2, 100), bell(0, 2_000)])[:, None]
    right = by_regression(features, labels, features) == labels
    expected = NormalDist().cdf(1)  # the cut lies half way between the two bells
    assert [right[:100].mean(), right[100:].mean()] == pytest.approx([expected, expected], abs=0.02)


def test_regression_skips_clips_with_nan_features() -> None:
    pytest.importorskip("sklearn")
    labels = np.repeat([0, 1], 20)
    train, test = cloud(labels, 1, apart=9), cloud(labels, 2, apart=9)
    holes = train.copy()
    holes[3, 1], test[5, 0], test[30] = NONE, np.inf, NONE
    answers = by_regression(holes, labels, test)
    assert np.flatnonzero(answers == NO_ANSWER).tolist() == [5, 30]
    kept = np.arange(40) != 3
    assert (answers == by_regression(train[kept], labels[kept], test)).all()
    assert (by_regression(train, labels, test[[5, 30]]) == NO_ANSWER).all()


def test_regression_needs_both_genders() -> None:
    pytest.importorskip("sklearn")
    labels = np.array([0, 0, 1])
    with pytest.raises(CorpusError, match=r"^features of 2 of 3 training clips; expected some of both genders$"):
        by_regression(column(1, 2, NONE), labels, column(1))


def test_test_speakers_do_not_influence_the_regression() -> None:
    pytest.importorskip("sklearn")
    data = voices([0, 1, 0, 1], clips=10)
    turned = np.repeat([5.0, -5.0, -5.0, 5.0], 10)[:, None]
    result = cross_validate(VECTOR, turned, data, [sides(range(20), range(20, 40))])
    assert result.balanced_accuracy == 0
    assert result.hz == ()

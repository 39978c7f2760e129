"""Scores against scikit-learn, and the interval against a bootstrap written out by hand."""

from __future__ import annotations

import importlib
import json
import random
import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from agr.metrics.scoring import SpeakerScore, by_corpus, interval, score

Answers = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.str_]]


@pytest.fixture(scope="module")
def metrics() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("sklearn.metrics")


def answers(seed: int, women: int = 9, men: int = 14, skill: float = 1.0) -> Answers:
    """Clips of people who are easy or hard to tell, 3 to 12 each, in no order; probabilities (n, 2) sum to 1."""
    rng = np.random.default_rng(seed)
    clips = rng.integers(3, 13, size=women + men)
    owner = rng.permutation(np.repeat(np.arange(women + men), clips))
    labels = (owner >= women).astype(np.int64)
    ease = rng.normal(skill, 1.0, size=women + men)
    logit = np.where(labels == 1, 1, -1) * rng.normal(ease[owner], 1.0)
    male = 1 / (1 + np.exp(-logit))
    return labels, np.stack([1 - male, male], axis=1).astype(np.float32), np.array([f"made/{k:02}" for k in owner])


@pytest.mark.parametrize("seed", range(6))
def test_scores_agree_with_scikit_learn(metrics: Any, seed: int) -> None:
    labels, probabilities, speakers = answers(seed)
    found = score(labels, probabilities, speakers)
    said = probabilities[:, 1] > probabilities[:, 0]
    assert found.clips == len(labels)
    assert found.speakers == 23
    assert found.accuracy == pytest.approx(metrics.accuracy_score(labels, said), abs=1e-12)
    assert found.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(labels, said), abs=1e-12)
    assert found.recall["female"] == pytest.approx(metrics.recall_score(labels, said, pos_label=0), abs=1e-12)
    assert found.recall["male"] == pytest.approx(metrics.recall_score(labels, said, pos_label=1), abs=1e-12)
    assert np.array_equal(found.confusion, metrics.confusion_matrix(labels, said))


@pytest.mark.parametrize(("label", "there", "absent"), [(0, "female", "male"), (1, "male", "female")])
def test_single_gender_is_scored_by_its_recall(label: int, there: str, absent: str) -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.6, 0.4]], dtype=np.float32)  # f m f f
    found = score(np.full(4, label), probabilities, np.array(["a", "a", "b", "c"]))
    expected = (0.75, 0.25)[label]
    assert found.recall == {there: expected, absent: None}
    assert found.balanced_accuracy == found.accuracy == expected
    assert found.confusion[label] == (3, 1)
    assert found.confusion[1 - label] == (0, 0)
    low, high = found.balanced_accuracy_ci95
    assert 0 <= low <= expected <= high <= 1


@pytest.mark.parametrize(("right", "expected"), [(True, 1.0), (False, 0.0)])
def test_all_right_and_all_wrong(right: bool, expected: float) -> None:
    labels, _, speakers = answers(0)
    found = score(labels, np.eye(2)[labels if right else 1 - labels], speakers)
    assert found.accuracy == found.balanced_accuracy == expected
    low, high = found.balanced_accuracy_ci95
    assert low < high
    assert expected == pytest.approx(high if right else low, abs=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_scores_per_speaker(seed: int) -> None:
    labels, probabilities, speakers = answers(seed)
    tally: dict[str, list[bool]] = {}
    genders = {}
    for label, (female, male), speaker in zip(labels, probabilities, speakers, strict=True):
        tally.setdefault(speaker, []).append(bool(male > female) == bool(label))
        genders[speaker] = "male" if label else "female"
    assert score(labels, probabilities, speakers).per_speaker == {
        name: SpeakerScore(genders[name], len(own), sum(own) / len(own)) for name, own in tally.items()
    }


def test_order_of_the_clips_does_not_matter() -> None:
    labels, probabilities, speakers = answers(1)
    order = np.random.default_rng(0).permutation(len(labels))
    assert score(labels[order], probabilities[order], speakers[order]) == score(labels, probabilities, speakers)


def by_hand(labels: list[int], right: list[bool], speakers: list[str], resamples: int) -> tuple[float, float]:
    """Redraw the women, redraw the men, take all clips of those drawn, and score them; one resample at a time."""
    dice = random.Random(2024)
    people: dict[int, dict[str, list[bool]]] = {0: {}, 1: {}}
    for label, hit, speaker in zip(labels, right, speakers, strict=True):
        people[label].setdefault(speaker, []).append(hit)
    most = {label: sum(map(len, group.values())) / len(group) for label, group in people.items()}  # mean clips
    values = []
    for _ in range(resamples):
        recalls = []
        for label, group in people.items():
            hits, total = dice.gammavariate(0.5, 1), 0.0
            total += hits + dice.gammavariate(0.5, 1)
            for own in group.values():
                weight = dice.gammavariate(1, 1) * len(own) / most[label]
                hits, total = hits + weight * sum(own) / len(own), total + weight
            recalls.append(hits / total)
        values.append(sum(recalls) / 2)
    values.sort()
    return values[round(0.025 * resamples)], values[round(0.975 * resamples)]


@pytest.mark.parametrize(("seed", "women", "men"), [(0, 9, 14), (1, 20, 20), (2, 5, 30)])
def test_interval_equals_a_bayesian_bootstrap_over_speakers(seed: int, women: int, men: int) -> None:
    labels, probabilities, speakers = answers(seed, women, men)
    right = probabilities.argmax(axis=1) == labels
    low, high = interval(labels, right, speakers)
    assert high - low > 0.08
    expected = by_hand(labels.tolist(), right.tolist(), speakers.tolist(), resamples=3_000)
    assert (low, high) == pytest.approx(expected, abs=0.015)


@pytest.mark.parametrize("seed", range(8))
def test_interval_contains_the_score_and_repeats(seed: int) -> None:
    labels, probabilities, speakers = answers(seed)
    found = score(labels, probabilities, speakers)
    low, high = found.balanced_accuracy_ci95
    assert 0 <= low < found.balanced_accuracy < high <= 1
    assert score(labels, probabilities, speakers).balanced_accuracy_ci95 == (low, high)


def test_more_clips_of_the_same_people_do_not_narrow_the_interval() -> None:
    labels, probabilities, speakers = answers(3)
    right = probabilities.argmax(axis=1) == labels
    thrice = interval(np.tile(labels, 3), np.tile(right, 3), np.tile(speakers, 3))
    assert thrice == pytest.approx(interval(labels, right, speakers), abs=1e-12)


def test_more_people_narrow_the_interval() -> None:
    widths = []
    for women, men in ((6, 6), (60, 60)):
        labels, probabilities, speakers = answers(4, women, men)
        low, high = interval(labels, probabilities.argmax(axis=1) == labels, speakers)
        widths.append(high - low)
    assert widths[1] < 0.6 * widths[0]


def test_interval_of_one_speaker_per_gender_is_wide() -> None:
    labels, probabilities, speakers = answers(5, women=1, men=1)
    low, high = score(labels, probabilities, speakers).balanced_accuracy_ci95
    assert high - low > 0.5


def test_eight_of_eight_speakers_are_no_proof_of_perfection() -> None:
    labels = np.repeat([0, 1], 8)
    right, speakers = np.ones(16, dtype=np.bool_), np.array([f"made/{index}" for index in range(16)])
    low, high = interval(labels, right, speakers)
    assert 0.75 < low < 0.95
    assert high > 0.99


def test_scores_survive_json() -> None:
    found = score(*answers(6)).as_dict()
    back = json.loads(json.dumps(found))
    assert back["per_speaker"]["made/00"] == found["per_speaker"]["made/00"]
    assert back["confusion"] == [list(row) for row in found["confusion"]]
    assert back["balanced_accuracy"] == found["balanced_accuracy"]


def test_balanced_accuracy_by_corpus() -> None:
    people = {
        "a/1": SpeakerScore("female", 10, 1.0),
        "a/2": SpeakerScore("female", 30, 0.5),
        "a/3": SpeakerScore("male", 1, 0.0),
        "b/1": SpeakerScore("male", 4, 0.75),
    }
    assert by_corpus(people) == pytest.approx({"a": (0.625 + 0.0) / 2, "b": 0.75})

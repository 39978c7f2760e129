"""How good an answer is, clip by clip and person by person.

scores = score(labels, probabilities, speakers)
scores.balanced_accuracy, scores.balanced_accuracy_ci95
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agr.corpus import CLASSES

RESAMPLES = 2_000
TIE_DIGITS = 9  # the mean of two recalls carries rounding errors, which must not decide


@dataclass(frozen=True)
class SpeakerScore:
    """One person's clips: how many, and the share answered rightly."""

    gender: str
    clips: int
    accuracy: float


@dataclass(frozen=True)
class Scores:
    """Scores of one model on one set of clips.

    balanced_accuracy: the mean of the recalls of the genders that are there. balanced_accuracy_ci95: from
    resampling speakers, not clips. recall: None for a gender that is not there.
    confusion: rows are the true gender, columns the answer, in the order of CLASSES.
    """

    clips: int
    speakers: int
    accuracy: float
    balanced_accuracy: float
    balanced_accuracy_ci95: tuple[float, float]
    recall: dict[str, float | None]
    per_speaker: dict[str, SpeakerScore]
    confusion: tuple[tuple[int, int], tuple[int, int]]

    @property
    def measure(self) -> str:
        """What `balanced_accuracy` is: of one gender alone, its recall."""
        there = [name for name, value in self.recall.items() if value is not None]
        return "balanced accuracy" if len(there) > 1 else f"recall of {there[0]} voices alone"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def score(labels: NDArray[np.int64], probabilities: NDArray[np.floating[Any]], speakers: NDArray[np.str_]) -> Scores:
    """Score answers. labels: (n,). probabilities: (n, 2), in the order of CLASSES. speakers: (n,). n > 0."""
    answers = probabilities.argmax(axis=1)
    right = answers == labels
    confusion = np.zeros((2, 2), dtype=np.int64)
    np.add.at(confusion, (labels, answers), 1)
    recall = {
        name: float(confusion[index, index] / total) if (total := confusion[index].sum()) else None
        for index, name in enumerate(CLASSES)
    }
    (a, b), (c, d) = confusion.tolist()
    return Scores(
        clips=len(labels),
        speakers=len(np.unique(speakers)),
        accuracy=float(right.mean()),
        balanced_accuracy=float(np.mean([value for value in recall.values() if value is not None])),
        balanced_accuracy_ci95=interval(labels, right, speakers),
        recall=recall,
        per_speaker=_per_speaker(labels, right, speakers),
        confusion=((a, b), (c, d)),
    )


def interval(
    labels: NDArray[np.int64], right: NDArray[np.bool_], speakers: NDArray[np.str_], seed: int = 0
) -> tuple[float, float]:
    """95 % interval of the balanced accuracy: percentiles over speakers redrawn with replacement, by gender.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapter 13; the speaker is the unit,
    since clips of one person are not independent. With one speaker of a gender it cannot see between people.
    """
    rng = np.random.default_rng(seed)
    recalls = []
    for label in np.unique(labels):
        names, owner = np.unique(speakers[labels == label], return_inverse=True)
        hits = np.bincount(owner, weights=right[labels == label])  # (people,)
        clips = np.bincount(owner)  # (people,)
        drawn = rng.integers(len(names), size=(RESAMPLES, len(names)))
        recalls.append(hits[drawn].sum(axis=1) / clips[drawn].sum(axis=1))  # (RESAMPLES,)
    low, high = np.percentile(np.mean(recalls, axis=0), [2.5, 97.5])
    return float(low), float(high)


def _per_speaker(
    labels: NDArray[np.int64], right: NDArray[np.bool_], speakers: NDArray[np.str_]
) -> dict[str, SpeakerScore]:
    result = {}
    for name in np.unique(speakers):
        own = speakers == name
        gender = CLASSES[int(labels[own][0])]
        result[str(name)] = SpeakerScore(gender, int(own.sum()), float(right[own].mean()))
    return result


def by_corpus(per_speaker: Mapping[str, SpeakerScore]) -> dict[str, float]:
    """Balanced accuracy on each corpus's speakers, who are named `corpus/speaker`."""
    cells: dict[str, dict[str, list[SpeakerScore]]] = {}
    for name, who in per_speaker.items():
        cells.setdefault(name.split("/", 1)[0], {}).setdefault(who.gender, []).append(who)
    return {corpus: float(np.mean([_recall(people) for people in own.values()])) for corpus, own in cells.items()}


def _recall(people: Sequence[SpeakerScore]) -> float:
    return sum(who.clips * who.accuracy for who in people) / sum(who.clips for who in people)

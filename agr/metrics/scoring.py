"""Scores of a model's answers, over clips and for each speaker.

scores = score(labels, probabilities, speakers)
scores.balanced_accuracy, scores.balanced_accuracy_ci95
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agr.labels import CLASSES

RESAMPLES = 2_000
CHANCE = 0.5  # the balanced accuracy of a coin
PRIOR = 0.5  # weight of a person who is always answered rightly, and of one who never is (Jeffreys)
TIE_DIGITS = 9  # compared digits of mean recalls, so that rounding errors do not decide


@dataclass(frozen=True)
class SpeakerScore:
    """Gender, number of clips and accuracy of one speaker."""

    gender: str
    clips: int
    accuracy: float


@dataclass(frozen=True)
class Scores:
    """Scores of a model on a set of clips."""

    clips: int
    speakers: int
    accuracy: float
    balanced_accuracy: float  # the mean recall of the genders that occur, 0..1
    balanced_accuracy_ci95: tuple[float, float]  # its 95 % interval, by `interval`
    recall: dict[str, float | None]  # by gender; None for one that does not occur
    per_speaker: dict[str, SpeakerScore]
    # numbers of clips; rows are the true gender, columns the answer, in the order of CLASSES
    confusion: tuple[tuple[int, int], tuple[int, int]]

    @property
    def measure(self) -> str:
        """The name of `balanced_accuracy` for people: if only one gender occurs, it is its recall."""
        there = [name for name, value in self.recall.items() if value is not None]
        return "balanced accuracy" if len(there) > 1 else f"recall of {there[0]} voices alone"

    def hardest(self, most: int) -> list[tuple[str, SpeakerScore]]:
        """The speakers with a wrong answer, the hardest first, at most so many."""
        erred = ((name, who) for name, who in self.per_speaker.items() if who.accuracy < 1)
        return sorted(erred, key=lambda item: item[1].accuracy)[:most]

    def as_dict(self) -> dict[str, Any]:
        """All scores as plain values, ready for JSON."""
        return asdict(self)


def score(labels: NDArray[np.int64], probabilities: NDArray[np.floating[Any]], speakers: NDArray[np.str_]) -> Scores:
    """Score answers: labels (n,), n > 0, probabilities (n, 2) in the order of CLASSES, speaker names (n,)."""
    answers = probabilities.argmax(axis=1)
    right = answers == labels
    confusion = np.zeros((2, 2), dtype=np.int64)
    np.add.at(confusion, (labels, answers), 1)
    hits, totals = confusion.diagonal(), confusion.sum(axis=1)
    recall = {name: float(hits[i] / totals[i]) if totals[i] else None for i, name in enumerate(CLASSES)}
    (a, b), (c, d) = confusion.tolist()
    names, first, owner, clips = np.unique(speakers, return_index=True, return_inverse=True, return_counts=True)
    rates = np.bincount(owner, weights=right) / clips
    people = zip(names.tolist(), labels[first].tolist(), clips.tolist(), rates.tolist(), strict=True)
    return Scores(
        clips=len(labels),
        speakers=len(names),
        accuracy=float(right.mean()),
        balanced_accuracy=float(np.mean([value for value in recall.values() if value is not None])),
        balanced_accuracy_ci95=interval(labels, right, speakers),
        recall=recall,
        per_speaker={name: SpeakerScore(CLASSES[label], count, rate) for name, label, count, rate in people},
        confusion=((a, b), (c, d)),
    )


def interval(labels: NDArray[np.int64], right: NDArray[np.bool_], speakers: NDArray[np.str_]) -> tuple[float, float]:
    """The 95 % interval of the balanced accuracy, from RESAMPLES draws of a Bayesian bootstrap over speakers.

    In each draw the speakers of a gender get random weights (Rubin, 1981, Annals of Statistics 9(1), 130-134), because
    clips of one person are not independent. Two more people, one always right and one always wrong, have the weight
    PRIOR each, so that eight of eight do not become "1.0 to 1.0". Known limit: with a single speaker of a gender, the
    interval says little about differences between the speakers of that gender.
    Takes labels (n,), n > 0, whether each answer is right (n,), and speaker names (n,); returns both ends, 0..1.
    """
    rng = np.random.default_rng(0)
    recalls = []
    for label in np.unique(labels):
        names, owner = np.unique(speakers[labels == label], return_inverse=True)
        clips = np.bincount(owner) / (len(owner) / len(names))  # (speakers,), of mean 1
        hits = np.bincount(owner, weights=right[labels == label]) / np.maximum(np.bincount(owner), 1) * clips
        weights = rng.gamma(1.0, size=(RESAMPLES, len(names)))
        never, always = rng.gamma(PRIOR, size=(2, RESAMPLES))
        recalls.append((weights @ hits + always) / (weights @ clips + always + never))
    low, high = np.percentile(np.mean(recalls, axis=0), [2.5, 97.5])
    return float(low), float(high)


def by_corpus(per_speaker: Mapping[str, SpeakerScore]) -> dict[str, float]:
    """The balanced accuracy of each corpus, whose speakers are named `corpus/speaker`."""
    cells: dict[str, dict[str, list[SpeakerScore]]] = {}
    for name, who in per_speaker.items():
        cells.setdefault(name.split("/", 1)[0], {}).setdefault(who.gender, []).append(who)
    return {corpus: float(np.mean([_recall(people) for people in own.values()])) for corpus, own in cells.items()}


def _recall(people: Sequence[SpeakerScore]) -> float:
    return sum(who.clips * who.accuracy for who in people) / sum(who.clips for who in people)

"""What to know about clips and their split before training: where the number at the end will mean little."""

from __future__ import annotations

import math

import numpy as np

from agr.data.combine import corpora
from agr.data.splits import Labelled, Split
from agr.labels import CLASSES

FEW_PEOPLE = 10  # of a gender, for testing
SHARE_RIGHT = 0.9  # for which the interval is told
Z = 1.96  # of a normal distribution, for 95 %


def cautions(data: Labelled, split: Split) -> tuple[str, ...]:
    """Lines about corpora in which every clip has a speaker of its own, and about few people in the test."""
    lines = []
    owners, (_, people) = corpora(data), data.people
    for name in np.unique(owners).tolist():
        speakers = people[owners == name]
        if len(speakers) > 1 and len(np.unique(speakers)) == len(speakers):
            lines.append(
                f"{name}: each of its {len(speakers)} clips has a speaker of its own; people with several clips may be "
                "trained and tested on, so the result is too good, and its interval over speakers means nothing"
            )
    labels, tested = data.labels[split.test], people[split.test]
    women, men = (len(np.unique(tested[labels == label])) for label in range(len(CLASSES)))
    if len(split.test) and min(women, men) < FEW_PEOPLE:
        low, high = interval([count for count in (women, men) if count])
        lines.append(
            f"test: women {women}, men {men}; expected {FEW_PEOPLE} of each or more: of a balanced accuracy of "
            f"{SHARE_RIGHT:g}, the 95 % interval over speakers would be about {low:.2f} to {high:.2f}"
        )
    return tuple(lines)


def interval(people: list[int], share: float = SHARE_RIGHT) -> tuple[float, float]:
    """The 95 % interval of a balanced accuracy `share` that is measured on this many people of each gender.

    Each person counts as wholly right or wrong, since clips of one person are mostly answered alike. The mean over
    genders varies as one share of `n` people does, where 1/n is the mean over genders of 1/people, divided by their
    number; of it this is Wilson's interval (E. B. Wilson, J. Am. Stat. Assoc. 22, 1927).
    """
    n = len(people) ** 2 / sum(1 / count for count in people)
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2)) / (1 + Z**2 / n)
    return centre - half, centre + half

"""Whose turn it is: the likeliest order of women and men in a recording, and whether both speak in it.

The likeliest order is found by Viterbi's algorithm (1967, IEEE Transactions on Information Theory 13(2), 260-269), in
which every change of speaker costs something.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agr.recipes.base import FRAMES
from agr.recipes.speech import FRAME_SECONDS

Floats = NDArray[np.float64]

LEAST_SECONDS, LEAST_SHARE = 1.0, 0.1  # of speech: with less of it a gender is taken for a mistake
WINDOW_SECONDS = FRAMES // 2 * FRAME_SECONDS  # from one window of a clip to the next
CHANGE = 4.0  # log odds that a change of speaker costs between windows: one clip of a single person in 500 is `mixed`


def viterbi(evidence: Floats, costs: Floats) -> NDArray[np.int8]:
    """The likeliest class of each step, (n,): 0 a woman, 1 a man.

    evidence: log odds of a woman, (n,). costs: what a change of speaker before the step costs, (n,).
    """
    best = np.array([evidence[0], -evidence[0]]) / 2
    came = np.zeros((len(evidence), 2), dtype=np.int8)
    for step in range(1, len(evidence)):
        changed = best[::-1] - costs[step]
        came[step] = np.where(changed > best, [1, 0], [0, 1])
        best = np.maximum(best, changed) + np.array([evidence[step], -evidence[step]]) / 2
    path = np.empty(len(evidence), dtype=np.int8)
    path[-1] = best.argmax()
    for step in range(len(evidence) - 1, 0, -1):
        path[step - 1] = came[step, path[step]]
    return path


def shares_of_windows(odds: Floats, weights: Floats) -> tuple[float, float] | None:
    """The shares of women and men in a clip's speech if both speak in it, else None.

    odds: log odds of a woman in each window, (n,). weights: how much of the clip's speech it holds, (n,), sum 1.
    """
    seconds = weights * len(weights) * WINDOW_SECONDS
    if seconds.sum() < 2 * LEAST_SECONDS:
        return None
    path = viterbi(odds * seconds, np.full(len(odds), CHANGE))
    return shares([float(seconds[path == each].sum()) for each in (0, 1)])


def shares(seconds: Sequence[float]) -> tuple[float, float] | None:
    """The shares of women and men of so many seconds of speech each; None if only one of the two surely speaks."""
    women, men = seconds
    if min(women, men) < max(LEAST_SECONDS, LEAST_SHARE * (women + men)):
        return None
    return women / (women + men), men / (women + men)

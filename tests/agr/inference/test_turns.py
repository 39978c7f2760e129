from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from agr.inference import turns


def score(path: tuple[int, ...], evidence: NDArray[np.float64], costs: NDArray[np.float64]) -> float:
    signs = np.where(np.array(path) == 0, 0.5, -0.5)
    return float(signs @ evidence - sum(costs[i] for i in range(1, len(path)) if path[i] != path[i - 1]))


@pytest.mark.parametrize("seed", range(5))
def test_viterbi_finds_the_best_of_all_paths(seed: int) -> None:
    rng = np.random.default_rng(seed)
    evidence, costs = rng.normal(size=9), rng.uniform(0, 2, size=9)
    paths = itertools.product((0, 1), repeat=9)
    best = max(score(path, evidence, costs) for path in paths)
    assert score(tuple(turns.viterbi(evidence, costs)), evidence, costs) == pytest.approx(best)


def test_one_stray_step_does_not_change_the_speaker() -> None:
    evidence = np.array([2.0, 2.0, -1.0, 2.0, 2.0])
    assert turns.viterbi(evidence, np.full(5, 3.0)).tolist() == [0] * 5


def test_a_clip_of_one_person_has_no_shares() -> None:
    assert turns.shares_of_windows(np.full(8, 5.0), np.full(8, 1 / 8)) is None


def test_a_clip_of_two_people_has_their_shares() -> None:
    found = turns.shares_of_windows(np.array([6.0] * 6 + [-6.0] * 2), np.full(8, 1 / 8))
    assert found is None  # less than a second of the man
    women, men = turns.shares_of_windows(np.array([6.0] * 6 + [-6.0] * 3), np.full(9, 1 / 9)) or (0, 0)
    assert (women, men) == pytest.approx((2 / 3, 1 / 3))


def test_windows_without_speech_do_not_count() -> None:
    weights = np.array([1, 1, 1, 1, 1, 0, 0, 0]) / 5
    assert turns.shares_of_windows(np.array([6.0] * 5 + [-6.0] * 3), weights) is None


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ((3.0, 1.0), (0.75, 0.25)),
        ((3.0, 0.9), None),
        ((100.0, 9.0), None),
        ((0.0, 0.0), None),
        ((90.0, 10.0), (0.9, 0.1)),
    ],
)
def test_shares_need_a_second_and_a_tenth(seconds: tuple[float, float], expected: tuple[float, float] | None) -> None:
    found = turns.shares(seconds)
    assert found == expected if expected is None else found == pytest.approx(expected)

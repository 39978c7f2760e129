"""Rows of random numbers are those of the whole table, in any order."""

from __future__ import annotations

import numpy as np
import pytest

from agr.training.random_rows import uniform_rows


@pytest.mark.parametrize("rows", [[], [0], [7, 0, 7, 99, 98], list(range(100))])
@pytest.mark.parametrize("columns", [1, 2, 19])
def test_rows_are_those_of_the_whole_table(rows: list[int], columns: int) -> None:
    whole = np.random.default_rng([5, 2, 1]).random((100, columns))
    found = uniform_rows((5, 2, 1), np.array(rows, dtype=np.int64), columns)
    np.testing.assert_array_equal(found, whole[np.array(rows, dtype=np.int64)])


def test_a_row_of_very_many_takes_no_memory_for_the_others() -> None:
    far = uniform_rows((0,), np.array([10**12]), 3)
    assert far.shape == (1, 3)
    assert ((far >= 0) & (far < 1)).all()

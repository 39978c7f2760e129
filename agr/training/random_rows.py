"""Rows of a table of random numbers, without the other rows: for a batch, however many clips there are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PERIOD = 2**128  # of PCG64


def uniform_rows(seed: Sequence[int], rows: NDArray[np.int64], columns: int) -> NDArray[np.float64]:
    """Rows, (m,), of `np.random.default_rng(seed).random((n, columns))`: (m, columns), uniform in [0, 1)."""
    bits = np.random.PCG64(np.random.SeedSequence(seed))
    generator, at = np.random.Generator(bits), 0
    found = np.empty((len(rows), columns))
    for place, row in enumerate(rows.tolist()):
        start = row * columns  # a number is one step of the generator
        bits.advance((start - at) % PERIOD)
        generator.random(out=found[place])
        at = start + columns
    return found

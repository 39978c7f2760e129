"""From several channels to one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def mixed(block: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean over channels; block: (n, channels). Returns (n,), float32."""
    if block.shape[1] == 1:
        return block[:, 0]
    return block.mean(axis=1, dtype=np.float32)

"""A sound file that is open: its rate, its channels, and its samples block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BLOCK = 2**20  # samples over all channels that are decoded in one go: 4 MiB


@dataclass(frozen=True)
class Track:
    """The sound of an open file."""

    sample_rate: int  # Hz
    channels: int
    promised: float | None  # seconds, as far as the file says so
    blocks: Iterator[NDArray[np.float32]]  # (n, channels); raises UnreadableAudio where decoding fails

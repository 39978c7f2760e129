"""From several channels to one: their mean, or what is better where the mean would lose the voice.

The rule, for a block of up to 2**20 samples at a time:

1. A channel DEAD_DB weaker than the strongest one is dead: it is left out.
2. A channel whose level hardly moves (a standard deviation below STEADY_DB between frames of FRAME_SECONDS) holds hiss
   or hum; it is left out if another one moves like speech (above MOVING_DB).
3. If the mean of what remains has less than CANCELLED of the power that it would have if the channels had nothing in
   common, they cancel each other: the strongest one is taken.
4. Else the mean of what remains is taken; of all channels, it is what it was without this rule, to the bit.

Levels and powers are without a constant offset.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DEAD_DB = 40.0
STEADY_DB, MOVING_DB = 2.5, 6.0
CANCELLED = 0.5
FRAME_SECONDS = 0.05
LEAST_FRAMES = 10  # fewer say nothing about how a level moves


def mixed(block: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    """One channel out of a block, (n, channels); returns (n,), float32."""
    if block.shape[1] == 1:
        return block[:, 0]
    rows = np.ascontiguousarray(block.T)  # (channels, n)
    mean = _mean(rows) if len(rows) < 8 else block.mean(axis=1, dtype=np.float32)  # to the bit
    rows -= rows.mean(axis=1, keepdims=True)
    power = _power(rows)  # (channels,)
    if not 0 < power.max() < np.inf:  # pure silence, or samples that are no numbers
        return mean
    used = _worth_hearing(rows, power, sample_rate)
    if not used.all():
        mean = _mean(block.T[used])
    alone = power[used].sum() / used.sum() ** 2  # the power of the mean of channels that have nothing in common
    if _power(_mean(rows[used])) < CANCELLED * alone:
        return np.ascontiguousarray(block[:, int(np.argmax(np.where(used, power, 0)))])
    return mean


def _worth_hearing(rows: NDArray[np.float32], power: NDArray[np.float32], sample_rate: int) -> NDArray[np.bool_]:
    """Which channels, of (channels, n) without offset, are neither dead nor noise beside a voice: (channels,)."""
    alive = power > power.max() * 10 ** (-DEAD_DB / 10)
    size = max(round(FRAME_SECONDS * sample_rate), 1)
    count = rows.shape[1] // size
    if count < LEAST_FRAMES or alive.sum() < 2:
        return np.asarray(alive)
    frames = rows[:, : count * size].reshape(len(rows), count, size)
    levels = 10 * np.log10(_power(frames) + power.max() * 1e-8)  # (channels, frames), dB
    moves = levels.std(axis=1)
    return alive & (moves >= STEADY_DB) if (alive & (moves > MOVING_DB)).any() else np.asarray(alive)


def _mean(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean over the first axis, (channels, n) to (n,), summed in the order of the channels."""
    return np.asarray(rows.mean(axis=0, dtype=np.float32))


def _power(y: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean square over the last axis."""
    return np.asarray(np.einsum("...n,...n->...", y, y) / y.shape[-1])

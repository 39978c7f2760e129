"""Filters that cause no delay, and the frames of a clip."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import fft

from agr.recipes.base import Recipe

Gain = Callable[[NDArray[np.float64]], NDArray[np.float64]]  # Hz to factors


def frames_of(y: NDArray[np.float32], length: int, recipe: Recipe) -> NDArray[np.float32]:
    """Frames of `length` samples centred on every hop: (n,) to (frames, length); padded with zeros at both ends."""
    count = -(-len(y) // recipe.hop_length)
    padded = np.pad(y, (length // 2, length + recipe.hop_length))
    return sliding_window_view(padded, length)[:: recipe.hop_length][:count]


def filtered(y: NDArray[Any], sample_rate: int, gain: Gain) -> NDArray[np.float32]:
    """Filter a clip, (n,), by multiplying its spectrum with a real gain, which causes no delay."""
    size = fft.next_fast_len(len(y) + sample_rate // 10, real=True)  # so that the end does not wrap around to the start
    spectrum = fft.rfft(y.astype(np.float64), size) * _gains(gain, size, sample_rate)
    return np.asarray(fft.irfft(spectrum, size)[: len(y)], dtype=np.float32)


@functools.lru_cache(maxsize=4)  # two filters of two lengths
def _gains(gain: Gain, size: int, sample_rate: int) -> NDArray[np.float64]:
    """A gain at the frequency of each FFT bin: (size // 2 + 1,)."""
    return gain(fft.rfftfreq(size, 1 / sample_rate))

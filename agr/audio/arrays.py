"""Samples in memory as the bytes of a sound file, so that they are checked and resampled as a file is."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from agr.errors import AudioError

MOST_CHANNELS = 16  # an array with more on both axes is no recording


def as_wav(samples: NDArray[Any], rate: float, name: str) -> bytes:
    """A WAV file of 32-bit floats, with the samples of an array.

    Args:
        samples: (n,), (channels, n) or (n, channels); float with full scale -1..1, or integers with that of their type.
        rate: whole Hz.
        name: what messages call it.

    Raises:
        AudioError: The array has another shape or type, or the rate is no whole number above 0.
    """
    y = np.asarray(samples)
    if y.ndim == 2 and y.shape[0] < y.shape[1]:
        y = y.T  # (n, channels)
    if y.ndim not in (1, 2) or (y.ndim == 2 and not 0 < y.shape[1] <= MOST_CHANNELS):
        raise AudioError(f"{name}: samples of shape {np.shape(samples)}; expected (n,), (channels, n) or (n, channels)")
    if not math.isfinite(rate) or rate != int(rate) or not 0 < rate < 2**31:
        raise AudioError(f"{name}: a rate of {rate}; expected a whole number of Hz")
    file = io.BytesIO()
    soundfile.write(file, _as_float(y, name), int(rate), format="WAV", subtype="FLOAT")
    return file.getvalue()


def _as_float(y: NDArray[Any], name: str) -> NDArray[np.float32]:
    """Full scale -1..1, float32; integers are divided by their type's."""
    if y.dtype.kind == "f":
        with np.errstate(over="ignore"):  # infinity is refused as in a file
            return y.astype(np.float32)
    if y.dtype.kind not in "iu":
        raise AudioError(f"{name}: samples of type {y.dtype}; expected floats or integers")
    half = 2.0 ** (8 * y.dtype.itemsize - 1)
    return np.asarray((y.astype(np.float64) - (half if y.dtype.kind == "u" else 0)) / half, dtype=np.float32)

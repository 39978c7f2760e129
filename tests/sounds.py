"""Generated sounds, and files of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.signal
import soundfile
from numpy.typing import NDArray


def tone(hz: float, seconds: float = 1.2, sample_rate: int = 8_000, size: float = 0.1) -> NDArray[np.float32]:
    """A fundamental and its harmonics up to 3.6 kHz, weaker the higher they are: no noise, no formants."""
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    parts = (np.sin(2 * np.pi * k * hz * t + k * k) / np.sqrt(k) for k in range(1, int(3_600 // hz) + 1))
    return np.asarray(size * sum(parts), dtype=np.float32)


def noise(seconds: float, seed: int = 0, size: float = 0.1) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, size, round(seconds * 8_000)).astype(np.float32)


def vowel(hz: float, seconds: float, sample_rate: int = 8_000) -> NDArray[np.float32]:
    """Pulses of a steady pitch through three resonances."""
    at = np.arange(round(seconds * sample_rate)) / sample_rate
    y = np.diff(np.floor(at * hz), prepend=0.0)
    for formant in (500, 1_500, 2_500):
        radius, angle = np.exp(-np.pi * 100 / sample_rate), 2 * np.pi * formant / sample_rate
        y = scipy.signal.lfilter([1], [1, -2 * radius * np.cos(angle), radius**2], y)
    return np.asarray(0.5 * y / np.abs(y).max(), dtype=np.float32)


def within(y: NDArray[np.float32], before: float, after: float, sample_rate: int = 8_000) -> NDArray[np.float32]:
    """The same sound with so many seconds of faint noise around it."""
    padded = np.pad(y, (round(before * sample_rate), round(after * sample_rate)))
    return padded + np.float32(1e-4) * np.random.default_rng(0).standard_normal(len(padded)).astype(np.float32)


def clip_file(path: Path, y: NDArray[np.float32], sample_rate: int = 8_000) -> Path:
    soundfile.write(path, y, sample_rate, subtype="FLOAT")
    return path

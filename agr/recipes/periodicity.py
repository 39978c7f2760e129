"""How periodic each 10 ms frame of a clip is at 72 logarithmically spaced lags, for pitches from 520 down to 48 Hz.

Both measures take (n,) mono float32 samples and return (frames, LAGS), float32, 0..1.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import fft

from agr.recipes.base import Recipe, hann
from agr.recipes.filters import filtered, frames_of

LAGS = 72
TOP_HZ, BOTTOM_HZ = 520.0, 48.0  # the pitches of the first and the last lag
BATCH_FRAMES = 200  # whose periodicity is measured in one go
PADDING = 2  # how many times a frame's length its spectrum has; 4 gives the same images up to rounding
COMPRESSION, GAIN = 0.6, 1.25  # exponent of the power spectrum; factor that brings a clean voice back to nearly 1
_PERIODIC_HZ = 1000.0
_PERIOD_SECONDS, _YIN_HOPS = 0.042, 4
_FAINTEST = 1e-9  # the floor of a frame's power spectrum, as a share of its strongest harmonic
_WINDOW_FLOOR = 0.15  # the least that is divided by where the window's autocorrelation is small, at the longest lags


def autocorrelation(y: NDArray[np.float32], recipe: Recipe) -> NDArray[np.float32]:
    """Generalised autocorrelation at each lag of each frame, 0..1: (n,) to (frames, LAGS).

    The power spectrum is raised to COMPRESSION first, so that a harmonic amplified by a resonance is not taken for the
    pitch (Tolonen and Karjalainen, 2000, IEEE Transactions on Speech and Audio Processing 8(6), 708-716). The result is
    divided by the autocorrelation of the Hann window (Boersma, 1993, Proceedings of the Institute of Phonetic Sciences
    Amsterdam 17, 97-110), multiplied by GAIN and clipped at 1.
    """
    *waves, weights = _autocorrelation_matrices(recipe)
    half = 2 * len(waves[0])
    frames = frames_of(y, 2 * half, recipe)
    found = np.empty((len(frames), LAGS), dtype=np.float32)
    for at in range(0, len(frames), BATCH_FRAMES):
        batch = frames[at : at + BATCH_FRAMES]
        after, before = batch[:, half:], batch[:, half:0:-1]  # the middle, and outwards from it, (frames, half) each
        parts = [each[:, start::2] for each in (after + before, after - before) for start in (0, 1)]
        first, second, third, fourth = (part @ wave for part, wave in zip(parts, waves, strict=True))
        low = np.square(first + second) + np.square(third + fourth)  # up to a quarter of the sample rate
        high = np.square(first - second) + np.square(third - fourth)  # the others, from the highest one down
        power = np.concatenate([low, high[:, :-1]], axis=1)  # (frames, bins)
        power += _FAINTEST * power.max(axis=1, keepdims=True) + np.float32(1e-30)
        np.log(power, out=power)
        power *= COMPRESSION
        lagged = np.exp(power, out=power) @ weights  # (frames, LAGS + 1)
        found[at : at + BATCH_FRAMES] = lagged[:, :-1] / lagged[:, -1:]
    return np.clip(found, 0, 1, out=found)


@functools.cache
def _autocorrelation_matrices(recipe: Recipe) -> tuple[NDArray[np.float32], ...]:
    """Matrices of `autocorrelation`: four of (half / 2, bins / 2), one of (bins, LAGS + 1).

    The Hann window is even around its middle. The spectrum around it of a frame's even part is real, that of its odd
    part imaginary, and each is a product with a matrix of half a frame's length, in which the window is contained. It
    is split into even and odd samples, whose sum is the lower half of the spectrum and whose difference the upper half
    (a radix-2 step). The last one turns compressed power into autocorrelation at each lag, scaled, and at lag 0.
    """
    length = round(_PERIOD_SECONDS * recipe.sample_rate) // 2 * 2
    half, size = length // 2, 1 << (PADDING * length - 1).bit_length()
    window, whole, part = hann(length), *_lags(recipe)
    angles = 2 * np.pi / size * np.arange(size // 2 + 1)  # (bins,)
    turns = np.arange(half)[:, None] * angles[: size // 4 + 1]
    even, odd = (window[half:, None] * wave(turns) for wave in (np.cos, np.sin))
    even[0] /= 2  # the middle is met twice
    low = _low_pass(fft.rfftfreq(size, 1 / recipe.sample_rate)) ** 2
    low[1:-1] *= 2  # each of these bins stands for a negative frequency as well
    own = np.correlate(window, window, "full")[length - 1 :][: int(whole[-1]) + 2]
    own = np.maximum(own / own[0], _WINDOW_FLOOR)
    first, second = (np.cos(angles[:, None] * lag) / own[lag] for lag in (whole, whole + 1))  # (bins, LAGS) each
    weights = np.column_stack([GAIN * (first * (1 - part) + second * part), np.ones(len(low))]) * low[:, None]
    weights = np.concatenate([weights[: size // 4 + 1], weights[: size // 4 : -1]])  # in the order of the products
    waves = (wave[start::2] for wave in (even, odd) for start in (0, 1))
    return tuple(np.asarray(each, dtype=np.float32) for each in (*waves, weights))


def yin_periodicity(y: NDArray[np.float32], recipe: Recipe) -> NDArray[np.float32]:
    """1 - normalised difference at each lag of each frame, 0..1: (n,) to (frames, LAGS).

    As in YIN (de Cheveigne and Kawahara, 2002, JASA 111(4), 1917-1930, equations 6 and 7 without the cumulative mean).
    The rules of `agr.recipes.speech` were set on it. Products are summed over hops, and each frame adds those of its
    _YIN_HOPS hops.
    """
    (whole, part), hop = _lags(recipe), recipe.hop_length
    length, longest = _YIN_HOPS * hop, int(whole[-1]) + 2
    y = filtered(y, recipe.sample_rate, _low_pass)
    count = -(-len(y) // hop)
    padded = np.pad(y, ((length + longest) // 2, length + longest + hop))
    energy = np.cumsum(np.pad(padded.astype(np.float64) ** 2, (1, 0)))
    power = sliding_window_view((energy[length:] - energy[:-length]).astype(np.float32), longest)[::hop][:count]
    mixing = np.zeros((longest, LAGS), dtype=np.float32)  # between neighbouring lags
    mixing[whole, range(LAGS)], mixing[whole + 1, range(LAGS)] = 1 - part, part
    size = 1 << (hop + longest - 1).bit_length()
    parts = sliding_window_view(padded, hop + longest)[::hop][: count + _YIN_HOPS - 1]
    found = np.empty((count, LAGS), dtype=np.float32)
    for at in range(0, count, BATCH_FRAMES):
        batch = parts[at : at + BATCH_FRAMES + _YIN_HOPS - 1]
        left, both = fft.rfft(batch[:, :hop], size, axis=1), fft.rfft(batch, size, axis=1)
        hops = fft.irfft(left.conj() * both, size, axis=1)[:, :longest]  # sum of x[t] x[t + lag] over a hop
        product = sum(hops[shift : len(hops) + 1 - _YIN_HOPS + shift] for shift in range(_YIN_HOPS))
        own = power[at : at + BATCH_FRAMES]  # of x[lag : lag + length]
        found[at : at + BATCH_FRAMES] = (2 * product / (own[:, :1] + own + np.float32(1e-12))) @ mixing
    return np.maximum(found, 0, out=found)


@functools.cache
def _lags(recipe: Recipe) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Each lag in samples, as an integer and a fraction, (LAGS,) each."""
    lags = recipe.sample_rate / lag_hz()
    whole = lags.astype(np.intp)
    return whole, lags - whole


@functools.cache
def lag_hz() -> NDArray[np.float64]:
    """The pitch that each lag stands for, in Hz: (LAGS,), falling."""
    return np.geomspace(TOP_HZ, BOTTOM_HZ, LAGS)


def _low_pass(hz: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """The gain of a Butterworth low-pass of order 4 at _PERIODIC_HZ."""
    return np.asarray(1 / np.sqrt(1 + (hz / _PERIODIC_HZ) ** 8))

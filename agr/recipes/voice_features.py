"""Voice features of a clip, finer than the image that the model reads.

    features = extract(y, VOICE)                      # (112, frames) uint8, y: mono float32 at 8 kHz
    window = best_window(features)                    # (112, 98): the second with most speech in it

Each 10 ms frame has the power in 40 mel bands up to 3.9 kHz, in decibels below the clip's loudest frame, and the
strength of periodicity at 72 logarithmically spaced lags, for pitches from 520 down to 48 Hz. A higher pitch shifts the
periodicity rows, a shorter vocal tract the band rows. The mean and everything below 60 Hz are removed first, because
many microphones add a constant. Nothing above 4 kHz is used: telephone and studio recordings look alike.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from agr.common.threads import blas_on_one_thread
from agr.recipes.base import FRAMES, Clip, Recipe, hann, triangles
from agr.recipes.filters import filtered, frames_of
from agr.recipes.periodicity import LAGS, autocorrelation, lag_hz

BANDS = 40
ROWS = BANDS + LAGS
LOW_HZ, HIGH_HZ = 80.0, 3900.0  # of the mel bands
RANGE_DB = 80.0  # the range of the decibel rows, in 255 steps
HEADROOM = 15.0 / RANGE_DB  # how much louder a band may be than the mean of the loudest frame's bands
VOICED_PERIODICITY = 0.75  # the least of a voiced frame
PEAK_RATIO = 0.92  # lags with this share of a frame's greatest periodicity count as equally periodic
MIN_VOICED_FRAMES = 4  # that a pitch needs
CHUNK_FRAMES, CONTEXT_FRAMES = 800, 100  # measured at once, in about 20 MB, and the context before and after
SPEECH_RANGE_DB = 35.0  # frames further than this below the loudest one hold no speech
_CUTOFF_HZ = 60.0
_SPECTRUM_SECONDS = 0.032
Measure = Callable[[NDArray[np.float32], Recipe], NDArray[np.float32]]  # (n,) to (frames, LAGS), 0..1


def extract(y: NDArray[np.float32], recipe: Recipe, measure: Measure = autocorrelation) -> NDArray[np.uint8]:
    """Voice features of a whole clip, measured in chunks: (n,) to (ROWS, n / hop rounded up), uint8.

    The first BANDS rows are decibels, 255 for the loudest and 0 for RANGE_DB below it; the others are periodicity as
    `measure` finds it, 255 for 1.
    """
    return extract_each(y, recipe, (measure,))[0]


@blas_on_one_thread()
def extract_each(y: NDArray[np.float32], recipe: Recipe, measures: Sequence[Measure]) -> list[NDArray[np.uint8]]:
    """Voice features as `extract` finds them with each measure, at the cost of one filter and one set of bands."""
    frames = -(-len(y) // recipe.hop_length)
    found = np.empty((len(measures), frames, ROWS), dtype=np.uint8)
    level = np.empty((frames, BANDS), dtype=np.float32)  # dB
    loudest = 1e-12
    for start in range(0, frames, CHUNK_FRAMES):
        part = slice(start, min(start + CHUNK_FRAMES, frames))
        first = max(start - CONTEXT_FRAMES, 0)
        filtered = _chunk(y, first, part.stop + CONTEXT_FRAMES, recipe)
        own = slice(start - first, part.stop - first)
        bands = _bands(filtered, recipe)[own]
        level[part] = 10 * np.log10(np.maximum(bands, 1e-12))
        loudest = max(loudest, float(bands.mean(axis=1).max()))
        for features, measure in zip(found, measures, strict=True):
            features[part, BANDS:] = _quantise(measure(filtered, recipe)[own])
    top = 10 * np.log10(loudest)
    scaled = (level - top) / RANGE_DB + 1  # a band may lie above its frame's mean: those are cut at the top
    found[:, :, :BANDS] = _quantise(scaled - HEADROOM)
    return [features.T for features in found]


def _quantise(values: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """0..1 as 0..255, clipped."""
    return np.rint(np.clip(values.astype(np.float64), 0, 1) * 255).astype(np.uint8)


def _chunk(y: Clip, start: int, stop: int, recipe: Recipe) -> Clip:
    """The samples of some frames of a clip, without their mean and what is below _CUTOFF_HZ."""
    around = y[start * recipe.hop_length : stop * recipe.hop_length]
    return filtered(around - np.mean(around, dtype=np.float64), recipe.sample_rate, _high_pass)


def _bands(filtered: Clip, recipe: Recipe) -> NDArray[np.float32]:
    """Power in bands of each frame: (n,) to (frames, BANDS)."""
    length = round(_SPECTRUM_SECONDS * recipe.sample_rate)
    spectrum = fft.rfft(frames_of(filtered, length, recipe) * hann(length).astype(np.float32), axis=1)
    power = spectrum.real**2 + spectrum.imag**2  # (frames, bins)
    return np.asarray(power @ _mel_filters(recipe.sample_rate, length).T)


def windows(features: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cut features into windows that overlap by half, the last at the end: (ROWS, frames) to (n, ROWS, FRAMES)."""
    frames = features.shape[1]
    if frames <= FRAMES:
        before = (FRAMES - frames) // 2  # a shorter clip is centred
        return np.pad(features, ((0, 0), (before, FRAMES - frames - before)))[None]
    starts = [*range(0, frames - FRAMES, FRAMES // 2), frames - FRAMES]
    return np.stack([features[:, start : start + FRAMES] for start in starts])


def weighted_windows(features: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The windows of a clip, (n, ROWS, FRAMES), and weights, (n,): the share of its voiced speech in each.

    The weights sum to 1; they are equal where nothing is voiced.
    """
    cut = windows(features)
    voiced = voicing(cut).sum(axis=1)  # (n,)
    total = float(voiced.sum())
    return cut, voiced / total if total > 0 else np.full(len(cut), 1 / len(cut))


def best_window(features: NDArray[np.uint8], longest: int = FRAMES) -> NDArray[np.uint8]:
    """The second, or `longest` frames, with most speech, found to the frame: (ROWS, frames) to (ROWS, longest).

    A shorter clip is returned as it is, padded to FRAMES.
    """
    if features.shape[1] <= longest:
        return features if features.shape[1] > FRAMES else np.asarray(windows(features)[0])
    summed = np.concatenate([[0.0], np.cumsum(voicing(features))])
    start = int((summed[longest:] - summed[:-longest]).argmax())
    return np.asarray(features[:, start : start + longest])


def voicing(features: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Periodicity above 0.5, scaled to 0..1, or 0 in quiet frames: (..., ROWS, frames) to (..., frames)."""
    level = features[..., :BANDS, :].max(axis=-2) * (RANGE_DB / 255)  # dB above the floor
    loud = level > level.max(axis=-1, keepdims=True) - SPEECH_RANGE_DB
    strength = features[..., BANDS:, :].max(axis=-2) / 255
    return np.asarray(np.clip((strength - 0.5) / 0.5, 0, 1) * loud)


def pitch(features: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The median pitch of each window, in Hz, NaN where too little is voiced: (n, ROWS, frames) to (n,).

    In each voiced frame it is the middle of the shortest run of lags that are nearly as periodic as the best one;
    longer lags are multiples of it.
    """
    strength = features[:, BANDS:].astype(np.int16)  # (n, LAGS, frames)
    best = strength.max(axis=1)
    near = strength >= PEAK_RATIO * best[:, None]
    first = near.argmax(axis=1)  # (n, frames)
    beyond = ~near & (np.arange(LAGS)[:, None] > first[:, None])
    last = np.where(beyond.any(axis=1), beyond.argmax(axis=1), LAGS) - 1
    voiced = (best > VOICED_PERIODICITY * 255) & (voicing(features) > 0)
    logs = np.log(lag_hz())
    values = np.where(voiced, (logs[first] + logs[last]) / 2, np.nan)
    known = voiced.sum(axis=1) >= MIN_VOICED_FRAMES
    medians = np.full(len(features), np.nan)
    medians[known] = np.exp(np.nanmedian(values[known], axis=1))
    return medians


def band_hz() -> NDArray[np.float64]:
    """The centre of each mel band, in Hz: (BANDS,)."""
    return band_edges()[1:-1]


def hz_to_mel(hz: Any) -> Any:
    """O'Shaughnessy's mel scale (1987): 2595 log10(1 + f / 700)."""
    return 2595 * np.log10(1 + np.asarray(hz) / 700)


def mel_to_hz(mel: Any) -> Any:
    """The inverse of `hz_to_mel`."""
    return 700 * (10 ** (np.asarray(mel) / 2595) - 1)


def band_edges() -> NDArray[np.float64]:
    """The edges of the overlapping mel bands, in Hz, rising: (BANDS + 2,)."""
    return np.asarray(mel_to_hz(np.linspace(hz_to_mel(LOW_HZ), hz_to_mel(HIGH_HZ), BANDS + 2)))


@functools.cache
def _mel_filters(sample_rate: int, length: int) -> NDArray[np.float32]:
    """Triangles that weigh the power of FFT bins into bands, each summing to 1: (BANDS, length // 2 + 1)."""
    weights = triangles(band_edges(), fft.rfftfreq(length, 1 / sample_rate))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def _high_pass(hz: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """The gain of a Butterworth high-pass of order 2 at _CUTOFF_HZ."""
    return np.asarray(1 / np.sqrt(1 + (_CUTOFF_HZ / np.maximum(hz, 1e-3)) ** 4))

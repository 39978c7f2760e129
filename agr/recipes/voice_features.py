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
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import fft

from agr.common.threads import blas_on_one_thread
from agr.recipes.base import FRAMES, Clip, Recipe, hann, triangles

BANDS, LAGS = 40, 72
ROWS = BANDS + LAGS
LOW_HZ, HIGH_HZ = 80.0, 3900.0  # of the mel bands
TOP_HZ, BOTTOM_HZ = 520.0, 48.0  # the pitches of the first and the last lag
RANGE_DB = 80.0  # the range of the decibel rows, in 255 steps
HEADROOM = 15.0 / RANGE_DB  # how much louder a band may be than the mean of the loudest frame's bands
VOICED_PERIODICITY = 0.75  # the least of a voiced frame
PEAK_RATIO = 0.92  # lags with this share of a frame's greatest periodicity count as equally periodic
MIN_VOICED_FRAMES = 4  # that a pitch needs
CHUNK_FRAMES, CONTEXT_FRAMES = 800, 100  # measured at once, in about 20 MB, and the context before and after
BATCH_FRAMES = 64  # whose periodicity is measured in one go
SPEECH_RANGE_DB = 35.0  # frames further than this below the loudest one hold no speech
_CUTOFF_HZ, _PERIODIC_HZ = 60.0, 1000.0
_SPECTRUM_SECONDS, _PERIOD_SECONDS, _YIN_HOPS = 0.032, 0.042, 4
COMPRESSION, GAIN = 0.6, 1.25  # exponent of the power spectrum; factor that brings a clean voice back to nearly 1
_FAINTEST = 1e-9  # the floor of a frame's power spectrum, as a share of its strongest harmonic
_WINDOW_FLOOR = 0.15  # the least that is divided by where the window's autocorrelation is small, at the longest lags
Gain = Callable[[NDArray[np.float64]], NDArray[np.float64]]  # Hz to factors
Measure = Callable[[NDArray[np.float32], Recipe], NDArray[np.float32]]  # (n,) to (frames, LAGS), 0..1


def autocorrelation(y: NDArray[np.float32], recipe: Recipe) -> NDArray[np.float32]:
    """Generalised autocorrelation at each lag of each frame, 0..1: (n,) to (frames, LAGS).

    The power spectrum is raised to COMPRESSION first, so that a harmonic amplified by a resonance is not taken for the
    pitch (Tolonen and Karjalainen, 2000, IEEE Transactions on Speech and Audio Processing 8(6), 708-716). The result is
    divided by the autocorrelation of the Hann window (Boersma, 1993, Proceedings of the Institute of Phonetic Sciences
    Amsterdam 17, 97-110), multiplied by GAIN and clipped at 1.
    """
    *waves, weights = _autocorrelation_matrices(recipe)
    half = 2 * len(waves[0])
    frames = _frames(y, 2 * half, recipe)
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
    half, size = length // 2, 1 << (4 * length - 1).bit_length()
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
    y = _filtered(y, recipe.sample_rate, _low_pass)
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
    return _filtered(around - np.mean(around, dtype=np.float64), recipe.sample_rate, _high_pass)


def _bands(filtered: Clip, recipe: Recipe) -> NDArray[np.float32]:
    """Power in bands of each frame: (n,) to (frames, BANDS)."""
    length = round(_SPECTRUM_SECONDS * recipe.sample_rate)
    spectrum = fft.rfft(_frames(filtered, length, recipe) * hann(length).astype(np.float32), axis=1)
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


def band_hz() -> NDArray[np.float64]:
    """The centre of each mel band, in Hz: (BANDS,)."""
    return band_edges()[1:-1]


def hz_to_mel(hz: Any) -> Any:
    """O'Shaughnessy's mel scale (1987): 2595 log10(1 + f / 700)."""
    return 2595 * np.log10(1 + np.asarray(hz) / 700)


def mel_to_hz(mel: Any) -> Any:
    """The inverse of `hz_to_mel`."""
    return 700 * (10 ** (np.asarray(mel) / 2595) - 1)


def _frames(y: NDArray[np.float32], length: int, recipe: Recipe) -> NDArray[np.float32]:
    """Frames of `length` samples centred on every hop: (n,) to (frames, length); padded with zeros at both ends."""
    count = -(-len(y) // recipe.hop_length)
    padded = np.pad(y, (length // 2, length + recipe.hop_length))
    return sliding_window_view(padded, length)[:: recipe.hop_length][:count]


def band_edges() -> NDArray[np.float64]:
    """The edges of the overlapping mel bands, in Hz, rising: (BANDS + 2,)."""
    return np.asarray(mel_to_hz(np.linspace(hz_to_mel(LOW_HZ), hz_to_mel(HIGH_HZ), BANDS + 2)))


@functools.cache
def _mel_filters(sample_rate: int, length: int) -> NDArray[np.float32]:
    """Triangles that weigh the power of FFT bins into bands, each summing to 1: (BANDS, length // 2 + 1)."""
    weights = triangles(band_edges(), fft.rfftfreq(length, 1 / sample_rate))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def _filtered(y: NDArray[Any], sample_rate: int, gain: Gain) -> NDArray[np.float32]:
    """Filter a clip, (n,), by multiplying its spectrum with a real gain, which causes no delay."""
    size = fft.next_fast_len(len(y) + sample_rate // 10, real=True)  # so that the end does not wrap around to the start
    spectrum = fft.rfft(y.astype(np.float64), size) * _gains(gain, size, sample_rate)
    return np.asarray(fft.irfft(spectrum, size)[: len(y)], dtype=np.float32)


@functools.lru_cache(maxsize=8)
def _gains(gain: Gain, size: int, sample_rate: int) -> NDArray[np.float64]:
    """A gain at the frequency of each FFT bin: (size // 2 + 1,)."""
    return gain(fft.rfftfreq(size, 1 / sample_rate))


def _high_pass(hz: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """The gain of a Butterworth high-pass of order 2 at _CUTOFF_HZ."""
    return np.asarray(1 / np.sqrt(1 + (_CUTOFF_HZ / np.maximum(hz, 1e-3)) ** 4))


def _low_pass(hz: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """The gain of a Butterworth low-pass of order 4 at _PERIODIC_HZ."""
    return np.asarray(1 / np.sqrt(1 + (hz / _PERIODIC_HZ) ** 8))

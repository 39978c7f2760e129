"""Speech detection: how many seconds of voiced speech a clip holds; silence, noise, hum, tones and music hold none.

    speech_seconds(y, VOICE)                          # 0.0 where there is too little speech, or none

A few rules decide. They were set by hand on recordings of speech and on generated sounds; nothing is trained. First
the foreground is found: frames nearly as loud as the loudest one, and louder than any steady background such as a hum.
In it, runs of voiced frames are found and nine `Cues` are measured. Speech is voiced often and strongly, in several
bands at once; its pitch, its level and its spectrum change from syllable to syllable. A tone does not change, noise is
hardly periodic, and an instrument changes in some of these ways but not in all. The rules become stricter the longer
a sound is voiced.

Known limits: drums, engines, singing, animals' voices and music of several instruments often pass as speech, single
instruments with vibrato sometimes. Whispering is not voiced and is not found.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agr.recipes import periodicity, voice_features
from agr.recipes.base import Recipe
from agr.recipes.periodicity import BOTTOM_HZ, LAGS, TOP_HZ, lag_hz
from agr.recipes.voice_features import BANDS, CHUNK_FRAMES, RANGE_DB

FRAME_SECONDS = 0.010
FOREGROUND_DB = 25.0  # frames further below the loudest one are background
BACKGROUND_PERCENTILE = 10  # of a band's levels over time: the level of the steady background
ABOVE_BACKGROUND_DB = 6.0  # how far the loudest band of a foreground frame lies above that level
VOICED_PERIODICITY = 0.50  # the least of a voiced frame
PEAK_RATIO = 0.92  # peaks with this share of the strongest one count as equally strong
MAX_PITCH_STEP = 0.12  # between frames of one run, in the logarithm of pitch
MIN_RUN = 3  # frames
BANDWIDTH_DB = 18.0  # bands further below a frame's strongest one do not count
SAME_CORRELATION = 0.95  # of the periodicity of two frames that count as the same
SHAPE_FLOOR_DB = 30.0  # spectral shapes are cut off this far below the strongest band
CEPSTRAL_ORDERS, SMOOTHING_FRAMES = 8, 5  # of spectral shapes
SHORT_SPANS, LONG_SPANS = (2, 1), (6, 4, 2)  # frames before and after: 40 ms and 120 ms, less in short clips
Floats = NDArray[np.floating[Any]]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Cues:
    """Acoustic cues to speech. All but the last two are measured on the voiced frames of the foreground."""

    voiced_frames: int
    voiced_share: float  # of the foreground, 0..1
    periodicity: float  # median, 0..1
    bandwidth: float  # median number of bands within BANDWIDTH_DB of the frame's strongest one
    pitch_change: float  # over 40 ms, in percent, 80th percentile
    level_change: float  # over 40 ms, in dB, 80th percentile
    spectral_change: float  # of the spectral shape over 40 ms, in dB, median
    slow_spectral_change: float  # of the smoothed spectral shape over 120 ms, in dB, median over all loud frames
    steadiness: float  # share of the foreground whose periodicity is the same 40 ms later, 0..1


def speech_seconds(y: NDArray[np.float32], recipe: Recipe) -> float:
    """Seconds of voiced speech in a clip, (n,) at the recipe's sample rate; 0.0 where it does not sound like speech."""
    return seconds_of(voice_features.extract(y, recipe, periodicity.yin_periodicity))


def seconds_of(features: NDArray[np.uint8]) -> float:
    """Seconds of voiced speech in a clip's voice features, (ROWS, frames), extracted with `yin_periodicity`."""
    found = measure_cues(features)
    return found.voiced_frames * FRAME_SECONDS if is_speech(found) else 0.0


def is_speech(cues: Cues) -> bool:
    """Whether every rule holds. Each threshold misses at most about one clip of speech in a thousand."""
    rules = (
        cues.voiced_frames >= MIN_RUN,
        cues.voiced_share >= 0.10 or cues.slow_spectral_change >= 3.3,  # wind and clicks are periodic by chance, rarely
        cues.periodicity >= 0.64 or cues.slow_spectral_change >= 2.2,  # noise and several instruments: weak
        cues.periodicity >= 0.79 or cues.steadiness <= 0.36,  # drums and bells: weak, yet the same for long
        cues.periodicity >= 0.91 or cues.bandwidth >= 5,  # drums and ticks: weak, in few bands
        cues.pitch_change >= 0.5 or cues.steadiness <= 0.10,  # tones and notes
        cues.pitch_change >= 1.1 or cues.voiced_frames <= 40,  # chords, melodies, engines
        cues.pitch_change >= 2.2 or cues.voiced_frames <= 120,
        cues.level_change >= 0.7 or cues.voiced_frames <= 24,  # sirens and chirps
        cues.spectral_change >= 1.15 or cues.slow_spectral_change >= 0.65 or cues.steadiness <= 0.33,  # strings, flutes
    )
    return all(rules)


class Frames(NamedTuple):
    """What is measured of each frame of voice features; slices of it belong to slices of the features."""

    top: Floats  # the level of the loudest band in dB, (frames,)
    loudest: Indices  # that band's index, (frames,)
    width: Indices  # the number of bands within BANDWIDTH_DB of it, (frames,)
    level: Floats  # the mean level in dB, (frames,)
    shape: Floats  # the spectral shape in dB, (CEPSTRAL_ORDERS, frames)
    strength: Floats  # of the pitch, 0..1, (frames,)
    pitch: Floats  # its logarithm, (frames,)

    def cut(self, start: int, stop: int) -> Frames:
        """The frames from `start` to before `stop`."""
        return Frames._make(values[..., start:stop] for values in self)


def measure_cues(features: NDArray[np.uint8]) -> Cues:
    """The cues in a clip's voice features, (ROWS, frames) uint8, extracted with `yin_periodicity`."""
    return cues_and_voicing(features, measure_frames(features))[0]


def cues_and_voicing(features: NDArray[np.uint8], frames: Frames) -> tuple[Cues, NDArray[np.bool_]]:
    """The cues in voice features, (ROWS, frames) uint8, and which frames are voiced, (frames,)."""
    background = _background_level(features)[frames.loudest]
    foreground = (frames.top > frames.top.max() - FOREGROUND_DB) & (frames.top - background >= ABOVE_BACKGROUND_DB)
    run = _number_runs((frames.strength > VOICED_PERIODICITY) & foreground, frames.pitch)
    voiced = run > 0
    early, late = _pairs(run, SHORT_SPANS)
    cues = Cues(
        voiced_frames=int(voiced.sum()),
        voiced_share=float(voiced.sum() / max(foreground.sum(), 1)),
        periodicity=_percentile(frames.strength[voiced], 50),
        bandwidth=_percentile(frames.width[voiced], 50),
        pitch_change=_percentile(np.abs(frames.pitch[late] - frames.pitch[early]) * 100, 80),
        level_change=_percentile(np.abs(frames.level[late] - frames.level[early]), 80),
        spectral_change=_percentile(_distance(frames.shape, early, late), 50),
        slow_spectral_change=_slow_spectral_change(frames.shape, frames.top),
        steadiness=_steadiness(features, foreground),
    )
    return cues, voiced


def measure_frames(features: NDArray[np.uint8]) -> Frames:
    """Measure each frame of voice features, (ROWS, frames) uint8, CHUNK_FRAMES at a time."""
    starts = range(0, features.shape[1], CHUNK_FRAMES)
    chunks = [_measure_frames(features[:, start : start + CHUNK_FRAMES]) for start in starts]
    return Frames._make(np.concatenate(each, axis=-1) for each in zip(*chunks, strict=True))


def _measure_frames(features: NDArray[np.uint8]) -> Frames:
    bands = _decibels(features[:BANDS])  # (BANDS, frames)
    top = bands.max(axis=0)  # (frames,)
    level = 10 * np.log10((10 ** (bands / 10)).mean(axis=0))
    shape = _dct() @ np.maximum(bands, top - SHAPE_FLOOR_DB)
    width = (bands > top - BANDWIDTH_DB).sum(axis=0)
    return Frames(top, bands.argmax(axis=0), width, level, shape, *_pitch(_periodicity(features)))


def _decibels(bands: NDArray[np.uint8] | Floats) -> NDArray[np.float32]:
    return np.asarray(bands * np.float32(RANGE_DB / 255))


def _periodicity(features: NDArray[np.uint8]) -> NDArray[np.float32]:
    """0..1: (ROWS, frames) to (LAGS, frames)."""
    return np.asarray(features[BANDS:] / np.float32(255))


def _background_level(features: NDArray[np.uint8]) -> Floats:
    """The level of the steady background in each band, in dB, (BANDS,)."""
    rows = max(1, BANDS * CHUNK_FRAMES // features.shape[1])  # all bands at once in a clip of one chunk
    groups = (features[at : min(at + rows, BANDS)] for at in range(0, BANDS, rows))
    return _decibels(np.concatenate([_percentiles(group, BACKGROUND_PERCENTILE) for group in groups]))


def _pitch(periodicity: Floats) -> tuple[Floats, Floats]:
    """Strength and logarithm of the pitch of each frame: (LAGS, frames) to (frames,) twice.

    Among the peaks nearly as strong as the strongest one, that of the shortest lag is taken and refined by a parabola
    through it and its neighbours.
    """
    inner = periodicity[1:-1]
    peaks = np.where((inner >= periodicity[:-2]) & (inner > periodicity[2:]), inner, 0)
    strength = peaks.max(axis=0)
    at = (peaks >= PEAK_RATIO * np.maximum(strength, 1e-9)).argmax(axis=0) + 1
    frame = np.arange(periodicity.shape[1])
    before, here, after = (periodicity[at + step, frame] for step in (-1, 0, 1))
    bend = np.minimum(before + after - 2 * here, -1e-9)
    step = np.log(TOP_HZ / BOTTOM_HZ) / (LAGS - 1)
    return strength, np.log(lag_hz())[at] - np.clip((before - after) / (2 * bend), -1, 1) * step


def _number_runs(voiced: NDArray[np.bool_], pitch: Floats) -> Indices:
    """Number the runs of voiced frames whose pitch is continuous from 1, (frames,); 0 for all other frames."""
    joined = np.zeros(len(voiced), dtype=np.bool_)
    joined[1:] = voiced[1:] & voiced[:-1] & (np.abs(np.diff(pitch)) < MAX_PITCH_STEP)
    run = np.cumsum(voiced & ~joined) * voiced
    return np.asarray(np.where(np.bincount(run)[run] >= MIN_RUN, run, 0))


def _pairs(group: NDArray[Any], spans: tuple[int, ...]) -> tuple[Indices, Indices]:
    """Indices of frames `span` before and after a frame of the same group other than 0, (n,) twice.

    The first of `spans` is used for which there are any.
    """
    for span in spans:
        middle = group[span:-span]
        (found,) = np.nonzero((middle != 0) & (group[: -2 * span] == middle) & (group[2 * span :] == middle))
        if len(found):
            return found, found + 2 * span
    nothing = np.zeros(0, dtype=np.int64)
    return nothing, nothing


def _slow_spectral_change(shape: Floats, top: Floats) -> float:
    """The median distance of the smoothed spectral shapes of loud frames 120 ms apart, in dB."""
    padded = np.pad(shape, ((0, 0), (SMOOTHING_FRAMES // 2, SMOOTHING_FRAMES // 2)), mode="edge")
    smooth = sum(padded[:, at : at + shape.shape[1]] for at in range(SMOOTHING_FRAMES)) / SMOOTHING_FRAMES
    loud = top > top.max() - SHAPE_FLOOR_DB
    return _percentile(_distance(np.asarray(smooth), *_pairs(loud, LONG_SPANS)), 50)


def _steadiness(features: NDArray[np.uint8], foreground: NDArray[np.bool_]) -> float:
    """The share of foreground frames 40 ms apart whose periodicity correlates by SAME_CORRELATION or more."""
    early, late = _pairs(foreground, SHORT_SPANS)
    same = 0
    for at in range(0, len(foreground), CHUNK_FRAMES):
        z = _periodicity(features[:, at : at + CHUNK_FRAMES + 2 * max(SHORT_SPANS)])
        z -= z.mean(axis=0)
        z /= np.sqrt((z**2).sum(axis=0)) + 1e-6
        own = (early >= at) & (early < at + CHUNK_FRAMES)
        same += int(((z[:, early[own] - at] * z[:, late[own] - at]).sum(axis=0) > SAME_CORRELATION).sum())
    return same / len(early) if len(early) else 0.0


def _distance(shape: Floats, early: Indices, late: Indices) -> Floats:
    return np.asarray(np.sqrt(((shape[:, late] - shape[:, early]) ** 2).sum(axis=0)))


def _percentile(values: Floats | Indices, percent: float) -> float:
    """The percentile of values, (n,); infinite where there is nothing, so that no lower bound fails."""
    return float(_percentiles(values, percent)) if len(values) else np.inf


def _percentiles(values: NDArray[Any], percent: float) -> Floats:
    """The percentile of each row, (..., n) to (...), as `np.percentile` finds it, in a tenth of its time."""
    place = (values.shape[-1] - 1) * percent / 100
    below = int(place)
    pair = np.partition(values, (below, min(below + 1, values.shape[-1] - 1)), axis=-1)[..., below : below + 2]
    return np.asarray(pair[..., 0] + (pair[..., -1] - pair[..., 0]) * (place - below))


@functools.cache
def _dct() -> NDArray[np.float32]:
    """DCT-II over the bands without order 0, (CEPSTRAL_ORDERS, BANDS), scaled to root mean square values in dB."""
    band, order = np.arange(BANDS)[None, :], np.arange(1, CEPSTRAL_ORDERS + 1)[:, None]
    return np.asarray(np.cos(np.pi * (band + 0.5) * order / BANDS) * np.sqrt(2) / BANDS, dtype=np.float32)

"""Whether there is speech in a clip: silence, noise, hum, tones and music are not people.

    heard(y, VOICE)                                   # seconds of voiced speech; 0.0 where there is too little, or none

A few rules, set by hand from recordings of speech and from generated sounds; nothing is trained. First the foreground
is found: frames nearly as loud as the loudest one and louder than any steady background, such as a hum. In it, runs of
voiced frames are found and nine `Signs` measured. Speech is voiced often and strongly, in several bands at once; its
pitch glides, its level swells and its spectrum changes from syllable to syllable. A tone does not change, noise is
hardly periodic, and an instrument changes in some of these ways but not in all. The longer a sound is voiced, the
stricter the rules.

Known limits: drums, engines, singing, animals' voices and music of several instruments often pass as speech, single
instruments with vibrato sometimes; whispering is not voiced and is not found.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agr.recipes.base import Recipe
from agr.recipes.voice_features import BANDS, BOTTOM_HZ, LAGS, PART_FRAMES, RANGE_DB, TOP_HZ, lag_hz, of_clip, sameness

FRAME_SECONDS = 0.010
LOUD_DB = 25.0  # frames further below the loudest one are background
ALWAYS, ABOVE_DB = 10, 6.0  # so is what is not so far above the level that its band exceeds but for that percentage
PERIODIC, NEARLY = 0.50, 0.92  # strength of a voiced frame; of the lag whose multiples are as strong
STEP, RUN = 0.12, 3  # the most that the logarithm of pitch moves between frames of a run, and a run's fewest frames
WIDE_DB = 18.0  # below a frame's strongest band
ALIKE = 0.95  # correlation of two frames' periodicity that stands still
FLOOR_DB, ORDERS, SMOOTH = 30.0, 8, 5  # of spectral shapes: floor, cepstral orders, and frames averaged
NEAR, FAR = (2, 1), (6, 4, 2)  # frames before and after, as many as the clip has: 40 ms and 120 ms, where it can be
Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]
Whole = NDArray[np.int64]


@dataclass(frozen=True)
class Signs:
    """What tells speech from other sounds. All but the last two are measured on the foreground's voiced frames.

    Attributes:
        voiced: Number of voiced frames.
        share: Their share of the foreground, 0..1.
        strength: Median periodicity, 0..1.
        width: Median number of bands within WIDE_DB of the frame's strongest one.
        glide: Change of pitch over 40 ms, in percent, 80th percentile.
        swell: Change of level over 40 ms, in dB, 80th percentile.
        flutter: Change of spectral shape over 40 ms, in dB, median.
        wander: Change of the smoothed spectral shape over 120 ms, in dB, median over all loud frames.
        still: Share of the foreground whose periodicity is the same 40 ms later, 0..1.
    """

    voiced: int
    share: float
    strength: float
    width: float
    glide: float
    swell: float
    flutter: float
    wander: float
    still: float


def heard(y: NDArray[np.float32], recipe: Recipe) -> float:
    """Seconds of voiced speech in a clip, (n,) at the recipe's rate; 0.0 where it does not sound like speech."""
    return seconds(of_clip(y, recipe, sameness))


def seconds(features: NDArray[np.uint8]) -> float:
    """Seconds of voiced speech, from voice features, (ROWS, frames) uint8, with `agr.recipes.voice_features.sameness`."""
    found = signs(features)
    return found.voiced * FRAME_SECONDS if is_speech(found) else 0.0


def is_speech(s: Signs) -> bool:
    """Whether every rule holds. Each threshold misses at most about one clip of speech in a thousand."""
    rules = (
        s.voiced >= RUN,
        s.share >= 0.10 or s.wander >= 3.3,  # wind and clicks are periodic by chance, and rarely
        s.strength >= 0.64 or s.wander >= 2.2,  # so is noise, and weakly; so are several instruments at once
        s.strength >= 0.79 or s.still <= 0.36,  # drums and bells: weak, and yet the same for long
        s.strength >= 0.91 or s.width >= 5,  # drums and ticks: weak and of few bands
        s.glide >= 0.5 or s.still <= 0.10,  # tones and notes
        s.glide >= 1.1 or s.voiced <= 40,  # chords, melodies, engines
        s.glide >= 2.2 or s.voiced <= 120,
        s.swell >= 0.7 or s.voiced <= 24,  # sirens and chirps
        s.flutter >= 1.15 or s.wander >= 0.65 or s.still <= 0.33,  # strings, flutes and engines
    )
    return all(rules)


def signs(features: NDArray[np.uint8]) -> Signs:
    """The signs in a clip's voice features, (ROWS, frames) uint8."""
    parts = [_of_frames(features[:, at : at + PART_FRAMES]) for at in range(0, features.shape[1], PART_FRAMES)]
    top, loudest, width, level, shape, strength, pitch = (
        np.concatenate(each, axis=-1) for each in zip(*parts, strict=True)
    )
    front = (top > top.max() - LOUD_DB) & (top - _always(features)[loudest] >= ABOVE_DB)
    run = _runs((strength > PERIODIC) & front, pitch)
    voiced = run > 0
    early, late = _pairs(run, NEAR)
    return Signs(
        voiced=int(voiced.sum()),
        share=float(voiced.sum() / max(front.sum(), 1)),
        strength=_at(strength[voiced], 50),
        width=_at(width[voiced], 50),
        glide=_at(np.abs(pitch[late] - pitch[early]) * 100, 80),
        swell=_at(np.abs(level[late] - level[early]), 80),
        flutter=_at(_distance(shape, early, late), 50),
        wander=_wander(shape, top),
        still=_still(features, front),
    )


def _of_frames(features: NDArray[np.uint8]) -> tuple[NDArray[Any], ...]:
    """Measure each frame by itself.

    Returns:
        The level of its loudest band in dB, that band's index, the number of bands within WIDE_DB of it, the mean
        level in dB, the spectral shape in dB, (ORDERS, frames), the strength of its pitch and the pitch's logarithm.
        All but the shape are (frames,).
    """
    bands = _decibels(features[:BANDS])  # (BANDS, frames)
    top = bands.max(axis=0)  # (frames,)
    level = 10 * np.log10((10 ** (bands / 10)).mean(axis=0))
    shape = _cosines() @ np.maximum(bands, top - FLOOR_DB)
    width = (bands > top - WIDE_DB).sum(axis=0)
    return top, bands.argmax(axis=0), width, level, shape, *_pitch(_periodicity(features))


def _decibels(bands: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(bands * np.float32(RANGE_DB / 255))


def _periodicity(features: NDArray[np.uint8]) -> NDArray[np.float32]:
    """0..1: (ROWS, frames) to (LAGS, frames)."""
    return np.asarray(features[BANDS:] / np.float32(255))


def _always(features: NDArray[np.uint8]) -> Floats:
    """The steady background: the level below which each band is in ALWAYS percent of the frames, in dB, (BANDS,)."""
    rows = max(1, BANDS * PART_FRAMES // features.shape[1])  # all of them, of a clip of one part
    groups = (features[at : min(at + rows, BANDS)] for at in range(0, BANDS, rows))
    return np.concatenate([np.percentile(_decibels(group), ALWAYS, axis=1) for group in groups])


def _pitch(periodicity: Floats) -> tuple[Floats, Floats]:
    """Strength and logarithm of the pitch of each frame: (LAGS, frames) to (frames,) twice.

    Among the peaks nearly as strong as the strongest one, that of the shortest lag is taken and refined by a parabola
    through it and its neighbours.
    """
    inner = periodicity[1:-1]
    peaks = np.where((inner >= periodicity[:-2]) & (inner > periodicity[2:]), inner, 0)
    strength = peaks.max(axis=0)
    at = (peaks >= NEARLY * np.maximum(strength, 1e-9)).argmax(axis=0) + 1
    frame = np.arange(periodicity.shape[1])
    before, here, after = (periodicity[at + step, frame] for step in (-1, 0, 1))
    bend = np.minimum(before + after - 2 * here, -1e-9)
    step = np.log(TOP_HZ / BOTTOM_HZ) / (LAGS - 1)
    return strength, np.log(lag_hz())[at] - np.clip((before - after) / (2 * bend), -1, 1) * step


def _runs(voiced: Bools, pitch: Floats) -> Whole:
    """Number the runs of voiced frames whose pitch is continuous from 1; all other frames get 0: (frames,)."""
    joined = np.zeros(len(voiced), dtype=np.bool_)
    joined[1:] = voiced[1:] & voiced[:-1] & (np.abs(np.diff(pitch)) < STEP)
    run = np.cumsum(voiced & ~joined) * voiced
    return np.asarray(np.where(np.bincount(run)[run] >= RUN, run, 0))


def _pairs(group: NDArray[Any], spans: tuple[int, ...]) -> tuple[Whole, Whole]:
    """Frames `span` before and `span` after a frame of the same group: indices, (n,) twice.

    Group 0 does not count. The first of `spans` is used for which there are any.
    """
    for span in spans:
        early, late = group[: -2 * span], group[2 * span :]
        middle = group[span:-span]
        (found,) = np.nonzero((middle != 0) & (early == middle) & (late == middle))
        if len(found):
            return found, found + 2 * span
    nothing = np.zeros(0, dtype=np.int64)
    return nothing, nothing


def _wander(shape: Floats, top: Floats) -> float:
    """The median distance of the smoothed spectral shapes of loud frames 120 ms apart, in dB."""
    padded = np.pad(shape, ((0, 0), (SMOOTH // 2, SMOOTH // 2)), mode="edge")
    smooth = sum(padded[:, at : at + shape.shape[1]] for at in range(SMOOTH)) / SMOOTH
    loud = top > top.max() - FLOOR_DB
    return _at(_distance(np.asarray(smooth), *_pairs(loud, FAR)), 50)


def _still(features: NDArray[np.uint8], front: Bools) -> float:
    """The share of foreground frames 40 ms apart whose periodicity is ALIKE."""
    early, late = _pairs(front, NEAR)
    alike = 0
    for at in range(0, len(front), PART_FRAMES):
        z = _periodicity(features[:, at : at + PART_FRAMES + 2 * max(NEAR)])
        z -= z.mean(axis=0)
        z /= np.sqrt((z**2).sum(axis=0)) + 1e-6
        own = (early >= at) & (early < at + PART_FRAMES)
        alike += int(((z[:, early[own] - at] * z[:, late[own] - at]).sum(axis=0) > ALIKE).sum())
    return alike / len(early) if len(early) else 0.0


def _distance(shape: Floats, early: Whole, late: Whole) -> Floats:
    return np.asarray(np.sqrt(((shape[:, late] - shape[:, early]) ** 2).sum(axis=0)))


def _at(values: Floats | Whole, percent: float) -> float:
    """A percentile; infinite where there is nothing to measure, so that no lower bound fails."""
    return float(np.percentile(values, percent)) if len(values) else np.inf


@functools.cache
def _cosines() -> NDArray[np.float32]:
    """Orders 1 to ORDERS of a DCT-II over the bands, (ORDERS, BANDS), scaled to root mean square values in dB."""
    band, order = np.arange(BANDS)[None, :], np.arange(1, ORDERS + 1)[:, None]
    return np.asarray(np.cos(np.pi * (band + 0.5) * order / BANDS) * np.sqrt(2) / BANDS, dtype=np.float32)

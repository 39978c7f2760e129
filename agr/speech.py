"""Whether there is speech in a clip: silence, noise, hum and tones are not people.

    seconds(evidence.of_clip(y, VOICE))               # of voiced speech; 0.0 where there is too little, or none

A rule with few constants, read off from recordings of speech and from made-up noises; nothing is trained. Speech has
runs of voiced frames, in several bands at once, whose spectrum changes from syllable to syllable and whose pitch never
stands still: a hum, a tone or an organ pipe has a pitch that does not move, and noise has none. Instruments that glide
or tremble as voices do, drums, wind and whole bands still pass.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from agr.evidence import BANDS, BOTTOM_HZ, LAGS, RANGE_DB, SPEECH_RANGE_DB, TOP_HZ, lag_hz

PERIODIC, NEARLY = 0.55, 0.92  # strength of a voiced frame; of the lag whose multiples are as strong
GLIDE = 0.12  # the most that the logarithm of pitch moves from frame to frame within a run
RUN, VOICED_FRAMES = 3, 4  # frames of a run, and in all, at least
WIDE_DB, WIDE_BANDS = 18.0, 4  # so many bands lie so near the strongest one
CHANGE_DB, CHANGE_FRAMES = 1.1, 6  # how far spectra stand apart that are so many frames before and after
FLOOR_DB, ORDERS, SMOOTH = 30.0, 6, 5  # of those spectra: their floor, cepstral orders, and frames averaged
MOVE, MOVE_FRAMES = 0.002, 2  # as CHANGE, of the logarithm of pitch
FRAME_SECONDS = 0.010

Floats = NDArray[np.float64]


def seconds(evidence: NDArray[np.uint8]) -> float:
    """Seconds of voiced speech in a clip's evidence, (ROWS, frames) uint8; 0.0 where it does not sound like speech."""
    bands = evidence[:BANDS].astype(np.float64) * (RANGE_DB / 255)  # dB
    top = bands.max(axis=0)  # (frames,)
    strength, pitch = _pitch(evidence[BANDS:].astype(np.float64) / 255)
    run = _runs((strength > PERIODIC) & (top > top.max() - SPEECH_RANGE_DB), pitch)
    voiced = run > 0
    if voiced.sum() < VOICED_FRAMES:
        return 0.0
    wide = (bands[:, voiced] > top[voiced] - WIDE_DB).sum(axis=0)
    alive = np.median(wide) >= WIDE_BANDS and _moves(run, pitch) >= MOVE and _changes(bands) >= CHANGE_DB
    return float(voiced.sum()) * FRAME_SECONDS if alive else 0.0


def _pitch(periodicity: Floats) -> tuple[Floats, Floats]:
    """Strength and logarithm of the pitch of each frame: (LAGS, frames) to (frames,) twice.

    The shortest of the nearly strongest lags that are peaks, with a parabola through it and its neighbours.
    """
    inner = periodicity[1:-1]
    peaks = np.where((inner >= periodicity[:-2]) & (inner > periodicity[2:]), inner, 0.0)
    strength = peaks.max(axis=0)
    at = (peaks >= NEARLY * np.maximum(strength, 1e-9)).argmax(axis=0) + 1
    frame = np.arange(periodicity.shape[1])
    before, here, after = (periodicity[at + step, frame] for step in (-1, 0, 1))
    bend = np.minimum(before + after - 2 * here, -1e-9)
    step = np.log(TOP_HZ / BOTTOM_HZ) / (LAGS - 1)
    return strength, np.log(lag_hz())[at] - np.clip((before - after) / (2 * bend), -1, 1) * step


def _runs(voiced: NDArray[np.bool_], pitch: Floats) -> NDArray[np.int64]:
    """A number for each run of voiced frames whose pitch hangs together, 0 for all other frames: (frames,)."""
    joined = np.zeros(len(voiced), dtype=np.bool_)
    joined[1:] = voiced[1:] & voiced[:-1] & (np.abs(np.diff(pitch)) < GLIDE)
    run = np.cumsum(voiced & ~joined) * voiced
    return np.asarray(np.where(np.bincount(run)[run] >= RUN, run, 0))


def _moves(run: NDArray[np.int64], pitch: Floats) -> float:
    """How far the logarithm of pitch moves over 40 ms within runs, in the median; 0 where none is so long."""
    for frames in range(MOVE_FRAMES, 0, -1):
        near = np.arange(frames, len(run) - frames)
        near = near[(run[near] > 0) & (run[near - frames] == run[near]) & (run[near + frames] == run[near])]
        if len(near):
            return float(np.median(np.abs(pitch[near + frames] - pitch[near - frames]))) * MOVE_FRAMES / frames
    return 0.0


def _changes(bands: Floats) -> float:
    """How far loud spectra 120 ms apart differ in shape, in dB, at the upper fifth; 0 where there are none."""
    power = np.pad(10 ** (bands / 10), ((0, 0), (SMOOTH // 2, SMOOTH // 2)), mode="edge")
    smooth = 10 * np.log10(np.lib.stride_tricks.sliding_window_view(power, SMOOTH, axis=1).mean(axis=2))
    top = smooth.max(axis=0)
    shape = _cosines() @ np.maximum(smooth, top - FLOOR_DB)  # (ORDERS, frames)
    loud = top > top.max() - FLOOR_DB
    for frames in (CHANGE_FRAMES, 4, 2):
        near = np.arange(frames, bands.shape[1] - frames)
        near = near[loud[near - frames] & loud[near + frames]]
        if len(near):
            apart = np.sqrt(((shape[:, near - frames] - shape[:, near + frames]) ** 2).sum(axis=0))
            return float(np.percentile(apart, 80))
    return 0.0


@functools.cache
def _cosines() -> Floats:
    """The first orders of an orthonormal DCT-II over the bands but for the mean, scaled to an effective value in dB."""
    band, order = np.arange(BANDS)[None, :], np.arange(1, ORDERS + 1)[:, None]
    return np.asarray(np.cos(np.pi * (band + 0.5) * order / BANDS) * np.sqrt(2) / BANDS)

"""Long recordings with a known timeline: clips of known people, with pauses, noise and music between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from agr.audio import read as audio
from agr.data.clips import Clip, Corpus

RATE = 16_000
FRAME = 160  # samples of a frame of the truth: 10 ms
NOTHING, FEMALE, MALE = 0, 1, 2  # classes of the truth
LOUD_DB = 40.0  # a clip is trimmed to what lies no further than this below its loudest 10 ms
Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Scene:
    """One long recording and who speaks in each 10 ms of it."""

    y: Samples  # (n,), at RATE
    truth: NDArray[np.int8]  # (n // FRAME,)


def make(corpora: Sequence[Corpus], seconds: float, seed: int) -> Scene:
    """Join clips of people drawn at random, women and men alike, until `seconds` are full."""
    rng = np.random.default_rng(seed)
    people = _people(corpora)
    parts: list[Samples] = []
    truth: list[NDArray[np.int8]] = []
    total = 0
    while total < seconds * RATE:
        gender = int(rng.integers(2))
        name = people[gender][rng.integers(len(people[gender]))]
        for clip in rng.permutation(np.array(name, dtype=object))[: rng.integers(1, 4)]:  # one turn
            y = _level(_trimmed(_whole(audio.load(clip.path, RATE))), rng.uniform(-32, -18))
            parts += [y, between := _between(rng)]
            truth += [_labels(len(y), FEMALE if clip.gender == "female" else MALE), _labels(len(between), NOTHING)]
            total += len(y) + len(between)
    background = _level(_noise(sum(map(len, parts)), "pink", rng), rng.uniform(-65, -50))
    return Scene(np.concatenate(parts) + background, np.concatenate(truth))


def _people(corpora: Sequence[Corpus]) -> tuple[list[list[Clip]], list[list[Clip]]]:
    """The clips of each woman, and of each man."""
    found: tuple[dict[str, list[Clip]], dict[str, list[Clip]]] = ({}, {})
    for corpus in corpora:
        for clip in corpus.clips:
            found[clip.gender == "male"].setdefault(f"{corpus.name}/{clip.speaker}", []).append(clip)
    return list(found[0].values()), list(found[1].values())


def _labels(samples: int, label: int) -> NDArray[np.int8]:
    return np.full(samples // FRAME, label, dtype=np.int8)


def _whole(y: Samples) -> Samples:
    """Without the last frame that is not whole."""
    return y[: len(y) // FRAME * FRAME]


def _trimmed(y: Samples) -> Samples:
    level = 10 * np.log10(np.maximum((y.reshape(-1, FRAME) ** 2).mean(axis=1), 1e-12))
    (loud,) = np.nonzero(level > level.max() - LOUD_DB)
    return y[loud[0] * FRAME : (loud[-1] + 1) * FRAME]


def _level(y: Samples, decibels: float) -> Samples:
    """Scaled to a root mean square of so many decibels below full scale."""
    power = float(np.sqrt((y.astype(np.float64) ** 2).mean())) + 1e-9
    return np.asarray(y * (10 ** (decibels / 20) / power), dtype=np.float32)


def _between(rng: np.random.Generator) -> Samples:
    """What lies between two clips: mostly a pause, sometimes music or noise."""
    kind = rng.choice(["pause", "music", "noise", "none"], p=[0.55, 0.15, 0.15, 0.15])
    seconds = {"pause": rng.uniform(0.2, 2), "music": rng.uniform(3, 12), "noise": rng.uniform(2, 8), "none": 0.0}[kind]
    size = int(seconds * RATE) // FRAME * FRAME
    if kind == "music":
        return _level(_music(size, rng), rng.uniform(-35, -20))
    if kind == "noise":
        return _level(_noise(size, str(rng.choice(["white", "pink", "hum", "clicks"])), rng), rng.uniform(-45, -22))
    return np.zeros(size, dtype=np.float32)


def _noise(size: int, kind: str, rng: np.random.Generator) -> Samples:
    time = np.arange(size) / RATE
    white = rng.standard_normal(size)
    if kind == "pink":
        white = lfilter([0.05], [1, -0.95], white)  # falls by 6 dB an octave above 130 Hz
    if kind == "hum":
        white = 0.05 * white + sum(np.sin(2 * np.pi * 50 * k * time) / k for k in range(1, 8))
    if kind == "clicks":
        white = lfilter([1], [1, -0.97], white * (rng.random(size) < 0.0006)) + 0.002 * white
    return np.asarray(white, dtype=np.float32)


def _music(size: int, rng: np.random.Generator) -> Samples:
    """Chords, a melody of plucked or held notes, and perhaps drums."""
    y = np.zeros(size)
    beat = rng.uniform(0.25, 0.6)
    root, scale = rng.uniform(110, 220), [0, 2, 4, 5, 7, 9, 11, 12, 14, 16]
    held = rng.random() < 0.5
    for at in np.arange(0, size / RATE, beat):
        start = int(at * RATE)
        notes = [root * 2 ** (rng.choice(scale) / 12 + 1)]
        if round(at / beat) % 4 == 0:
            first = rng.choice([0, 5, 7, 9])
            notes += [root * 2 ** ((first + step) / 12) for step in (0, 4, 7)]
        for hz in notes:
            length = min(int(RATE * beat * (1 if held else 3)), size - start)
            time = np.arange(length) / RATE
            vibrato = 0.3 * np.sin(2 * np.pi * 5.5 * time) if held else 0.0
            tones = sum(np.sin(k * (2 * np.pi * hz * time + vibrato)) / k**1.5 for k in range(1, 9))
            shape = np.minimum(time / 0.03, 1) * (
                np.minimum((length / RATE - time) / 0.05, 1) if held else np.exp(-4 * time)
            )
            y[start : start + length] += tones * shape
        if rng.random() < 0.4:
            length = min(RATE // 8, size - start)
            y[start : start + length] += 1.5 * rng.standard_normal(length) * np.exp(-np.arange(length) / (RATE * 0.02))
    return np.asarray(y, dtype=np.float32)

"""What sounds like speech and what does not, on sounds made here and on the real recordings where they are at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from agr import audio, evidence, speech
from agr.recipe import VOICE

RATE = VOICE.sample_rate
Sound = NDArray[np.float64]


def seconds(y: Sound) -> float:
    return speech.seconds(evidence.of_clip(y.astype(np.float32), VOICE))


def at(length: float) -> Sound:
    return np.arange(round(length * RATE)) / RATE


def noise(length: float, slope: float, seed: int) -> Sound:
    """Noise whose power falls as frequency to the power of `slope`: 0 white, 1 pink."""
    n = round(length * RATE)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(n))
    y = np.fft.irfft(spectrum * np.maximum(np.fft.rfftfreq(n, 1 / RATE), 20.0) ** (-slope / 2), n)
    return np.asarray(0.2 * y / np.abs(y).max())


def harmonics(hz: float, length: float, count: int = 20) -> Sound:
    parts = [np.sin(2 * np.pi * hz * k * at(length)) / k for k in range(1, count + 1) if hz * k < RATE / 2]
    return np.asarray(0.2 * np.sum(parts, axis=0))


def clicks(every: float, length: float) -> Sound:
    y = np.zeros(round(length * RATE))
    y[:: round(every * RATE)] = 0.8
    return y


@pytest.mark.parametrize("length", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("slope", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_noise_is_no_speech(slope: float, length: float, seed: int) -> None:
    assert seconds(noise(length, slope, seed)) == 0


@pytest.mark.parametrize("hz", [50, 60, 100, 120])
@pytest.mark.parametrize("hiss", [0.0, 0.003])
def test_hum_is_no_speech(hz: float, hiss: float) -> None:
    y = harmonics(hz, 2.0)
    assert seconds(y + hiss * np.random.default_rng(0).standard_normal(len(y))) == 0


@pytest.mark.parametrize("hz", [80, 150, 220, 440, 1_000, 2_000])
@pytest.mark.parametrize("count", [1, 20])
def test_a_tone_is_no_speech(hz: float, count: int) -> None:
    assert seconds(harmonics(hz, 1.5, count)) == 0


@pytest.mark.parametrize("every", [0.01, 0.1, 0.5])
def test_clicks_are_no_speech(every: float) -> None:
    assert seconds(clicks(every, 2.0)) == 0


def test_an_organ_changing_its_notes_is_no_speech() -> None:
    assert seconds(np.concatenate([harmonics(hz, 0.3) for hz in (131, 165, 196, 262)])) == 0


def test_dither_is_no_speech() -> None:
    y = np.round(np.random.default_rng(0).uniform(-1, 1, 2 * RATE)) / 32_768
    assert seconds(y) == 0


def test_voices_are_speech_as_they_are_and_with_noise_10_db_below(demo_root: Path) -> None:
    lost = {"clean": 0, "noisy": 0}
    clips = audio.find(demo_root)
    for number, path in enumerate(clips):
        y = audio.load(path, RATE).astype(np.float64)
        hiss = np.random.default_rng(number).standard_normal(len(y)) * np.sqrt(np.mean(y**2) / 10)
        lost["clean"] += seconds(y) == 0
        lost["noisy"] += seconds(y + hiss) == 0
    assert max(lost.values()) <= 0.03 * len(clips), lost


def test_loudness_does_not_matter(demo_root: Path) -> None:
    y = audio.load(audio.find(demo_root)[0], RATE).astype(np.float64)
    assert seconds(y) == pytest.approx(seconds(y / 50), abs=0.02) != 0


def test_a_pause_adds_no_speech(demo_root: Path) -> None:
    y = audio.load(audio.find(demo_root)[0], RATE).astype(np.float64)
    assert seconds(np.pad(y, (RATE, 2 * RATE))) == pytest.approx(seconds(y), abs=0.03)

"""Samples in memory are read as a file with the same samples is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from agr.audio import read as audio
from agr.audio.arrays import as_wav
from agr.errors import AudioError, EmptyAudio, NonFiniteAudio
from tests.sounds import vowel

RATE = 8_000
Y = vowel(200, 0.5)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "int32"])
def test_samples_give_what_a_file_with_them_gives(dtype: Any, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "clip.wav", Y, RATE, subtype="PCM_16" if dtype == "int16" else "FLOAT")
    samples, rate = soundfile.read(tmp_path / "clip.wav", dtype=dtype if dtype != "int32" else "float32")
    given = (samples * 2.0**31).astype("int32") if dtype == "int32" else samples
    expected = audio.load(tmp_path / "clip.wav", 16_000)
    found = audio.load(as_wav(given, rate, "clip"), 16_000)
    np.testing.assert_allclose(found, expected, atol=1e-6 if dtype == "int32" else 0)


def test_bytes_without_a_sign_are_centred() -> None:
    found, _ = audio.decode(as_wav(np.tile(np.array([0, 128, 192], dtype=np.uint8), 500), RATE, "clip"))
    assert found[:3].tolist() == [-1.0, 0.0, 0.5]


@pytest.mark.parametrize("axis", [0, 1])
def test_either_axis_may_hold_the_channels(axis: int) -> None:
    found, _ = audio.decode(as_wav(np.stack([Y, 0.5 * Y], axis=axis), RATE, "clip"))
    np.testing.assert_allclose(found, 0.75 * Y, atol=1e-6)


@pytest.mark.parametrize(
    ("samples", "rate", "expected"),
    [
        (np.zeros((80, 400)), RATE, r"clip: samples of shape \(80, 400\); expected \(n,\)"),
        (np.zeros((2, 3, 4)), RATE, "clip: samples of shape"),
        (np.float64(1), RATE, r"clip: samples of shape \(\)"),
        (np.zeros(800, dtype=complex), RATE, "clip: samples of type complex128; expected floats or integers"),
        (np.zeros(800, dtype=bool), RATE, "clip: samples of type bool"),
        (Y, 8_000.5, "clip: a rate of 8000.5; expected a whole number of Hz"),
        (Y, -8_000, "clip: a rate of -8000"),
        (Y, float("nan"), "clip: a rate of nan"),
    ],
)
def test_what_is_no_recording_is_refused(samples: Any, rate: float, expected: str) -> None:
    with pytest.raises(AudioError, match=expected):
        as_wav(samples, rate, "clip")


@pytest.mark.parametrize(
    ("samples", "error"), [(np.zeros(0), EmptyAudio), (np.full(4_000, np.nan), NonFiniteAudio), (Y * 1e30, AudioError)]
)
def test_the_checks_of_files_hold(samples: Any, error: type[AudioError]) -> None:
    with pytest.raises(error):
        audio.load(as_wav(samples, RATE, "clip"), 16_000, "clip")

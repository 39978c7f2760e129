"""Periodicity equals what the papers define, computed sample by sample or frequency by frequency."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal

from agr.recipes.periodicity import LAGS, autocorrelation, lag_hz, yin_periodicity
from agr.recipes.voice import VOICE
from agr.recipes.voice_features import BANDS, extract
from tests.sounds import noise, tone


def test_periodicity_equals_the_autocorrelation_of_a_compressed_spectrum_summed_by_harmonics() -> None:
    y = tone(130) + noise(1.2, size=0.01)
    found = extract(y, VOICE)[BANDS:, 50] / 255
    length, size = 336, 4_096  # 42 ms
    hann = scipy.signal.get_window("hann", length)
    spectrum = np.abs(np.fft.fft(y[50 * 80 - length // 2 :][:length] * hann, size)) ** 2
    at = 2 * np.pi * np.abs(np.fft.fftfreq(size, 1 / 8_000))
    above, below = (
        np.abs(scipy.signal.freqs(*scipy.signal.butter(order, 2 * np.pi * hz, kind, analog=True), at)[1])
        for order, hz, kind in ((2, 60, "highpass"), (4, 1_000, "lowpass"))
    )
    weights = (spectrum * above**2) ** 0.6 * below**2
    window = np.correlate(hann, hann, "full")[length - 1 :]
    for row in range(0, LAGS, 7):
        lag, values = 8_000 / lag_hz()[row], []
        for whole in (int(lag), int(lag) + 1):
            r = (weights * np.cos(2 * np.pi * np.fft.fftfreq(size) * whole)).sum() / weights.sum()
            values.append(1.25 * r / max(0.15, window[whole] / window[0]))
        expected = min(1.0, max(0.0, values[0] + (lag - int(lag)) * (values[1] - values[0])))
        assert found[row] == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("hz", [90, 120, 140])
def test_a_harmonic_amplified_by_a_resonance_is_not_taken_for_the_pitch(hz: float) -> None:
    """A first formant on the second harmonic, as in a man's i or u: half the period is then nearly one as well."""
    t = np.arange(9_600) / 8_000
    sizes = (0.02, 0.2, 0.02, 0.01, 0.01)
    y = sum(size * np.sin(2 * np.pi * k * hz * t) for k, size in enumerate(sizes, start=1))
    clip = np.asarray(y, dtype=np.float32)
    new, old = (extract(clip, VOICE, each)[BANDS:, 60].astype(int) for each in (autocorrelation, yin_periodicity))
    own, double = (int(np.abs(lag_hz() - at).argmin()) for at in (hz, 2 * hz))
    assert new[own] - new[double] > 2 * (old[own] - old[double])


def test_yin_periodicity_equals_the_difference_function_summed_sample_by_sample() -> None:
    y = tone(130) + noise(1.2, size=0.01)
    spectrum = np.fft.rfft(y - np.mean(y, dtype=np.float64), 4 * len(y))
    at = 2 * np.pi * np.fft.rfftfreq(4 * len(y), 1 / 8_000)
    for order, hz, kind in ((2, 60, "highpass"), (4, 1_000, "lowpass")):
        analogue = scipy.signal.butter(order, 2 * np.pi * hz, kind, analog=True)
        spectrum = spectrum * np.abs(scipy.signal.freqs(*analogue, at)[1])
    low = np.fft.irfft(spectrum)[: len(y)]
    found = extract(y, VOICE, yin_periodicity)[BANDS:, 50] / 255
    length, longest = 320, int(8_000 / lag_hz()[-1]) + 2
    start = 50 * 80 - (length + longest) // 2
    for row in range(0, LAGS, 7):
        lag, values = 8_000 / lag_hz()[row], []
        for whole in (int(lag), int(lag) + 1):
            left, right = low[start : start + length], low[start + whole : start + whole + length]
            values.append(1 - ((left - right) ** 2).sum() / ((left**2).sum() + (right**2).sum()))
        expected = max(0.0, values[0] + (lag - int(lag)) * (values[1] - values[0]))
        assert found[row] == pytest.approx(expected, abs=0.003)

"""Voice features: the pitch of known tones, what must change nothing, and where windows are cut."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from agr.audio import read as audio
from agr.recipes import voice_features
from agr.recipes.base import FRAMES
from agr.recipes.periodicity import LAGS, lag_hz
from agr.recipes.voice import VOICE
from agr.recipes.voice_features import BANDS, ROWS, band_hz, best_window, extract, pitch, voicing, windows
from agr.recipes.voice_image import LAG_STEP
from tests.sounds import noise, tone


def marked(frames: int) -> NDArray[np.uint8]:
    """Features whose first row tells frames apart."""
    found = np.zeros((ROWS, frames), dtype=np.uint8)
    found[0] = np.arange(frames) % 251
    return found


# --- pitch, bands and periodicity


@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 48_000])
@pytest.mark.parametrize("hz", [75, 90, 120, 165, 210, 290, 400])
def test_the_pitch_of_a_tone_is_found_within_one_lag(hz: float, sample_rate: int) -> None:
    y = audio.resample(tone(hz, sample_rate=sample_rate), sample_rate, 8_000)
    (found,) = pitch(windows(extract(y, VOICE))[:1])
    assert abs(np.log(found / hz)) < LAG_STEP


def test_lags_fall_evenly_and_bands_rise() -> None:
    np.testing.assert_allclose(np.diff(np.log(lag_hz())), -LAG_STEP)
    assert (lag_hz()[0], lag_hz()[-1]) == pytest.approx((520, 48))
    assert (len(lag_hz()), len(band_hz())) == (LAGS, BANDS)
    assert (np.diff(band_hz(), 2) > 0).all()  # as on any mel scale, in Hz ever further apart
    np.testing.assert_allclose(voice_features.mel_to_hz(voice_features.hz_to_mel(band_hz())), band_hz())
    assert float(voice_features.hz_to_mel(1_000)) == pytest.approx(1_000, abs=0.1)  # what the scale is named for


@pytest.mark.parametrize("hz", [200, 440, 1_000, 2_500])
def test_a_pure_tone_is_loudest_in_its_own_band(hz: float) -> None:
    y = np.sin(2 * np.pi * hz * np.arange(9_600) / 8_000).astype(np.float32)
    found = extract(y, VOICE)[:BANDS, 20:80].mean(axis=1)
    assert abs(int(found.argmax()) - int(np.abs(band_hz() - hz).argmin())) <= 1


@pytest.mark.parametrize("offset", [0.3, -0.084])
def test_a_constant_added_by_the_microphone_changes_nothing(offset: float) -> None:
    y = tone(150) + noise(1.2, size=0.02)
    difference = extract(y + np.float32(offset), VOICE).astype(int) - extract(y, VOICE)
    assert np.abs(difference).max() <= 1  # rounding of float32
    assert (difference != 0).mean() < 0.01


@pytest.mark.parametrize("gain", [0.01, 0.3, 8.0])
def test_loudness_changes_nothing(gain: float) -> None:
    y = tone(150) + noise(1.2, size=0.02)
    difference = extract(y * np.float32(gain), VOICE).astype(int) - extract(y, VOICE)
    assert np.abs(difference).max() <= 1
    assert (difference != 0).mean() < 0.01


def test_what_lies_above_4_khz_changes_nothing() -> None:
    high = np.sin(2 * np.pi * 6_000 * np.arange(48_000) / 48_000).astype(np.float32) * 0.1
    y = tone(150, 1.0, 48_000)
    plain, with_high = (extract(audio.resample(each, 48_000, 8_000), VOICE) for each in (y, y + high))
    assert np.abs(plain.astype(int) - with_high).mean() < 0.5


@pytest.mark.parametrize("samples", [1, 79, 80, 81, 400, 7_839, 7_840, 7_841, 20_001])
def test_there_is_one_frame_per_started_hop(samples: int) -> None:
    found = extract(tone(150, 3.0)[:samples], VOICE)
    assert found.shape == (ROWS, -(-samples // 80))
    assert found.dtype == np.uint8
    assert best_window(found).shape == (ROWS, FRAMES)


# --- voicing and pitch


def test_tones_are_voiced_noise_and_silence_are_not() -> None:
    assert voicing(extract(tone(150), VOICE))[5:-5].min() > 0.9
    assert voicing(extract(noise(1.2), VOICE)).max() < 0.4
    assert voicing(extract(np.zeros(9_600, dtype=np.float32), VOICE)).max() == 0
    assert np.isnan(pitch(windows(extract(noise(1.2), VOICE)))).all()
    assert np.isnan(pitch(windows(extract(np.zeros(9_600, dtype=np.float32), VOICE)))).all()


def test_frames_far_below_the_loudest_are_not_voiced() -> None:
    y = np.concatenate([tone(150, 0.5), tone(150, 0.5, size=0.1 * 10 ** (-50 / 20))])
    share = voicing(extract(y, VOICE))
    assert share[10:40].min() > 0.9
    assert share[60:90].max() == 0


def test_pitch_is_the_median_over_the_frames_of_each_window() -> None:
    found = np.concatenate([windows(extract(y, VOICE))[:1] for y in (tone(110), noise(1.2), tone(220))])
    together = pitch(found)
    np.testing.assert_array_equal(together, np.concatenate([pitch(one[None]) for one in found]))
    assert together[2] / together[0] == pytest.approx(2, rel=2 * LAG_STEP)
    both = np.concatenate([tone(110, 0.7), tone(220, 0.3)])
    assert pitch(windows(extract(both, VOICE))[:1])[0] == pytest.approx(together[0])


# --- windows


@pytest.mark.parametrize("frames", [1, 2, 97, 98])
def test_a_short_clip_is_centred_in_one_window(frames: int) -> None:
    found = marked(frames) + 1
    (window,) = windows(found)
    before = (FRAMES - frames) // 2
    np.testing.assert_array_equal(window[:, before : before + frames], found)
    assert not window[:, :before].any()
    assert not window[:, before + frames :].any()
    np.testing.assert_array_equal(best_window(found), window)


@pytest.mark.parametrize("frames", [99, 147, 148, 196, 197, 250])
def test_windows_overlap_by_half_cover_everything_and_end_flush(frames: int) -> None:
    found = marked(frames)
    cut = windows(found)
    starts = cut[:, 0, 0].astype(int)
    for start, window in zip(starts, cut, strict=True):
        np.testing.assert_array_equal(window, found[:, start : start + FRAMES])
    assert starts[0] == 0
    assert starts[-1] + FRAMES == frames
    assert (np.diff(starts)[:-1] == FRAMES // 2).all()
    assert 0 < np.diff(starts)[-1] <= FRAMES // 2


@pytest.mark.parametrize("begin", [0.0, 0.8, 1.7])
def test_the_best_window_is_where_the_speech_is(begin: float) -> None:
    y = noise(3.0, size=0.001)
    at = round(begin * 8_000)
    y[at : at + 8_000] += tone(150, 1.0)
    found = extract(y, VOICE)
    chosen = best_window(found)
    start = next(k for k in range(found.shape[1]) if (found[:, k : k + FRAMES] == chosen).all())
    assert abs(start - begin * 100) <= 4


def test_the_best_window_has_the_most_voicing_of_all() -> None:
    y = np.concatenate([noise(0.5), tone(150, 0.4), noise(0.6), tone(200, 0.7), noise(0.9)])
    found = extract(y, VOICE)
    cuts = np.lib.stride_tricks.sliding_window_view(found, FRAMES, axis=1).transpose(1, 0, 2)
    own = next(k for k, cut in enumerate(cuts) if (cut == best_window(found)).all())
    sums = [voicing(found)[k : k + FRAMES].sum() for k in range(len(cuts))]
    assert sums[own] == pytest.approx(max(sums))


# --- in parts


def test_a_clip_measured_in_chunks_equals_one_measured_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    y = np.concatenate(
        [noise(0.7), tone(150, 1.1), noise(0.9, seed=1, size=0.01), tone(260, 1.3, size=0.3), noise(0.3)]
    )
    whole = extract(y, VOICE)
    monkeypatch.setattr(voice_features, "CHUNK_FRAMES", 60)
    parts = extract(y, VOICE)
    assert parts.shape == whole.shape
    assert parts.strides == whole.strides
    difference = np.abs(parts.astype(int) - whole)
    assert difference.max() <= 2  # the filters know a second around a part, not the whole clip
    assert (difference > 0).mean() < 0.02


@pytest.mark.parametrize("frames", [1, 59, 60, 61, 119, 120, 121])
def test_clips_as_long_as_a_chunk_or_one_frame_more_or_less(frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    y = tone(150, 2.0)[: 80 * frames - 3]
    whole = extract(y, VOICE)
    monkeypatch.setattr(voice_features, "CHUNK_FRAMES", 60)
    assert np.abs(extract(y, VOICE).astype(int) - whole).max() <= 2

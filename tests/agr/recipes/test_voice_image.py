"""The voice image: where known sounds appear in it, what it does not depend on, and the effect of each change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from agr.recipes.base import COEFFICIENTS, FRAMES
from agr.recipes.periodicity import LAGS, lag_hz
from agr.recipes.voice import VOICE
from agr.recipes.voice_features import BANDS, HEADROOM, RANGE_DB, ROWS, band_hz, extract, hz_to_mel, windows
from agr.recipes.voice_image import ENVELOPE_HZ, LAG_STEP, PITCH_HZ, WARP_RANGE, WARPS, Change, draw

RED, GREEN, BLUE = range(3)

pytestmark = pytest.mark.usefixtures("one_thread")


def level(db: float) -> int:
    """The byte of a level, in dB beside the loudest frame's mean."""
    return round((db / RANGE_DB + 1 - HEADROOM) * 255)


def voiced(hz: float = 150.0, formant: float = 1_000.0) -> NDArray[np.uint8]:
    """A second of one pitch and one formant, with nothing else: 30 dB above the rest, frames 20 to 79."""
    found = np.zeros((ROWS, FRAMES), dtype=np.uint8)
    peak = -30.0 * np.minimum(1, np.abs(np.log(band_hz() / formant)) / 0.3)
    found[:BANDS, 20:80] = [[level(db)] for db in peak]
    found[BANDS + int(np.abs(np.log(lag_hz() / hz)).argmin()), 20:80] = 230
    return found


def spoken(i: int = 0) -> NDArray[np.uint8]:
    """Features with a bit of everything, drawn from a generator."""
    values = np.random.default_rng(i).integers(0, 256, (ROWS, FRAMES), dtype=np.uint8)
    values[:, 40:50] //= 8
    return values


def drawn(found: NDArray[np.uint8], change: Change | None = None) -> NDArray[np.int64]:
    """The image of one window: (12, 98, 3)."""
    return np.asarray(draw(torch.from_numpy(found[None]), change)[0].numpy(), dtype=np.int64)


def identity(n: int = 1) -> Change:
    return Change(
        gain=torch.ones(n, BANDS),
        noise=None,
        room=None,
        formants=torch.full((n,), WARPS // 2),
        pitch=torch.zeros(n, dtype=torch.int64),
        shift=torch.zeros(n, dtype=torch.int64),
    )


def changed(found: NDArray[np.uint8], **parts: Any) -> NDArray[np.int64]:
    return drawn(found, replace(identity(), **parts))


def one(value: int) -> Tensor:
    return torch.tensor([value])


# --- without changes


def test_images_have_the_shape_that_the_model_reads() -> None:
    images = draw(torch.from_numpy(np.stack([spoken(i) for i in range(3)])))
    assert images.shape == (3, COEFFICIENTS, FRAMES, 3)
    assert images.dtype == torch.uint8


def test_an_image_does_not_depend_on_its_batch() -> None:
    found = np.stack([spoken(i) for i in range(5)])
    together = draw(torch.from_numpy(found)).numpy().astype(int)
    alone = np.stack([drawn(window) for window in found])
    assert np.abs(together - alone).max() <= 1  # sums in another order may round otherwise


@pytest.mark.parametrize("hz", [70, 100, 150, 220, 300, 390])
def test_a_pitch_shows_in_its_own_row_only(hz: float) -> None:
    blue = drawn(voiced(hz))[:, 50, BLUE]
    expected = int(12 * np.log(PITCH_HZ[0] / hz) / np.log(PITCH_HZ[0] / PITCH_HZ[1]))  # high pitches first
    assert np.abs(int(blue.argmax()) - expected) <= (
        1 if abs(12 * np.log(410 / hz) / np.log(410 / 64) % 1 - 0.5) > 0.3 else 0
    )
    assert (np.delete(blue, int(blue.argmax())) == 0).all()


@pytest.mark.parametrize("hz", [300, 500, 1_000, 2_000, 3_000])
def test_a_formant_is_brightest_in_the_row_of_its_frequency(hz: float) -> None:
    red = drawn(voiced(formant=hz))[:, 50, RED]
    low, high = (float(hz_to_mel(edge)) for edge in ENVELOPE_HZ)
    place = (float(hz_to_mel(hz)) - low) / (high - low) * 13 - 1
    assert abs(int(red.argmax()) - place) <= 1


def test_blue_is_black_in_pauses_and_below_the_periodicity_of_noise() -> None:
    found = voiced()
    assert drawn(found)[:, 50, BLUE].max() > 150
    assert drawn(found)[:, 5, BLUE].max() == 0
    found[BANDS:] = np.minimum(found[BANDS:], 75)  # 0.29
    assert drawn(found)[..., BLUE].max() == 0


def test_green_is_grey_for_steady_brighter_for_rising_and_darker_for_falling_sound() -> None:
    found = voiced(formant=1_000)
    steps = np.clip(np.arange(FRAMES) - 49, -10, 10)
    found[:BANDS] = [[level(-20 + db) for db in steps]] * BANDS
    green = drawn(found)[..., GREEN]
    assert (np.abs(green[:, :36] - 127.5) <= 1).all()
    assert (green[:, 42:57] > 140).all()  # 1 dB a frame, of 7.5 that fill the scale
    np.testing.assert_allclose(green[:, 45:54], (1 / 15 + 0.5) * 255, atol=4)
    assert (drawn(np.ascontiguousarray(found[:, ::-1]))[:, 42:57, GREEN] < 115).all()


def test_overall_loudness_does_not_change_the_image() -> None:
    found = voiced()
    quieter = found.copy()
    quieter[:BANDS][quieter[:BANDS] > 0] -= 40
    np.testing.assert_allclose(drawn(found), drawn(quieter), atol=1)


def test_red_is_on_a_fixed_scale_relative_to_the_active_level() -> None:
    """Red is dB beside the active level alone: ten dB are the same step of 255 * 10 / 60 everywhere."""
    found = voiced()
    weak = found.copy()
    weak[:BANDS, 30:40] -= round(10 / RANGE_DB * 255)
    difference = drawn(found)[..., RED] - drawn(weak)[..., RED]
    assert np.abs(difference[3:6, 32:38] - 255 * 10 / 60).max() <= 2
    assert np.abs(difference[:, 50:70]).max() <= 1


def test_silence_and_an_empty_batch_can_be_drawn() -> None:
    assert draw(torch.zeros(0, ROWS, FRAMES, dtype=torch.uint8)).shape == (0, COEFFICIENTS, FRAMES, 3)
    nothing = drawn(np.zeros((ROWS, FRAMES), dtype=np.uint8))
    assert (nothing[..., BLUE] == 0).all()
    silence = drawn(windows(extract(np.zeros(8_000, dtype=np.float32), VOICE))[0])
    assert (silence[..., BLUE] == 0).all()


# --- changes


def test_the_identity_changes_nothing() -> None:
    found = torch.from_numpy(np.stack([spoken(i) for i in range(4)] + [voiced()]))
    assert (draw(found).int() - draw(found, identity(5)).int()).abs().max() <= 1


def test_each_window_gets_its_own_change() -> None:
    found = torch.from_numpy(np.stack([voiced()] * 3))
    parts = identity(3)
    three = draw(found, replace(parts, pitch=torch.tensor([0, 5, -5]), shift=torch.tensor([0, 3, 0])))
    assert torch.equal(three[0], draw(found[:1])[0])
    assert torch.equal(three[1], draw(found[:1], replace(identity(), pitch=one(5), shift=one(3)))[0])
    assert torch.equal(three[2], draw(found[:1], replace(identity(), pitch=one(-5)))[0])


@pytest.mark.parametrize("steps", [-12, -3, 4, 15])
def test_pitch_moves_the_blue_rows_and_nothing_else(steps: int) -> None:
    before, after = drawn(voiced(150)), changed(voiced(150), pitch=one(steps))
    np.testing.assert_array_equal(before[..., :BLUE], after[..., :BLUE])
    np.testing.assert_array_equal(after[..., BLUE], drawn(voiced(150 * np.exp(steps * LAG_STEP)))[..., BLUE])
    if steps > 0:  # higher voices are higher up, at lower numbers
        assert after[:, 50, BLUE].argmax() < before[:, 50, BLUE].argmax()


@pytest.mark.parametrize("index", [0, 10, 30, 40])
def test_formants_move_the_envelope_and_not_the_pitch(index: int) -> None:
    factor = np.exp(WARP_RANGE * (2 * index / (WARPS - 1) - 1))
    before, after = drawn(voiced(formant=1_000)), changed(voiced(formant=1_000), formants=one(index))
    np.testing.assert_array_equal(before[..., BLUE], after[..., BLUE])
    moved = drawn(voiced(formant=1_000 * factor))
    weights = np.maximum(after[:, 50, RED] - 150, 0), np.maximum(moved[:, 50, RED] - 150, 0)
    rows = np.arange(COEFFICIENTS)
    centres = [float((rows * own).sum() / own.sum()) for own in weights]
    assert centres[0] == pytest.approx(centres[1], abs=0.7)
    middle = np.maximum(before[:, 50, RED] - 150, 0)
    assert (centres[0] > (rows * middle).sum() / middle.sum()) == (factor > 1)


@pytest.mark.parametrize("frames", [-49, -1, 1, 15, 97])
def test_shift_rolls_the_whole_image(frames: int) -> None:
    found = spoken()
    np.testing.assert_array_equal(changed(found, shift=one(frames)), np.roll(drawn(found), frames, axis=1))


def test_a_gain_of_some_bands_changes_those_bands_only() -> None:
    found = voiced()
    np.testing.assert_allclose(changed(found, gain=torch.full((1, BANDS), 0.1)), drawn(found), atol=1)
    low = torch.ones(1, BANDS)
    low[0, :8] = 0.001  # below some 500 Hz
    before, after = drawn(found), changed(found, gain=low)
    assert (after[0, 30:70, RED] < before[0, 30:70, RED] - 60).all()
    np.testing.assert_allclose(after[4:, 30:70, RED], before[4:, 30:70, RED], atol=3)
    np.testing.assert_array_equal(after[..., BLUE], before[..., BLUE])


@pytest.mark.parametrize("db", [-20.0, 0.0])
def test_noise_fills_the_gaps_of_the_envelope_and_lowers_periodicity(db: float) -> None:
    found = voiced()
    before, after = drawn(found), changed(found, noise=torch.full((1, BANDS, FRAMES), 10 ** (db / 10)))
    assert (after[:, 5, RED] > before[:, 5, RED]).all()
    assert before[:, 5, RED].max() == 0  # a pause
    row = int(before[:, 50, BLUE].argmax())
    assert after[row, 50, BLUE] < before[row, 50, BLUE]
    if db == 0:
        assert after[row, 50, BLUE] < before[row, 50, BLUE] / 2
    assert (after[..., BLUE] <= before[..., BLUE]).all()


def test_a_room_smears_later_and_never_earlier() -> None:
    found = voiced()  # frames 20 to 79
    later = torch.arange(FRAMES)[None, :] - torch.arange(FRAMES)[:, None]
    room = torch.where(later >= 0, 0.8 ** later.clamp_min(0), torch.zeros(()))[None]
    before, after = drawn(found), changed(found, room=room)
    assert (after[:, :20, RED] == 0).all()
    assert (after[4, 80:90, RED] > before[4, 80:90, RED] + 50).all()
    assert (np.diff(after[4, 80:95, RED]) <= 0).all()
    assert (after[..., BLUE] <= before[..., BLUE]).all()
    identical = changed(found, room=torch.eye(FRAMES)[None])
    np.testing.assert_array_equal(identical, before)


def test_the_largest_pitch_shifts_stay_inside_the_image() -> None:
    for steps in (-LAGS, LAGS):
        assert changed(spoken(), pitch=one(steps)).shape == (COEFFICIENTS, FRAMES, 3)

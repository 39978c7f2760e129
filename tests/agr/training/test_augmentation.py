"""Augmentation: its random numbers, the share and strength of each part, and refused settings."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from agr.data.image_set import ImageSet
from agr.errors import SettingsError
from agr.recipes.base import FRAMES
from agr.recipes.voice_features import BANDS, band_hz
from agr.recipes.voice_image import LAG_STEP, WARP_RANGE, WARPS, Change, draw
from agr.training import augmentation
from agr.training.augmentation import COLUMNS, DEFAULT, NONE, Augmentation, augment, change, random_numbers

CPU = torch.device("cpu")
MANY = 4_000

pytestmark = pytest.mark.usefixtures("one_thread")


def changed(strength: Augmentation, clips: int = MANY, epoch: int = 0) -> Change:
    return change(random_numbers(np.arange(clips), 0, epoch), strength, CPU)


def only(**strengths: Any) -> Augmentation:
    return replace(NONE, **strengths)


def features_of(data: ImageSet) -> NDArray[np.uint8]:
    assert isinstance(data.features, np.ndarray)
    return np.array(data.features[:16])


# --- the random numbers


def test_draws_depend_on_seed_epoch_and_clip() -> None:
    one = random_numbers(np.arange(50), seed=3, epoch=2)
    assert one.shape == (50, COLUMNS)
    np.testing.assert_array_equal(random_numbers(np.arange(50), seed=3, epoch=2), one)
    for other in (random_numbers(np.arange(50), seed=4, epoch=2), random_numbers(np.arange(50), seed=3, epoch=3)):
        assert not (other == one).any()
    assert len(np.unique(one)) == one.size
    assert one.min() >= 0
    assert one.max() < 1


def test_draws_do_not_change_the_global_generators() -> None:
    np.random.seed(5)
    torch.manual_seed(5)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # type: ignore[index]
    changed(DEFAULT, 10)
    assert (np.random.get_state()[1] == before[0]).all()  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), before[1])


def test_draws_differ_from_those_that_order_an_epoch() -> None:
    assert random_numbers(np.arange(5), 0, 0)[0, 0] != np.random.default_rng([0, 0]).random()


# --- the parts


def test_no_strength_changes_nothing(voice_images: ImageSet) -> None:
    found = torch.from_numpy(features_of(voice_images))
    difference = augment(found, random_numbers(np.arange(16), 0, 0), NONE).int() - draw(found).int()
    assert difference.abs().max() <= 1
    nothing = changed(NONE)
    assert nothing.noise is None
    assert nothing.room is None
    assert (nothing.gain == 1).all()
    assert not nothing.pitch.any()
    assert not nothing.shift.any()
    assert (nothing.formants == WARPS // 2).all()


def test_the_augmentation_of_a_clip_does_not_depend_on_its_batch(voice_images: ImageSet) -> None:
    found, draws = torch.from_numpy(features_of(voice_images)), random_numbers(np.arange(16), 1, 4)
    together = augment(found, draws, DEFAULT).int()
    for rows in ([3], [15, 2, 9]):
        assert (augment(found[rows], draws[rows], DEFAULT).int() - together[rows]).abs().max() <= 1


def test_the_same_draws_give_the_same_images_to_the_bit(voice_images: ImageSet) -> None:
    found = torch.from_numpy(features_of(voice_images))
    one, same, other = (augment(found, random_numbers(np.arange(16), 0, epoch), DEFAULT) for epoch in (0, 0, 1))
    assert torch.equal(one, same)
    assert all(not torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_pitch_formants_and_shift_fill_their_ranges_evenly() -> None:
    found = changed(only(pitch=0.2, formants=0.1, shift=15))
    for values, edge in (
        (found.pitch * LAG_STEP, 0.2),
        ((found.formants - WARPS // 2) * WARP_RANGE / (WARPS // 2), 0.1),
        (found.shift, 15),
    ):
        sizes = values.double()
        assert sizes.abs().max() <= edge * 1.09  # rounded to whole steps
        assert sizes.max() > 0.85 * edge
        assert sizes.min() < -0.85 * edge
        assert abs(sizes.mean()) < 0.05 * edge
        assert float(sizes.std()) == pytest.approx(edge / np.sqrt(3), rel=0.1)


def test_speed_shifts_pitch_and_formants_by_one_factor() -> None:
    found = changed(only(speed=0.25))
    pitch, warp = found.pitch * LAG_STEP, (found.formants - WARPS // 2) * WARP_RANGE / (WARPS // 2)
    assert (pitch - warp).abs().max() <= LAG_STEP / 2 + WARP_RANGE / (WARPS - 1) + 1e-6
    assert pitch.abs().max() > 0.2


def test_speed_and_formants_together_stay_within_what_can_be_drawn() -> None:
    found = changed(only(speed=0.3, formants=0.3))
    assert int(found.formants.min()) == 0
    assert int(found.formants.max()) == WARPS - 1


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_line_noise_and_room_are_applied_to_their_share_of_clips(share: float) -> None:
    tolerance = 3 * np.sqrt(0.25 / MANY)  # three standard errors
    line = changed(only(line=share)).gain
    assert float((line.min(dim=1).values < 0.1).double().mean()) == pytest.approx(share, abs=tolerance)
    noise, room = changed(only(noise=share)).noise, changed(only(room=share)).room
    if share == 0:
        assert noise is None
        assert room is None
        return
    assert noise is not None
    assert room is not None
    assert float((noise.sum(dim=(1, 2)) > 0).double().mean()) == pytest.approx(share, abs=tolerance)
    smeared = (room - torch.eye(FRAMES)).abs().sum(dim=(1, 2)) > 0
    assert float(smeared.double().mean()) == pytest.approx(share, abs=tolerance)


def test_parts_are_applied_independently() -> None:
    found = changed(only(line=0.5, noise=0.5, room=0.5))
    assert found.noise is not None
    assert found.room is not None
    parts = torch.stack(
        [
            found.gain.min(dim=1).values < 0.1,
            found.noise.sum(dim=(1, 2)) > 0,
            (found.room - torch.eye(FRAMES)).abs().sum(dim=(1, 2)) > 0,
        ]
    ).double()
    correlations = torch.corrcoef(parts) - torch.eye(3)
    assert correlations.abs().max() < 4 / np.sqrt(MANY)


def test_noise_is_0_to_35_db_below_the_voice() -> None:
    noise = changed(only(noise=1)).noise
    assert noise is not None
    db = 10 * torch.log10(noise.mean(dim=(1, 2)))  # beside the active level, which is 1
    assert -36 < float(db.min()) < -34
    assert -1 < float(db.max()) < 1
    assert float(db.mean()) == pytest.approx(-17.5, abs=0.7)
    assert (noise >= 0).all()
    assert noise[0].std() > 0  # it is not constant


def test_a_telephone_passes_the_middle_and_little_else() -> None:
    gain = changed(only(line=1)).gain
    middle = (band_hz() > 400) & (band_hz() < 2_900)
    assert (gain[:, middle] == 1).all()
    assert (gain[:, band_hz() > 3_800] < 0.01).all()
    assert (gain[:, band_hz() < 110] < 0.2).all()


def test_colour_is_a_smooth_curve_of_some_decibels() -> None:
    db = 10 * torch.log10(changed(only(colour=4)).gain)
    assert float(db.std()) == pytest.approx(4.0, rel=0.4)
    assert db.abs().max() < 3 * 1.7 * 4
    assert (db[:, 1:] - db[:, :-1]).abs().max() < 4  # from band to band


def test_a_room_adds_decaying_power_to_later_frames() -> None:
    room = changed(only(room=1), clips=200).room
    assert room is not None
    later = torch.arange(FRAMES)[None, :] - torch.arange(FRAMES)[:, None]
    assert (room[:, later < 0] == 0).all()
    assert (room[:, later == 0] == 1).all()
    tail = room[:, 0, 1:]
    assert (tail[:, 1:] <= tail[:, :-1]).all()
    assert (tail[:, :30].sum(dim=1) < 1.0001).all()  # never more than the direct sound
    ratio = (tail[:, 1] / tail[:, 0]).double()  # of neighbouring frames, 10 ms apart
    seconds = -6 * 0.01 / torch.log10(ratio)  # for 60 dB
    assert float(seconds.min()) > 0.0999
    assert float(seconds.max()) < 0.7001


# --- settings


@pytest.mark.parametrize("field", [field.name for field in fields(Augmentation)])
def test_a_strength_out_of_its_range_is_refused_and_its_edges_are_not(field: str) -> None:
    highest: Any = {"speed": 0.3, "pitch": 0.6, "formants": 0.3, "colour": 20, "shift": 49}.get(field, 1)
    assert getattr(replace(NONE, **{field: highest}), field) == highest
    value: Any
    for value in (-0.01, highest + 0.01, float("nan")):
        with pytest.raises(SettingsError, match=f"^augmentation {field} {value}: expected 0 to {highest}$"):
            replace(NONE, **{field: value})


def test_strengths_are_parsed() -> None:
    assert augmentation.parse([]) == DEFAULT
    assert augmentation.parse(["pitch=0.1", "shift=7"]) == replace(DEFAULT, pitch=0.1, shift=7)


@pytest.mark.parametrize("word", ["pitch", "pitch=", "pitch=high", "loudness=1", "shift=1.5", "", "=1"])
def test_invalid_strengths_are_refused(word: str) -> None:
    with pytest.raises(SettingsError, match=f"^--augment {word}: expected NAME=STRENGTH, NAME of speed, pitch"):
        augmentation.parse([word])


def test_a_change_has_a_row_for_every_clip() -> None:
    found = changed(DEFAULT, 7)
    assert found.gain.shape == (7, BANDS)
    assert found.noise is not None
    assert found.noise.shape == (7, BANDS, FRAMES)
    assert [len(each) for each in (found.formants, found.pitch, found.shift)] == [7, 7, 7]

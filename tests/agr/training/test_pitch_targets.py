"""Pitch targets: compared with means taken by hand, and applied to training batches."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from agr.data.image_set import ImageSet, assemble
from agr.data.splits import Split
from agr.recipes.base import FRAMES
from agr.recipes.periodicity import lag_hz
from agr.recipes.voice import VOICE
from agr.recipes.voice_features import BANDS, ROWS
from agr.recipes.voice_image import LAG_STEP
from agr.training.augmentation import DEFAULT, NONE, augment, random_numbers
from agr.training.batches import TrainingSet
from agr.training.pitch_targets import MAX_CLIPS_PER_SPEAKER, TYPICAL_HZ, describe, mean_pitch, pitch_shifts
from agr.training.settings import Settings

CPU = torch.device("cpu")
Spec = tuple[str, str, str, int]  # corpus, speaker, gender, the lag of the pitch; a negative one is unvoiced


def made(clips: list[Spec]) -> ImageSet:
    """Clips in which one lag is wholly periodic and no other."""
    found = np.zeros((len(clips), ROWS, FRAMES), dtype=np.uint8)
    found[:, :BANDS] = 200
    for number, (_, _, _, lag) in enumerate(clips):
        if lag >= 0:
            found[number, BANDS + lag] = 255
    names = ("corpus", "speaker", "gender")
    rows = [dict(zip(names, clip[:3], strict=True)) | {"recording": str(n)} for n, clip in enumerate(clips)]
    return assemble("made", VOICE.images(found), rows, VOICE, False, found)


CLIPS: list[Spec] = [
    ("high", "a", "female", 20),
    ("high", "a", "female", 24),
    ("high", "b", "female", 26),
    ("high", "c", "male", 36),
    ("low", "d", "female", 34),
    ("low", "e", "male", 50),
    ("low", "f", "male", 54),
]
EVERY = np.arange(len(CLIPS))


def test_the_mean_pitch_of_each_corpus_and_gender_is_shifted_to_the_target() -> None:
    data = made(CLIPS)
    moved, hz = pitch_shifts(data, EVERY), np.log(lag_hz())
    women, men = np.log(TYPICAL_HZ["female"]), np.log(TYPICAL_HZ["male"])
    high = women - ((hz[20] + hz[24]) / 2 + hz[26]) / 2  # speakers count the same, not clips
    expected = [high] * 3 + [men - hz[36], women - hz[34]] + [men - (hz[50] + hz[54]) / 2] * 2
    np.testing.assert_allclose(moved, expected, atol=1e-9)


def test_only_training_clips_are_measured_and_shifted() -> None:
    data = made(CLIPS)
    train = EVERY[[0, 1, 3, 4, 5]]
    moved = pitch_shifts(data, train)
    assert moved[[2, 6]].tolist() == [0, 0]
    others = made([clip if n in train else (*clip[:3], 60) for n, clip in enumerate(CLIPS)])
    np.testing.assert_array_equal(pitch_shifts(others, train), moved)


def test_a_single_training_corpus_is_not_shifted() -> None:
    data = made(CLIPS)
    assert not pitch_shifts(data, EVERY[:4]).any()
    assert not pitch_shifts(replace(data, features=None), EVERY).any()
    assert pitch_shifts(data, EVERY[:5])[:5].all()


def test_unvoiced_clips_are_shifted_as_the_others_of_their_gender() -> None:
    unvoiced: list[Spec] = [*CLIPS, ("high", "g", "male", -1), ("third", "h", "female", -1)]
    moved = pitch_shifts(made(unvoiced), np.arange(len(unvoiced)))
    np.testing.assert_array_equal(moved[: len(CLIPS)], pitch_shifts(made(CLIPS), EVERY))
    assert moved[-2] == moved[3]
    assert moved[-1] == 0
    assert np.isnan(mean_pitch(made(unvoiced), np.array([len(unvoiced) - 1])))


def test_clips_throughout_a_long_speaker_are_measured() -> None:
    many: list[Spec] = [("high", "a", "female", 20)] * MAX_CLIPS_PER_SPEAKER + [
        ("high", "a", "female", 30)
    ] * MAX_CLIPS_PER_SPEAKER
    found = mean_pitch(made(many), np.arange(len(many)))
    assert found == pytest.approx(np.sqrt(lag_hz()[20] * lag_hz()[30]))


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_the_factors_are_described_by_corpus_and_gender(strength: float) -> None:
    data = made(CLIPS)
    factors = np.exp(strength * pitch_shifts(data, EVERY))[[0, 3, 4, 5]]
    names = ("high female", "high male", "low female", "low male")
    expected = ", ".join(f"{name} {factor:.2f}" for name, factor in zip(names, factors, strict=True))
    assert describe(data, EVERY, strength).endswith(f": {expected}.")
    assert "third" not in describe(made([*CLIPS, ("third", "z", "male", 30)]), EVERY, strength), "it does not train"
    assert describe(data, EVERY, 0.0) == describe(data, EVERY[:4], strength) == ""


def settings(**strengths: float) -> Settings:
    named = {f"augment_{name}": value for name, value in (asdict(NONE) | strengths).items()}
    return Settings(epochs=1, lr=0.001, gamma=0.3, batch_size=len(CLIPS), **named)


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_training_batches_have_the_shifted_pitch(strength: float) -> None:
    data = made(CLIPS)
    split = Split("made", EVERY, EVERY[:0], EVERY[:0], True)
    ((pictures, _, _),) = TrainingSet.of(data, split, settings(pitch_targets=strength), CPU).batches(EVERY, 0)
    assert data.features is not None
    steps = np.rint(strength * pitch_shifts(data, EVERY) / LAG_STEP).astype(int)
    lags = [lag - step for (*_, lag), step in zip(CLIPS, steps, strict=True)]  # a higher pitch has a shorter lag
    by_hand = made([(*clip[:3], lag) for clip, lag in zip(CLIPS, lags, strict=True)])
    np.testing.assert_array_equal(pictures.numpy(), by_hand.pixels)
    if strength == 1:
        mean = mean_pitch(by_hand, EVERY[:3])
        assert mean == pytest.approx(TYPICAL_HZ["female"], rel=LAG_STEP)


def test_pitch_targets_add_to_random_changes() -> None:
    data = made(CLIPS)
    split = Split("made", EVERY, EVERY[:0], EVERY[:0], True)
    ((pictures, _, _),) = TrainingSet.of(data, split, settings(**asdict(DEFAULT)), CPU).batches(EVERY, 0)
    assert data.features is not None
    found, draws = torch.from_numpy(np.array(data.features)), random_numbers(np.arange(len(data)), 0, 0)
    assert torch.equal(pictures, augment(found, draws, DEFAULT, VOICE, pitch_shifts(data, EVERY)))
    assert not torch.equal(pictures, augment(found, draws, DEFAULT))

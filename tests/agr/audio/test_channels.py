"""From several channels to one: the mean, unless it would lose the voice."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import lfilter

from agr.audio.channels import mixed

RATE = 16_000
RNG = np.random.default_rng(0)


def voice(seconds: float = 4.0) -> NDArray[np.float64]:
    """A buzz of 200 Hz in syllables, with pauses."""
    t = np.arange(int(seconds * RATE)) / RATE
    return np.asarray(0.3 * np.sign(np.sin(400 * np.pi * t)) * np.clip(np.sin(4 * np.pi * t), 0, 1) ** 2)


def noise(level: float = 0.1) -> NDArray[np.float64]:
    return level * RNG.standard_normal(len(voice()))


def hum() -> NDArray[np.float64]:
    return 0.2 * np.sin(2 * np.pi * 50 * np.arange(len(voice())) / RATE)


def block(*channels: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.stack(channels, axis=1).astype(np.float32)


@pytest.mark.parametrize(
    "given",
    [
        block(voice(), voice()),
        block(voice(), 0.3 * voice()),
        block(voice() + noise(0.01), np.roll(voice(), 30) + noise(0.01)),
        block(np.r_[voice(), 0 * voice()], np.r_[0 * voice(), voice()]),
        block(noise(), noise()),
        block(0 * voice(), 0 * voice()),
        block(*(voice() * level for level in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6))),
        block(*(voice() + noise(0.01) for _ in range(12))),
        block(voice()[:20], 0.5 * voice()[:20] + 0.1),
        block(voice() + np.where(np.arange(len(voice())) == 9, np.nan, 0), voice()),
    ],
    ids=["same", "panned", "spaced", "interview", "noise", "silence", "six", "twelve", "short", "no number"],
)
def test_of_ordinary_channels_it_is_the_mean_to_the_bit(given: NDArray[np.float32]) -> None:
    np.testing.assert_array_equal(mixed(given, RATE), given.mean(axis=1, dtype=np.float32))


@pytest.mark.parametrize(
    "other",
    [
        -0.9 * voice(),
        -0.9 * voice() + noise(0.003),
        0 * voice(),
        0 * voice() - 0.2,
        noise(0.0001),
        noise(0.1),
        noise(1.0),
        lfilter([1], [1, -0.98], noise(0.1)),
        hum(),
    ],
    ids=["opposite", "nearly opposite", "dead", "offset", "hiss", "noise", "loud noise", "rumble", "hum"],
)
@pytest.mark.parametrize("place", [0, 1])
def test_the_channel_with_the_voice_is_taken_where_the_other_would_spoil_it(
    other: NDArray[np.float64], place: int
) -> None:
    given = block(other, voice()) if place else block(voice(), other)
    np.testing.assert_array_equal(mixed(given, RATE), given[:, place])


def test_dead_channels_among_several_are_left_out_of_the_mean() -> None:
    given = block(0 * voice(), voice(), 0 * voice(), 0.8 * voice(), noise(0.2))
    np.testing.assert_array_equal(mixed(given, RATE), given[:, [1, 3]].mean(axis=1, dtype=np.float32))


def test_one_channel_is_left_alone() -> None:
    given = block(voice())
    np.testing.assert_array_equal(mixed(given, RATE), given[:, 0])

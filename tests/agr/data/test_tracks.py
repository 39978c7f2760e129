"""Voice features of clips of different lengths."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from agr.data.tracks import Tracks
from agr.recipes import voice_features
from agr.recipes.base import FRAMES
from agr.recipes.voice_features import BANDS, ROWS

FIRST, SECOND, THIRD = 98, 250, 131  # frames


def track(frames: int, seed: int, speech_at: int = 0) -> NDArray[np.uint8]:
    """Faint noise, and a second of something loud and periodic."""
    made = np.random.default_rng(seed).integers(0, 40, (ROWS, frames), dtype=np.uint8)
    made[:BANDS, speech_at : speech_at + FRAMES] += 200
    made[BANDS + 30, speech_at : speech_at + FRAMES] = 250
    return made


@pytest.fixture
def clips() -> list[NDArray[np.uint8]]:
    return [track(FIRST, 0), track(SECOND, 1, speech_at=120), track(THIRD, 2, speech_at=20)]


@pytest.fixture
def tracks(clips: list[NDArray[np.uint8]]) -> Tracks:
    return Tracks.of(clips)


def rows(*indices: int) -> NDArray[np.int64]:
    return np.array(indices, dtype=np.int64)


def test_every_clip_comes_back(tracks: Tracks, clips: list[NDArray[np.uint8]]) -> None:
    assert len(tracks) == 3
    assert tracks.nbytes == ROWS * (FIRST + SECOND + THIRD)
    for index, clip in enumerate(clips):
        np.testing.assert_array_equal(tracks.clip(index), clip)


def test_an_index_gives_the_seconds_with_most_speech(tracks: Tracks, clips: list[NDArray[np.uint8]]) -> None:
    found = tracks[rows(2, 1)]
    np.testing.assert_array_equal(found, [clips[2][:, 20:118], clips[1][:, 120:218]])
    assert tracks[rows()].shape == (0, ROWS, FRAMES)


def test_parts_and_their_join_hold_the_same_clips(tracks: Tracks) -> None:
    again = Tracks.join([tracks.subset(rows(0)), tracks.subset(rows(1, 2))])
    np.testing.assert_array_equal(again.flat, tracks.flat)
    np.testing.assert_array_equal(again.frames, tracks.frames)


@pytest.mark.parametrize(("place", "start"), [(0.0, 0), (0.5, 76), (np.nextafter(1, 0), SECOND - FRAMES)])
def test_a_place_is_where_the_window_begins(
    tracks: Tracks, clips: list[NDArray[np.uint8]], place: float, start: int
) -> None:
    (found,) = tracks.draw(rows(1), np.array([[place]]))
    np.testing.assert_array_equal(found, clips[1][:, start : start + FRAMES])


def test_of_several_places_the_one_with_most_speech_is_read(tracks: Tracks, clips: list[NDArray[np.uint8]]) -> None:
    found = tracks.draw(rows(1, 0), np.array([[0.0, 0.75], [0.2, 0.9]]))
    np.testing.assert_array_equal(found, [clips[1][:, 114 : 114 + FRAMES], clips[0]])


def test_windows_and_weights_are_those_of_a_prediction(tracks: Tracks, clips: list[NDArray[np.uint8]]) -> None:
    for (cut, weights), clip in zip(tracks.windows(rows(0, 1, 2)), clips, strict=True):
        expected, shares = voice_features.weighted_windows(clip)
        np.testing.assert_array_equal(cut, expected)
        np.testing.assert_array_equal(weights, shares)
        assert weights.sum() == pytest.approx(1)

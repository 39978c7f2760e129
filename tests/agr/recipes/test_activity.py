from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from agr.audio import read as audio
from agr.recipes import periodicity, voice_features
from agr.recipes.activity import speech_frames, speech_spans
from agr.recipes.voice import VOICE

RATE = VOICE.sample_rate


def features(y: NDArray[np.float32]) -> NDArray[np.uint8]:
    return voice_features.extract(y, VOICE, periodicity.yin_periodicity)


@pytest.fixture(scope="module")
def words(voices: list[Path]) -> NDArray[np.float32]:
    """Ten words of one synthetic speaker, without pauses."""
    return np.concatenate([audio.load(path, RATE) for path in voices[:10]])


def test_speech_is_found_where_it_is(words: NDArray[np.float32]) -> None:
    silence = np.zeros(3 * RATE, dtype=np.float32)
    spans = speech_spans(features(np.concatenate([silence, words, silence])))
    start, end = spans[0][0] / 100, spans[-1][1] / 100
    assert start == pytest.approx(3, abs=0.4)
    assert end == pytest.approx(3 + len(words) / RATE, abs=0.4)
    assert sum(b - a for a, b in spans) / 100 > 0.8 * len(words) / RATE


def test_spans_are_in_order_and_apart(words: NDArray[np.float32]) -> None:
    pause = np.zeros(RATE, dtype=np.float32)
    spans = speech_spans(features(np.concatenate([words[: 2 * RATE], pause, words[2 * RATE :]])))
    assert len(spans) >= 2
    assert all(before[1] < after[0] for before, after in itertools.pairwise(spans))


@pytest.mark.parametrize("kind", ["silence", "noise", "tone", "hum"])
def test_what_is_no_speech_has_no_spans(kind: str) -> None:
    time = np.arange(4 * RATE) / RATE
    sounds = {
        "silence": np.zeros_like(time),
        "noise": np.random.default_rng(0).standard_normal(len(time)),
        "tone": np.sin(2 * np.pi * 440 * time),
        "hum": sum(np.sin(2 * np.pi * 50 * k * time) / k for k in range(1, 10)),
    }
    assert speech_spans(features(np.asarray(sounds[kind], dtype=np.float32))) == []


def test_a_clip_shorter_than_a_second_is_judged_as_a_whole(words: NDArray[np.float32]) -> None:
    found = features(words[: RATE // 2])
    assert speech_frames(found).shape == (found.shape[1],)
    assert speech_frames(found).any()

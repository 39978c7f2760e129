from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from agr.audio import read as audio
from agr.data import corpus
from agr.data.clips import Clip
from agr.inference import bundle, timeline
from agr.inference.timeline import Segment

Samples = NDArray[np.float32]


@pytest.fixture(scope="module")
def loaded(voice_bundle_folder: Path) -> bundle.Bundle:
    return bundle.load(voice_bundle_folder)


@pytest.fixture(scope="module")
def recording(demo_root: Path, loaded: bundle.Bundle) -> tuple[Samples, list[tuple[float, float, str]]]:
    """A woman, a man and a woman, ten words each, with two seconds of silence between; and who speaks when."""
    rate = loaded.info.recipe.sample_rate
    by_speaker: dict[tuple[str, str], list[Clip]] = {}
    for clip in corpus.open_corpus(str(demo_root), demo_root).clips:
        by_speaker.setdefault((clip.gender, clip.speaker), []).append(clip)
    women, men = ([clips for (gender, _), clips in by_speaker.items() if gender == each] for each in ("female", "male"))
    parts, truth, at = [], [], 0
    for clips in (women[0], men[0], women[1]):
        words = np.concatenate([audio.load(clip.path, rate) for clip in clips])
        truth.append((at / rate, (at + len(words)) / rate, clips[0].gender))
        parts += [words, np.zeros(2 * rate, dtype=np.float32)]
        at += len(words) + 2 * rate
    return np.concatenate(parts), truth


def in_blocks(y: Samples, size: int) -> Iterator[Samples]:
    return (y[at : at + size] for at in range(0, len(y), size))


def share_right(segments: list[Segment], truth: list[tuple[float, float, str]], seconds: float) -> float:
    """The share of tenths of a second with the right label."""
    times = np.arange(0, seconds, 0.1)

    def labels(spans: list[tuple[float, float, str]]) -> list[str]:
        return [next((label for start, end, label in spans if start <= time < end), "") for time in times]

    found, right = labels([(s.start, s.end, s.label) for s in segments]), labels(truth)
    return float(np.mean([a == b for a, b in zip(found, right, strict=True)]))


def test_it_is_told_who_speaks_when(
    recording: tuple[Samples, list[tuple[float, float, str]]], loaded: bundle.Bundle
) -> None:
    y, truth = recording
    segments, heard = timeline.of_recording([y], loaded)
    assert share_right(segments, truth, heard.total) > 0.85
    assert heard.total == pytest.approx(len(y) / loaded.info.recipe.sample_rate)
    for label in ("female", "male"):
        assert heard.seconds[label] == pytest.approx(sum(s.seconds for s in segments if s.label == label))
    assert heard.probability is not None
    assert sum(heard.probability.values()) == pytest.approx(1)


def test_segments_are_in_order_and_do_not_overlap(
    recording: tuple[Samples, list[tuple[float, float, str]]], loaded: bundle.Bundle
) -> None:
    segments, heard = timeline.of_recording([recording[0]], loaded)
    edges = [time for segment in segments for time in (segment.start, segment.end)]
    assert edges == sorted(edges)
    assert edges[0] >= 0 and edges[-1] <= heard.total
    assert all(0 <= segment.probability <= 1 and segment.seconds > 0 for segment in segments)


@pytest.mark.parametrize("seconds", [3, 7])
def test_blocks_of_any_length_give_nearly_the_same(
    recording: tuple[Samples, list[tuple[float, float, str]]], loaded: bundle.Bundle, seconds: int
) -> None:
    y, truth = recording
    segments, heard = timeline.of_recording(in_blocks(y, seconds * loaded.info.recipe.sample_rate), loaded)
    assert share_right(segments, truth, heard.total) > 0.8
    assert heard.total == pytest.approx(len(y) / loaded.info.recipe.sample_rate)


def test_what_is_held_does_not_grow_with_the_recording(
    recording: tuple[Samples, list[tuple[float, float, str]]], loaded: bundle.Bundle
) -> None:
    import tracemalloc

    rate = loaded.info.recipe.sample_rate
    once = list(in_blocks(recording[0][: 6 * rate], 3 * rate))
    peaks = []
    for rounds in (4, 1, 4, 4):  # the first one fills caches
        gc.collect()
        tracemalloc.start()
        heard = timeline.Timeline(loaded)
        for block in once * rounds:
            list(heard.add(block))
        list(heard.finish())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert min(peaks[2:]) < 1.5 * peaks[1], "the lower one: other threads of the tests hold memory too"


@pytest.mark.parametrize("seconds", [0.05, 4.0])
def test_silence_and_less_than_a_frame_have_no_segments(loaded: bundle.Bundle, seconds: float) -> None:
    y = np.zeros(round(seconds * loaded.info.recipe.sample_rate), dtype=np.float32)
    segments, heard = timeline.of_recording([y], loaded)
    assert segments == []
    assert heard.probability is None
    assert heard.seconds == {"female": 0, "male": 0}


def test_a_short_stray_answer_is_smoothed_away() -> None:
    odds = np.array([4.0] * 10 + [-4.0] * 2 + [4.0] * 10)
    (segment,) = timeline.decode([timeline.Span(1.0, odds, np.full(22, 0.1))])
    assert (segment.label, segment.start) == ("female", 1.0)
    assert segment.end == pytest.approx(3.2)


def test_after_a_pause_a_change_costs_less() -> None:
    woman = timeline.Span(0.0, np.full(10, 3.0), np.full(10, 0.1))
    after = [timeline.Span(start, np.full(5, -3.0), np.full(5, 0.1)) for start in (1.0, 4.0)]
    labels = [[segment.label for segment in timeline.decode([woman, man])] for man in after]
    assert labels == [["female", "female"], ["female", "male"]]

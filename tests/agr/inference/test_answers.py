"""Answers to clips, in batches and with a threshold, and command-line arguments as clips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agr.inference import answers, bundle, predictor
from agr.inference.answers import BATCH, Answer, expand


@pytest.fixture(scope="module")
def loaded(bundle_folder: Path) -> bundle.Bundle:
    return bundle.load(bundle_folder)


@pytest.mark.parametrize("count", [1, BATCH - 1, BATCH, 2 * BATCH])
def test_every_clip_is_answered_once_at_the_edges_of_batches(
    voices: list[Path], loaded: bundle.Bundle, count: int
) -> None:
    clips = list(map(str, voices[:count]))
    assert [answer.path for answer in answers.answer(iter(clips), loaded)] == clips


def test_no_clips_no_answers(loaded: bundle.Bundle) -> None:
    assert list(answers.answer(iter([]), loaded)) == []


def test_a_model_less_sure_than_asked_abstains(voices: list[Path], loaded: bundle.Bundle) -> None:
    clips = [str(path) for path in voices]
    plain, asked = list(answers.answer(iter(clips), loaded)), list(answers.answer(iter(clips), loaded, 0.75))
    for before, after in zip(plain, asked, strict=True):
        assert after.probability == before.probability
        assert before.probability is not None
        assert after.label == (before.label if max(before.probability.values()) >= 0.75 else "unsure")
    assert {answer.label for answer in asked} > {"unsure"}


def test_long_clips_are_answered_in_smaller_batches(
    voices: list[Path], loaded: bundle.Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = list(map(str, voices[:9]))
    expected = [answer.as_line() for answer in answers.answer(iter(clips), loaded)]
    sizes: list[int] = []
    hear = predictor.predict

    def counted(given: Sequence[Any], own: bundle.Bundle) -> predictor.Predictions:
        sizes.append(len(given))
        return hear(given, own)

    monkeypatch.setattr(predictor, "predict", counted)
    monkeypatch.setattr(answers, "BATCH_SAMPLES", 30_000)
    assert [answer.as_line() for answer in answers.answer(iter(clips), loaded)] == expected
    assert len(sizes) >= 3
    assert sum(sizes) == 9


def test_expanding_is_lazy_and_keeps_names_as_typed(voices: list[Path], tmp_path: Path) -> None:
    folder = voices[0].parent
    typed = f"{folder}/../{folder.name}/{voices[0].name}"
    assert list(expand([typed, "-", "gone.wav"])) == [typed, "-", "gone.wav"]
    (answer,) = expand([str(tmp_path)])
    assert isinstance(answer, Answer)
    assert (answer.probability, answer.label) == (None, "")
    assert answer.error == f"{tmp_path}: no sound files in it; expected WAV, FLAC, OGG or MP3"

"""Answers to clips, in batches and with a threshold, and command-line arguments as clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from agr.audio import read as audio
from agr.audio.arrays import as_wav
from agr.audio.decoder import Decoder, Source
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
    assert answer.error == f"{tmp_path}: no sound files in it; expected recordings"


def test_a_folder_is_read_by_content_and_what_else_it_holds_is_named(voices: list[Path], tmp_path: Path) -> None:
    data = voices[0].read_bytes()
    for name in ("b", "a.m4a", "sub/c.txt", ".hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    for name in ("notes.txt", "SPEAKERS", "sub/table.csv", ".DS_Store", "Thumbs.db"):
        (tmp_path / name).write_text("some words")
    (tmp_path / "cover.jpg").write_bytes(b"\xff\xd8\xff\xe0 and so on")
    *clips, texts, images = expand([str(tmp_path)])
    assert clips == [str(tmp_path / name) for name in (".hidden", "a.m4a", "b", "sub/c.txt")]
    assert isinstance(texts, Answer)
    assert isinstance(images, Answer)
    found = {texts.error: texts.files, images.error: images.files}
    assert found == {
        f"{tmp_path}: 3 files are not sound (text): SPEAKERS, notes.txt, sub/table.csv": 3,
        f"{tmp_path}: 1 file is not sound (an image): cover.jpg": 1,
    }


def test_of_many_files_that_are_no_sound_a_few_are_named(tmp_path: Path) -> None:
    for number in range(3_000):
        (tmp_path / f"{number:04d}.txt").write_text("words")
    (answer,) = expand([str(tmp_path)])
    assert isinstance(answer, Answer)
    assert answer.files == 3_000
    names = ", ".join(f"{number:04d}.txt" for number in range(10))
    assert answer.error == f"{tmp_path}: 3000 files are not sound (text): {names} and 2990 more"


def test_each_channel_is_answered_for_itself(voices: list[Path], loaded: bundle.Bundle, tmp_path: Path) -> None:
    left, right = (soundfile.read(path, dtype="float32")[0][:7_000] for path in (voices[0], voices[-1]))
    both, one = tmp_path / "interview.wav", tmp_path / "mono.wav"
    rate = soundfile.info(voices[0]).samplerate
    soundfile.write(both, np.stack([left, right], axis=1), rate, subtype="FLOAT")
    soundfile.write(one, left, rate, subtype="FLOAT")
    asked = [str(both), str(one), "gone.wav"]
    found = list(answers.answer(iter(asked), loaded, channel=answers.EACH))
    assert [(answer.path, answer.channel) for answer in found] == [
        (str(both), 1),
        (str(both), 2),
        (str(one), 1),
        ("gone.wav", None),
    ]
    assert found[0].probability == pytest.approx(found[2].probability)
    assert found[0].probability != found[1].probability
    assert found[1].as_line().startswith(f"{both}#2\t")
    second, none, _ = answers.answer(iter(asked), loaded, channel=2)
    assert replace(second, probability=None) == replace(found[1], probability=None)
    assert second.probability == pytest.approx(found[1].probability)  # batches of other sizes round otherwise
    assert none.error == f"{one}: 1 channel; expected a channel 2"


def test_a_dead_channel_is_an_answer_too(voices: list[Path], loaded: bundle.Bundle, tmp_path: Path) -> None:
    y, rate = soundfile.read(voices[0], dtype="float32")
    soundfile.write(tmp_path / "dead.wav", np.stack([0 * y, y], axis=1), rate, subtype="FLOAT")
    dead, live = answers.answer(iter([str(tmp_path / "dead.wav")]), loaded, channel=answers.EACH)
    assert (dead.label, dead.channel, live.channel) == ("no speech", 1, 2)
    assert live.probability == next(answers.answer(iter([str(voices[0])]), loaded)).probability


def test_a_long_recording_is_answered_too(
    voices: list[Path], loaded: bundle.Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = [str(voices[0]), str(voices[1])]
    expected = list(answers.answer(iter(clips), loaded))
    monkeypatch.setattr(audio, "MAX_SECONDS", 0)
    found = list(answers.answer(iter(clips), loaded))
    assert [answer.path for answer in found] == clips
    for answer, usual in zip(found, expected, strict=True):
        assert answer.probability is not None
        assert answer.probability == pytest.approx(usual.probability, abs=0.15)
        assert answer.timeline is None


def test_a_timeline_is_told_where_it_is_asked_for(voices: list[Path], loaded: bundle.Bundle) -> None:
    silent = np.zeros(16_000, dtype=np.float32)
    clips = [Source("a", voices[0].read_bytes()), Source("b", as_wav(silent, 16_000, "b")), Source("c", b"text")]
    spoken, none, bad = answers.answer(iter(clips), loaded, timeline=True)
    assert spoken.timeline is not None
    assert {segment.label for segment in spoken.timeline.segments} <= {"female", "male"}
    told = spoken.as_dict({"name": "agr", "version": 1})
    assert told["segments"] == spoken.timeline.rows
    assert sum(told["seconds"].values()) == pytest.approx(spoken.timeline.seconds, abs=0.02)
    assert none.timeline is not None
    assert (none.label, none.timeline.segments, none.timeline.seconds) == ("no speech", (), 1.0)
    assert bad.error is not None


@pytest.mark.parametrize("decoding", [Decoder, nullcontext])
@pytest.mark.parametrize("longest", [1_200, 1])
def test_a_silent_recording_has_a_timeline_of_its_length(
    decoding: Callable[[], AbstractContextManager[Decoder | None]],
    longest: int,
    voices: list[Path],
    loaded: bundle.Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(audio, "MAX_SECONDS", longest)  # of the decoder in this process
    silent = tmp_path / "silent.wav"
    soundfile.write(silent, np.zeros(20_000), 8_000)
    clips = [str(voices[0]), str(silent), str(voices[0])]
    with decoding() as decoder:
        first, answer, last = answers.answer(iter(clips), loaded, decoder=decoder, timeline=True)
        assert [each.timeline for each in answers.answer(iter(clips), loaded, decoder=decoder)] == [None] * 3
    assert (first.label, answer.label, first) == (last.label, "no speech", last)
    assert answer.timeline is not None
    assert (answer.timeline.segments, answer.timeline.seconds) == ((), 2.5)
    assert answer.as_dict({})["seconds"] == {"female": 0.0, "male": 0.0, "no speech": 2.5}


def test_of_a_mixed_recording_the_shares_are_told() -> None:
    both = answers.Answer("a.wav", {"female": 0.7, "male": 0.3}, shares={"female": 0.6, "male": 0.4})
    assert both.label == "mixed"
    assert both.as_line() == "a.wav\tmixed\tfemale 0.60, male 0.40"
    assert both.as_dict({})["shares"] == {"female": 0.6, "male": 0.4}

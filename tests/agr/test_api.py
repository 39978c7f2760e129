"""AGR from Python gives what the commands give."""

from __future__ import annotations

import dataclasses
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import agr
from agr.data.corpus import open_corpus
from agr.errors import AudioError, ModelError, SettingsError
from agr.inference import answers, bundle, evaluation
from tests.folders import tree
from tests.sounds import clip_file

UNTYPED: Any = agr


@pytest.fixture(scope="module")
def model(bundle_folder: Path) -> agr.Model:
    with pytest.warns(UserWarning, match="synthetic voices"):
        return agr.load(bundle_folder)


@pytest.fixture(scope="module")
def expected(bundle_folder: Path, voices: list[Path]) -> list[answers.Answer]:
    """What `agr.predict` says of the first clips."""
    return list(answers.answer(map(str, voices[:4]), bundle.load(bundle_folder)))


def values(found: answers.Answer) -> tuple[Any, ...]:
    return found.label, found.speech, {name: round(p, 5) for name, p in (found.probability or {}).items()}


def as_bytes(clip: Path) -> bytes:
    return clip.read_bytes()


def as_floats(clip: Path) -> Any:
    return soundfile.read(clip)


def as_columns(clip: Path) -> Any:
    samples, rate = soundfile.read(clip, dtype="int16")
    return np.stack([samples, samples]), rate


@pytest.mark.parametrize("how", [str, Path, as_bytes, as_floats, as_columns])
def test_one_clip_gets_one_answer_and_several_get_a_list(
    model: agr.Model, voices: list[Path], expected: list[answers.Answer], how: Callable[[Path], Any]
) -> None:
    single = model.predict(how(voices[0]))
    assert isinstance(single, agr.Answer)
    assert values(single) == values(expected[0])
    several = model.predict([how(clip) for clip in voices[:4]])
    assert [values(each) for each in several] == [values(each) for each in expected]
    assert len({values(each)[2]["female"] for each in several}) > 1


def test_the_rate_may_stand_beside_the_samples(
    model: agr.Model, voices: list[Path], expected: list[answers.Answer]
) -> None:
    arrays, rates = zip(*(soundfile.read(clip) for clip in voices[:2]), strict=True)
    assert values(model.predict(arrays[0], rates[0])) == values(expected[0])
    assert [values(each) for each in model.predict(list(arrays), rates[0])] == [values(each) for each in expected[:2]]


def test_a_column_of_a_table_gets_a_list(model: agr.Model, voices: list[Path], expected: list[answers.Answer]) -> None:
    import pandas

    column = pandas.Series([str(voices[0]), None, str(voices[1])], index=[7, 8, 9])
    first, middle, last = model.predict(column)
    assert [values(first), values(last)] == [values(each) for each in expected[:2]]
    assert middle.label == "" and str(middle.error).startswith("clip 1: nan; expected a path")
    assert len(model.predict(column.dropna().to_numpy())) == 2
    assert model.predict([]) == []


def test_of_several_clips_a_bad_one_has_an_error_and_alone_it_raises_it(
    model: agr.Model, voices: list[Path], tmp_path: Path
) -> None:
    missing = tmp_path / "missing.wav"
    for bad in (missing, b"no sound", np.zeros((80, 400)), tmp_path):
        good, failed = model.predict([voices[0], bad], 8_000)
        assert good.error is None
        assert (failed.label, failed.probability) == ("", None)
        with pytest.raises(AudioError) as caught:
            model.predict(bad, 8_000)
        assert str(caught.value).partition(": ")[2] == str(failed.error).partition(": ")[2] != ""


@pytest.mark.parametrize(
    ("clips", "expected"),
    [
        (np.zeros(800), "clip: an array without a rate"),
        ([np.zeros(800)], "clip 0: an array without a rate"),
        ([0.1, 0.2], "clip 0: the number 0.1; expected a path"),
        (5, "clip: the number 5; expected a path"),
    ],
)
def test_wrong_use_is_one_line(model: agr.Model, clips: Any, expected: str) -> None:
    with pytest.raises(SettingsError, match=expected):
        model.predict(clips)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda model: UNTYPED.load(3), "model_uri 3: expected models:/agr/best, "),
        (
            lambda model: UNTYPED.load("models:/agr/best", 3),
            "tracking_uri 3: expected the URI of an MLflow store, or None",
        ),
        (lambda model: UNTYPED.prepare(5, "out"), "source 5: expected demo, audiomnist, a corpus folder"),
        (lambda model: UNTYPED.prepare(5), "source 5: expected demo, audiomnist, a corpus folder"),
        (lambda model: UNTYPED.prepare("demo"), "out None: expected the folder to write"),
        (lambda model: UNTYPED.prepare("demo", None), "out None: expected the folder to write"),
        (lambda model: UNTYPED.prepare("demo", "out", recipe=1), "recipe 1: expected one of voice, "),
        (lambda model: UNTYPED.prepare("demo", "out", workers="2"), "workers '2': expected a number of processes"),
        (lambda model: UNTYPED.evaluate(["a.wav"], model), r"data \['a.wav'\]: expected demo, "),
        (lambda model: UNTYPED.evaluate("demo", 3), "model_uri 3: expected "),
        (lambda model: UNTYPED.evaluate("demo", model, abstain_below="0.7"), "abstain_below '0.7': expected 0.5 to 1"),
        (lambda model: model.predict("a.wav", abstain_below=None), "abstain_below None: expected 0.5 to 1, or 0"),
        (lambda model: model.predict(np.zeros(800), "8 kHz"), "rate '8 kHz': expected the rate of samples in Hz"),
    ],
)
def test_an_argument_of_another_type_is_one_line(
    model: agr.Model, call: Callable[[agr.Model], object], expected: str
) -> None:
    with pytest.raises(SettingsError, match=f"^{expected}"):
        call(model)


@pytest.mark.parametrize("clip", [None, {"a": 1}, object(), [None]])
def test_what_is_no_clip_is_one_line(model: agr.Model, clip: Any) -> None:
    (found,) = model.predict([clip])
    assert re.fullmatch(r"clip 0: .*; expected a path, .*", str(found.error))


def test_abstaining_is_as_on_the_command_line(model: agr.Model, voices: list[Path]) -> None:
    assert model.predict(voices[0], abstain_below=1.0).label == "unsure"
    with pytest.raises(SettingsError, match=r"abstain_below 0\.3: expected 0\.5 to 1"):
        model.predict(voices[0], abstain_below=0.3)


def test_an_answer_is_frozen_and_says_what_it_is(model: agr.Model, voices: list[Path], tmp_path: Path) -> None:
    found = model.predict(voices[0])
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.path = "other"  # type: ignore[misc]
    assert found == model.predict(str(voices[0]))
    assert repr(found).startswith(f"Answer({str(voices[0])!r}, {found.label} 0.")
    assert found.speech_seconds == found.speech > 0
    hum = clip_file(tmp_path / "hum.wav", np.zeros(8_000, dtype=np.float32))
    silent = model.predict(hum)
    assert (silent.label, silent.probability, repr(silent)) == (
        "no speech",
        None,
        f"Answer({str(hum)!r}, no speech, 0.00 s of speech)",
    )
    with pytest.raises(AudioError, match="no speech found, so there is no answer to explain"):
        silent.explain()


def test_an_explanation_is_a_picture_and_words(model: agr.Model, voices: list[Path], tmp_path: Path) -> None:
    found = model.predict(soundfile.read(voices[0])).explain()
    assert repr(found).startswith("Answer: ")
    assert sum(map(abs, found.contributions.values())) == pytest.approx(1)
    found.save(tmp_path / "why.png")
    assert (tmp_path / "why.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    of_file = model.predict(voices[0]).explain()
    assert of_file.contributions == pytest.approx(found.contributions)


def test_paths_count_from_the_current_folder_even_after_it_changed(
    model: agr.Model, voices: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(voices[0].parent.parent)
    first = model.predict(os.path.join(voices[0].parent.name, voices[0].name))
    monkeypatch.chdir(voices[0].parent)
    assert values(model.predict(voices[0].name)) == values(first)


def test_threads_may_share_a_model(model: agr.Model, voices: list[Path], expected: list[answers.Answer]) -> None:
    found: dict[int, agr.Answer] = {}

    def predict(at: int) -> None:
        found[at] = model.predict(voices[at])

    threads = [threading.Thread(target=predict, args=(at,)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [values(found[at]) for at in range(4)] == [values(each) for each in expected]


def test_a_model_is_loaded_from_a_store(store: str, voices: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.warns(UserWarning, match="synthetic"):
        model = agr.load("models:/agr/best", store)
    assert repr(model) == "Model(agr version 1: cnn, recipe mfcc)"
    assert model.predict(voices[0]).error is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    with pytest.raises(ModelError, match="version=17"):
        agr.load("models:/agr/17")


def test_a_corpus_is_evaluated_as_by_the_command(
    model: agr.Model, bundle_folder: Path, demo_root: Path, tmp_path: Path
) -> None:
    expected = evaluation.evaluate(
        bundle.load(bundle_folder), bundle.read_seen(bundle_folder), str(demo_root), tmp_path, 0.9
    )
    assert agr.evaluate(demo_root, model, abstain_below=0.9) == expected
    with pytest.warns(UserWarning, match="synthetic"):
        assert agr.evaluate(str(demo_root), str(bundle_folder)).scores == expected.scores


def test_a_corpus_is_prepared_as_by_the_command(three_speakers: Path, tmp_path: Path) -> None:
    from agr.prepare import main

    found = agr.prepare(three_speakers, tmp_path / "ours", recipe="mfcc")
    assert (found.made, found.kept, found.skipped) == (len(open_corpus(str(three_speakers), tmp_path).clips), 0, 0)
    assert main([str(three_speakers), "--out", str(tmp_path / "theirs"), "--recipe", "mfcc", "--workers", "1"]) == 0
    ours, theirs = tree(tmp_path / "ours"), tree(tmp_path / "theirs")
    assert {name for name in ours if ours[name] != theirs[name]} <= {"journal.jsonl"}
    assert ours.keys() == theirs.keys()

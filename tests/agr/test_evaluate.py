"""The command that evaluates a model: the object of --json, the text, marks of leaks, abstention."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from agr.evaluate import as_dict, describe, main
from agr.inference import answers as inference_answers
from agr.inference import bundle, evaluation
from tests.folders import Row, manifest_of


@pytest.fixture(scope="module")
def loaded(bundle_folder: Path) -> bundle.Bundle:
    return bundle.load(bundle_folder)


def measure(loaded: bundle.Bundle, source: Path, tmp_path: Path, met: Sequence[str] = ()) -> evaluation.Evaluation:
    return evaluation.evaluate(loaded, bundle.Seen(frozenset(met), frozenset()), str(source), tmp_path)


def test_one_gender_alone_is_scored_by_its_recall(loaded: bundle.Bundle, people: list[Row], tmp_path: Path) -> None:
    women = [row for row in people if row[2] == "female"]
    result = measure(loaded, manifest_of(tmp_path / "women.csv", women), tmp_path)
    assert result.scores.recall["male"] is None
    assert result.scores.balanced_accuracy == result.scores.recall["female"] == result.scores.accuracy
    values = json.loads(json.dumps(as_dict(result, {})))
    assert values["recall"] == {"female": result.scores.accuracy, "male": None}
    assert "male" not in describe(result).split("recall")[1].splitlines()[0].replace("female", "")


def test_speakers_met_in_training_are_reported(loaded: bundle.Bundle, people: list[Row], tmp_path: Path) -> None:
    source = manifest_of(tmp_path / "two.csv", people)
    result = measure(loaded, source, tmp_path, met=["two/02", "two/01", "three/03", "04"])
    assert result.seen_speakers == ("two/01", "two/02")
    assert "LEAKY: the model was trained or chosen on 2 of these speakers" in describe(result)
    assert as_dict(result, {})["speakers_met_in_training"] == ["two/01", "two/02"]
    stranger = measure(loaded, source, tmp_path)
    assert stranger.seen_speakers == ()
    assert "LEAKY" not in describe(stranger)


def test_training_people_are_marked_under_another_folder_name(
    bundle_folder: Path, demo_root: Path, tmp_path: Path
) -> None:
    loaded, seen = bundle.load(bundle_folder), bundle.read_seen(bundle_folder)
    named = evaluation.evaluate(loaded, seen, str(demo_root), tmp_path)
    renamed = evaluation.evaluate(loaded, seen, str(shutil.copytree(demo_root, tmp_path / "renamed")), tmp_path)
    assert len(named.seen_speakers) == 6
    assert renamed.seen_speakers == tuple(name.replace("voices/", "renamed/") for name in named.seen_speakers)
    assert renamed.seen_recordings == named.seen_recordings == len(seen.recordings) == 60
    assert "LEAKY: the model was trained or chosen on 6 of these speakers (60 of these recordings)" in (
        describe(renamed)
    )
    assert as_dict(renamed, {})["recordings_met_in_training"] == 60


def test_other_recordings_of_a_renamed_corpus_are_not_marked(
    bundle_folder: Path, people: list[Row], tmp_path: Path
) -> None:
    loaded, seen = bundle.load(bundle_folder), bundle.read_seen(bundle_folder)
    strangers = [row for row in people if f"voices/{row[1]}" not in seen.speakers]
    result = evaluation.evaluate(loaded, seen, str(manifest_of(tmp_path / "two.csv", strangers)), tmp_path)
    assert (result.seen_speakers, result.seen_recordings, result.content_checked) == ((), 0, True)
    assert "LEAKY" not in describe(result)


def test_bundle_without_recordings_says_what_could_not_be_checked(
    bundle_folder: Path, people: list[Row], tmp_path: Path
) -> None:
    folder = shutil.copytree(bundle.locate(bundle_folder), tmp_path / "older")
    seen = json.loads((folder / bundle.SEEN).read_text())
    (folder / bundle.SEEN).write_text(json.dumps({"speakers": seen["speakers"]}))
    source = manifest_of(tmp_path / "voices.csv", people)
    result = evaluation.evaluate(bundle.load(folder), bundle.read_seen(folder), str(source), tmp_path)
    assert (len(result.seen_speakers), result.seen_recordings, result.content_checked) == (6, 0, False)
    shown = describe(result)
    assert "LEAKY: the model was trained or chosen on 6 of these speakers\n" in shown
    assert "only names were compared" in shown
    assert as_dict(result, {})["recordings_met_in_training"] is None


def test_command_prints_one_json_object(
    bundle_folder: Path,
    demo_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--model-uri", str(bundle_folder), "--data", str(demo_root), "--json"]) == 0
    values: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert set(values) == {
        *("clips", "speakers", "accuracy", "balanced_accuracy", "balanced_accuracy_ci95", "recall", "per_speaker"),
        *("confusion", "corpus", "model", "no_speech", "skipped", "speakers_met_in_training", "synthetic"),
        "recordings_met_in_training",
        *("abstain_below", "answered", "accuracy_answered"),
    }
    assert (values["clips"], values["speakers"], values["corpus"]) == (80, 8, "voices")
    assert set(values["recall"]) == {"female", "male"}
    assert set(values["per_speaker"]["voices/01"]) == {"gender", "clips", "accuracy"}
    low, high = values["balanced_accuracy_ci95"]
    assert 0 <= low <= values["balanced_accuracy"] <= high <= 1
    assert len(values["speakers_met_in_training"]) == 6
    assert values["synthetic"] is True
    assert np.sum(values["confusion"]) == 80
    assert list(tmp_path.iterdir()) == []


def test_command_exits_1_when_clips_were_skipped(
    bundle_folder: Path, people: list[Row], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = manifest_of(tmp_path / "few.csv", [*people, ("gone.wav", "77", "f")])
    assert main(["--model-uri", str(bundle_folder), "--data", str(source)]) == 1
    out = capsys.readouterr().out
    assert "few: 16 clips of 8 speakers, 1 clips skipped" in out
    assert "95 % interval over speakers" in out
    assert "hardest speakers" in out


def odd_clip(path: Path, samples: NDArray[np.float64]) -> Path:
    soundfile.write(path, samples, 16_000)
    return path


def test_clips_without_speech_count_as_wrong_answers(loaded: bundle.Bundle, people: list[Row], tmp_path: Path) -> None:
    noise = odd_clip(tmp_path / "noise.wav", 0.1 * np.random.default_rng(0).standard_normal(16_000))
    silence = odd_clip(tmp_path / "silence.wav", np.zeros(16_000))
    odd: list[Row] = [(noise, people[0][1], people[0][2]), (silence, "none", "male")]
    result = measure(loaded, manifest_of(tmp_path / "odd.csv", [*people, *odd]), tmp_path)
    plain = measure(loaded, manifest_of(tmp_path / "two.csv", people), tmp_path)
    assert (result.no_speech, result.skipped, result.scores.clips) == (2, 0, 18)
    assert result.scores.accuracy == pytest.approx(plain.scores.accuracy * 16 / 18)
    assert result.scores.per_speaker["odd/none"].accuracy == 0
    assert result.answered == pytest.approx(16 / 18)
    assert result.accuracy_answered == pytest.approx(plain.scores.accuracy)
    assert (plain.answered, plain.accuracy_answered) == (1, plain.scores.accuracy)
    assert "no speech          2 clips were answered so, and count as wrong" in describe(result)
    assert "no speech" not in describe(plain)


@pytest.mark.parametrize("sure", [0.5, 0.7, 0.8])
def test_abstaining_is_reported_beside_the_scores_of_all_clips(
    loaded: bundle.Bundle, people: list[Row], tmp_path: Path, sure: float
) -> None:
    source = manifest_of(tmp_path / "two.csv", people)
    answers = list(inference_answers.answer(iter([str(row[0]) for row in people]), loaded, sure))
    given = [(answer.label, row[2]) for answer, row in zip(answers, people, strict=True) if answer.label != "unsure"]
    result = evaluation.evaluate(loaded, bundle.Seen(frozenset(), frozenset()), str(source), tmp_path, sure)
    assert result.scores == measure(loaded, source, tmp_path).scores
    assert result.answered == len(given) / 16
    assert result.accuracy_answered == (np.mean([label == gender for label, gender in given]) if given else None)
    assert f"{result.answered:.4f} of the clips, with probability {sure:g} or more" in describe(result)


def test_abstaining_from_everything_leaves_no_accuracy(
    bundle_folder: Path, people: list[Row], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = manifest_of(tmp_path / "two.csv", people)
    given = ["--model-uri", str(bundle_folder), "--data", str(source), "--abstain-below", "1", "--json"]
    assert main(given) == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["abstain_below"], values["answered"], values["accuracy_answered"]) == (1, 0, None)
    assert values["accuracy"] > 0


def test_synthetic_voices_are_marked(loaded: bundle.Bundle, demo_root: Path, tmp_path: Path) -> None:
    assert "synthetic: the result proves nothing about people" in describe(measure(loaded, demo_root, tmp_path))

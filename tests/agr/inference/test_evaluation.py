"""Evaluation on a labelled corpus: the same answers as `agr.predict`, the same scores as `agr.metrics.scoring`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agr import predict
from agr.audio import read as audio
from agr.data import corpus, preparation
from agr.data.ages import Ages
from agr.data.image_set import ImageSet
from agr.errors import CorpusError, RecipeError
from agr.inference import bundle, evaluation
from agr.labels import CLASSES
from agr.metrics import scoring
from agr.recipes.encode import RECIPES
from agr.recipes.mfcc import MFCC
from tests.folders import Row, manifest_of, write_manifest


@pytest.fixture(scope="module")
def loaded(bundle_folder: Path) -> bundle.Bundle:
    return bundle.load(bundle_folder)


def measure(loaded: bundle.Bundle, source: Path, tmp_path: Path, met: Sequence[str] = ()) -> evaluation.Evaluation:
    return evaluation.evaluate(loaded, bundle.Seen(frozenset(met), frozenset()), str(source), tmp_path)


def test_scores_are_those_of_the_answers_of_predict(
    bundle_folder: Path, people: list[Row], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict.main(["--json", "--model-uri", str(bundle_folder), *(str(row[0]) for row in people)]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    right = np.array([answer["label"] == gender for answer, (_, _, gender) in zip(answers, people, strict=True)])
    genders = np.array([gender for _, _, gender in people])
    recall = {name: right[genders == name].mean() for name in CLASSES}
    result = measure(bundle.load(bundle_folder), manifest_of(tmp_path / "two.csv", people), tmp_path)
    assert result.scores.accuracy == right.mean()
    assert result.scores.recall == recall
    assert result.scores.balanced_accuracy == np.mean(list(recall.values()))
    assert (result.scores.clips, result.scores.speakers, result.skipped) == (16, 8, 0)
    for name, who in result.scores.per_speaker.items():
        own = [k for k, row in enumerate(people) if f"two/{row[1]}" == name]
        assert (who.clips, who.accuracy) == (2, right[own].mean())
    table = np.array([list(answer["probability"].values()) for answer in answers])
    labels = np.array([CLASSES.index(gender) for gender in genders.tolist()])
    speakers = np.array([f"two/{row[1]}" for row in people])
    assert result.scores == scoring.score(labels, table, speakers)


def test_prepared_folder_scores_like_its_recordings(loaded: bundle.Bundle, people: list[Row], tmp_path: Path) -> None:
    source = manifest_of(tmp_path / "two.csv", people)
    preparation.prepare(corpus.open_corpus(str(source), tmp_path), tmp_path / "prepared", MFCC)
    recordings, images = measure(loaded, source, tmp_path), measure(loaded, tmp_path / "prepared", tmp_path)
    assert images.scores == recordings.scores
    assert images.corpus == recordings.corpus == "two"


def test_images_of_another_recipe_are_refused(loaded: bundle.Bundle, images: ImageSet) -> None:
    rows = np.arange(3)
    with pytest.raises(RecipeError, match=r"images of recipe mfcc48; expected mfcc$"):
        evaluation.score_images(loaded, replace(images, recipe=RECIPES["mfcc48"]), rows)
    assert evaluation.score_images(loaded, images, rows).clips == 3


def test_paper_images_need_a_model_of_their_recipe(loaded: bundle.Bundle, people: list[Row], tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    ready.mkdir()
    images = [(f"{n}{MFCC.suffix}", speaker, gender) for n, (_, speaker, gender) in enumerate(people)]
    for (path, _, _), (name, _, _) in zip(people, images, strict=True):
        (ready / name).write_bytes(MFCC.encode(audio.load(Path(path), MFCC.sample_rate)))
    write_manifest(ready / "manifest.csv", "image", images)
    with pytest.raises(RecipeError, match=r"expected mfcc$"):
        measure(loaded, ready, tmp_path / "work")
    other = bundle.Bundle(loaded.model, replace(loaded.info, recipe=RECIPES["mfcc48"]))
    assert measure(other, ready, tmp_path / "work").scores.clips == 16


def test_clips_that_cannot_be_read_are_counted_and_named(
    loaded: bundle.Bundle, people: list[Row], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    odd = [("gone.wav", "01", people[0][2]), ("broken.wav", "9", "male"), (people[2][0], "9", "unknown")]
    result = measure(loaded, manifest_of(tmp_path / "odd.csv", [*people[:2], *odd, *people[2:]]), tmp_path)
    assert (result.scores.clips, result.skipped) == (16, 3)
    assert "odd/9" not in result.scores.per_speaker
    complaints = [line for line in capsys.readouterr().err.splitlines() if line.startswith("agr: ")]
    assert [line.split(":")[1].strip() for line in complaints] == [
        "1 clip",
        str(tmp_path / "gone.wav"),
        str(tmp_path / "broken.wav"),
    ]
    without = measure(loaded, manifest_of(tmp_path / "odd.csv", people), tmp_path)
    assert result.scores == without.scores


def test_copies_are_left_out_and_told(
    loaded: bundle.Bundle, people: list[Row], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(people[0][0], tmp_path / "copy.wav")
    copied = manifest_of(tmp_path / "two.csv", [*people, (tmp_path / "copy.wav", "stranger", people[0][2])])
    result = measure(loaded, copied, tmp_path)
    without = measure(loaded, manifest_of(tmp_path / "two.csv", people[1:]), tmp_path)
    assert (result.scores, result.skipped) == (without.scores, 2)
    assert f"and stranger as {tmp_path / 'copy.wav'}; neither is used" in capsys.readouterr().err


def test_clips_of_other_ages_are_left_out_and_no_failure(
    loaded: bundle.Bundle, people: list[Row], tmp_path: Path
) -> None:
    table = manifest_of(tmp_path / "two.csv", people)
    lines = table.read_text(encoding="utf-8").splitlines()
    ages = ["age", "17", *["30"] * (len(lines) - 2)]
    table.write_text("\n".join(f"{line},{age}" for line, age in zip(lines, ages, strict=True)), encoding="utf-8")
    result = evaluation.evaluate(loaded, bundle.Seen(frozenset(), frozenset()), str(table), tmp_path, ages=Ages(18, 65))
    assert (result.scores.clips, result.skipped) == (len(people) - 1, 0)


def test_no_readable_clip_at_all(loaded: bundle.Bundle, tmp_path: Path) -> None:
    source = manifest_of(tmp_path / "gone.csv", [("a.wav", "1", "f"), ("b.wav", "2", "m")])
    with pytest.raises(CorpusError, match="none of 2 clips could be read"):
        measure(loaded, source, tmp_path)


def test_training_people_are_marked_in_a_prepared_folder_of_another_name(
    bundle_folder: Path, demo_root: Path, tmp_path: Path
) -> None:
    loaded, seen = bundle.load(bundle_folder), bundle.read_seen(bundle_folder)
    source = corpus.open_corpus(str(shutil.copytree(demo_root, tmp_path / "renamed")), tmp_path)
    preparation.prepare(source, tmp_path / "prepared", MFCC)
    result = evaluation.evaluate(loaded, seen, str(tmp_path / "prepared"), tmp_path)
    assert (len(result.seen_speakers), result.seen_recordings) == (6, 60)


def test_abstaining_is_the_same_for_images_and_recordings(
    loaded: bundle.Bundle, people: list[Row], tmp_path: Path
) -> None:
    source = manifest_of(tmp_path / "two.csv", people)
    preparation.prepare(corpus.open_corpus(str(source), tmp_path), tmp_path / "prepared", MFCC)
    seen = bundle.Seen(frozenset(), frozenset())
    both = [evaluation.evaluate(loaded, seen, str(path), tmp_path, 0.7) for path in (source, tmp_path / "prepared")]
    assert both[0].answered == both[1].answered
    assert both[0].accuracy_answered == both[1].accuracy_answered

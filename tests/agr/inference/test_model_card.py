"""Model cards: their tables against counts made by hand, their text, and their shortened form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from agr.data import splits
from agr.data.image_set import ImageSet, assemble
from agr.data.splits import Split
from agr.inference import bundle, model_card, predictor
from agr.labels import CLASSES
from agr.metrics import calibration, scoring
from agr.recipes import voice_features, voice_image
from agr.recipes.base import IMAGE_SHAPE, Recipe
from agr.recipes.mfcc import MFCC
from agr.recipes.voice import VOICE
from agr.training.model import build

Person = tuple[str, str, Mapping[str, str]]  # corpus/speaker, gender, further columns

PEOPLE: list[Person] = [
    ("a/1", "female", {"language": "fr", "accent": ""}),
    ("a/2", "female", {"language": "de", "accent": ""}),
    ("a/3", "male", {"language": "de", "accent": ""}),
    ("a/4", "male", {"language": "de", "accent": ""}),
    ("b/1", "male", {"language": ""}),
]
CLIPS = 4  # of each person
Tested = tuple[bundle.Bundle, ImageSet, Split, NDArray[np.float64]]


def hummed(hz: float, seconds: float = 1.2) -> NDArray[np.uint8]:
    """Features of one second of a voice-like sound of that pitch."""
    t = np.arange(round(seconds * VOICE.sample_rate)) / VOICE.sample_rate
    y = sum(np.sin(2 * np.pi * k * hz * t) / k for k in range(1, 9))
    return voice_features.best_window(voice_features.extract(np.asarray(0.1 * y, dtype=np.float32), VOICE))


def corpus(people: Sequence[Person] = PEOPLE, pitches: Sequence[float] | None = None) -> ImageSet:
    """CLIPS images of each person; with pitches, one each, images of recipe voice, else of mfcc."""
    rows = [
        {"corpus": name.split("/")[0], "speaker": name.split("/")[1], "gender": gender, "recording": f"{name}-{k}"}
        | dict(more)
        for name, gender, more in people
        for k in range(CLIPS)
    ]
    pixels = np.zeros((len(rows), *IMAGE_SHAPE), dtype=np.uint8)
    found = None if pitches is None else np.repeat(np.stack([hummed(hz) for hz in pitches]), CLIPS, axis=0)
    recipe: Recipe = MFCC if pitches is None else VOICE
    return assemble("made", pixels, rows, recipe, False, found)


def answered(data: ImageSet, wrong: Mapping[str, int]) -> NDArray[np.float64]:
    """Probabilities of 0.9 for the label, but for the first so many clips of each speaker named."""
    labels = data.labels.copy()
    for name, count in wrong.items():
        labels[np.flatnonzero(data.speakers == name)[:count]] ^= 1
    return np.where(np.eye(2)[labels] == 1, 0.9, 0.1)


def rows_of(found: model_card.Tables, title: str) -> dict[str, model_card.Row]:
    return {row.name: row for row in found[title]}


def every(data: ImageSet) -> NDArray[np.int64]:
    return np.arange(len(data))


# Tables


def test_a_corpus_of_both_genders_has_balanced_accuracy_one_of_men_accuracy() -> None:
    data = corpus()
    found = rows_of(
        model_card.tables(data, every(data), answered(data, {"a/1": 1, "a/3": 4, "b/1": 1}), {}), "By corpus"
    )
    assert list(found) == ["a", "b"]
    assert (found["a"].clips, found["a"].speakers, found["a"].wrong) == (16, (2, 2), 5)
    assert (found["a"].measure, found["a"].value) == ("balanced accuracy", (7 / 8 + 4 / 8) / 2)
    assert (found["b"].clips, found["b"].speakers, found["b"].wrong) == (4, (0, 1), 1)
    assert (found["b"].measure, found["b"].value) == ("accuracy", 0.75)


def test_only_the_clips_asked_for_count() -> None:
    data = corpus()
    rows = np.flatnonzero(data.speakers == "a/3")
    (found,) = model_card.tables(data, rows, answered(data, {"a/3": 1, "a/4": 4})[rows], {})["By corpus"]
    assert (found.name, found.clips, found.value) == ("a", 4, 0.75)


def test_old_and_young_voices_have_rows_of_their_own() -> None:
    people = [("a/1", "female", {"age": "seventies"}), ("a/2", "female", {"age": "23"}), ("a/3", "male", {"age": ""})]
    data = corpus(people)
    found = model_card.tables(data, every(data), answered(data, {"a/1": 3}), {})["By gender and age"]
    rows = [(row.name, row.clips, row.value) for row in found]
    assert rows == [
        ("female, 20 to 39", CLIPS, 1.0),
        ("female, 60 and above", CLIPS, 0.25),
        ("male, not given", CLIPS, 1.0),
    ]


def test_columns_on_language_make_tables_where_the_manifest_has_values() -> None:
    data = corpus()
    found = model_card.tables(data, every(data), answered(data, {}), {})
    assert "By accent" not in found
    assert "By native speaker" not in found
    names = [(row.name, row.clips) for row in found["By language"]]
    assert names == [("de", 12), ("fr", 4), ("not given", 4)]  # most clips first


def test_the_interval_is_that_over_speakers_and_missing_with_one_of_a_gender() -> None:
    data = corpus()
    given = answered(data, {"a/1": 1, "a/3": 2})
    found = model_card.tables(data, every(data), given, {})
    assert [row.interval for row in found["By language"]] == [None] * 3
    a, b = found["By corpus"]
    those = data.speakers != "b/1"
    right = given.argmax(axis=1) == data.labels
    assert a.interval == scoring.interval(data.labels[those], right[those], data.speakers[those])
    assert b.interval is None


@pytest.mark.parametrize(
    ("hz", "name"),
    [
        (100, "below 130 Hz"),
        (140, "130 to 155 Hz"),
        (160, "155 to 180 Hz"),
        (195, "180 to 210 Hz"),
        (280, "210 Hz and above"),
    ],
)
def test_a_woman_of_any_pitch_has_her_own_row(hz: float, name: str) -> None:
    data = corpus([PEOPLE[0], PEOPLE[2]], [hz, 110])
    found = rows_of(model_card.tables(data, every(data), answered(data, {"a/1": 3}), {}), "By gender and pitch")
    assert list(found) == [f"female, {name}", "male, below 130 Hz"]
    assert (found[f"female, {name}"].value, found[f"female, {name}"].measure) == (0.25, "accuracy")


def test_a_clip_without_pitch_stands_in_a_row_of_its_own() -> None:
    data = corpus([PEOPLE[0]], [200])
    assert isinstance(data.features, np.ndarray)
    data.features[0] = 0
    found = rows_of(model_card.tables(data, every(data), answered(data, {}), {}), "By gender and pitch")
    assert {name: row.clips for name, row in found.items()} == {
        "female, 180 to 210 Hz": 3,
        "female, pitch unknown": 1,
    }


def test_images_without_features_have_neither_pitch_nor_noise(bundle_folder: Path) -> None:
    data = corpus()
    assert model_card.degraded_answers(bundle.load(bundle_folder), data, every(data)) == {}
    found = model_card.tables(data, every(data), answered(data, {}), {})
    assert list(found) == ["By corpus", "By language", "By gender"]


def test_noise_is_scored_beside_the_clips_as_recorded() -> None:
    data = corpus()
    noisy = {"noise": answered(data, {"a/1": 4})}
    found = rows_of(model_card.tables(data, every(data), answered(data, {"a/1": 2}), noisy), "By noise and line")
    assert {name: (row.clips, row.wrong) for name, row in found.items()} == {"as recorded": (20, 2), "noise": (20, 4)}


# What is changed


def test_without_noise_and_line_nothing_is_changed() -> None:
    found = torch.from_numpy(np.stack([hummed(120), hummed(220)]))
    assert torch.equal(voice_image.draw(found, model_card.degradation(2, None, False, seed=0)), voice_image.draw(found))


@pytest.mark.parametrize("db", [20.0, 5.0])
def test_noise_lies_so_many_decibels_below_the_voice(db: float) -> None:
    noise = model_card.degradation(50, db, False, seed=3).noise
    assert noise is not None
    assert 10 * float(torch.log10(noise.mean())) == pytest.approx(-db, abs=0.1)
    assert noise.std(dim=2).min() > 0  # it wavers


def test_a_telephone_passes_what_lies_between_its_edges() -> None:
    gain, hz = model_card.degradation(3, None, True, seed=0).gain, voice_features.band_hz()
    assert gain.shape == (3, voice_features.BANDS)
    assert gain[0][(hz > 300) & (hz < 3400)].tolist() == pytest.approx([1.0] * int(((hz > 300) & (hz < 3400)).sum()))
    assert gain[0][hz > 3400].max() < 0.01
    assert gain[0][hz < 150].max() < 0.02


@pytest.fixture(scope="module")
def model() -> bundle.Bundle:
    """An untrained model of recipe voice."""
    about = bundle.BundleInfo("cnn", VOICE, {"lr": 0.001}, {}, {}, {}, {}, {"agr": "0"})
    return bundle.Bundle(build("cnn", seed=0).eval(), about)


def test_what_is_answered_in_noise_repeats_and_differs_with_the_noise(
    model: bundle.Bundle, voice_images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.array([3, 40, 41, 7, 79])
    found = model_card.degraded_answers(model, voice_images, rows)
    assert list(found) == ["noise at 20 dB", "noise at 10 dB", "noise at 5 dB", "telephone band, 300 to 3400 Hz"]
    again = model_card.degraded_answers(model, voice_images, rows)
    plain = predictor.predict_images(np.array(voice_images.pixels[rows]), model)
    distance = [np.abs(each - plain).max() for each in found.values()]
    assert 0 < distance[0] < distance[2]
    assert distance[3] > 0
    for name, each in found.items():
        assert each.shape == (5, 2)
        assert np.array_equal(each, again[name])
    monkeypatch.setattr(model_card, "AT_ONCE", 2)
    pieces = model_card.degraded_answers(model, voice_images, rows)
    assert pieces[model_card.TELEPHONE] == pytest.approx(found[model_card.TELEPHONE], abs=1e-6)


# The whole card


@pytest.fixture
def tested(model: bundle.Bundle) -> Tested:
    """Ten people of two corpora, of whom f0, m0 and b/m4 test; m0 is always mistaken."""
    people = [(f"a/f{k}", "female", {"language": "x|y"}) for k in range(5)]
    people += [(f"a/m{k}", "male", {}) for k in range(4)] + [("b/m4", "male", {})]
    data = corpus(people, [160] * 5 + [100] * 5)
    sides = [("f1", "f2", "m1"), ("f3", "f4", "m2", "m3"), ("f0", "m0", "m4")]
    train, val, test = (np.flatnonzero([n.split("/")[1] in side for n in data.speakers.tolist()]) for side in sides)
    given = answered(data, {"a/m0": 4})[test]
    scores = scoring.score(data.labels[test], given, data.speakers[test]).as_dict()
    found: dict[str, Any] = calibration.fit(np.log(given), data.labels[test])
    found |= calibration.metrics(np.log(given), data.labels[test], "test")
    about = replace(model.info, test=scores, temperature=found["temperature"], calibration=found)
    return replace(model, info=about), data, Split("by-hand", train, val, test), given


def test_a_card_says_it_all(tested: Tested) -> None:
    text = model_card.render(*tested, "my search")
    for expected in (
        "champion of my search\n\nBalanced accuracy **0.7500** on 12 clips of 3 test speakers it never heard",
        "does not know a person's gender",
        "It says nothing about children",
        "singing",
        "must not decide anything about a person",
        "| corpus | clips | speakers | measure | value | 95 % interval |",
        "| a | 8 | 1 female, 1 male | balanced accuracy | 0.500 | none |",
        "| b | 4 | 1 male | accuracy | 1.000 | none |",
        "| x/y | 4 | 1 female | accuracy | 1.000 | none |",
        "| female, 155 to 180 Hz | 4 | 1 female | accuracy | 1.000 | none |",
        "| noise at 10 dB | 12 | 1 female, 2 male | balanced accuracy |",
        "- By corpus, **a**: 4 of 8 clips wrong, balanced accuracy 0.500",
        "| a/m0 | male | 4 | 0.000 |",
        f"Temperature {tested[0].info.temperature:.4f}, fitted on validation speakers",
        "| 0.9 | 100.0 % | 0.667 |",
        "split `by-hand`, digest ",
        "No speaker is on two sides.",
        "| a | people | 12 clips: 2 female, 1 male | 16 clips: 2 female, 2 male | 8 clips: 1 female, 1 male |",
        "| b | people | 0 clips: none | 0 clips: none | 4 clips: 1 male |",
        "Recipe voice version 3. Settings: lr 0.001. Made with agr 0.",
    ):
        assert expected in text
    assert "SYNTHETIC" not in text
    assert "a/f0" not in text  # she was never mistaken
    assert text.endswith(".\n")


def test_every_row_below_the_mark_is_named_among_the_failures(
    tested: Tested,
) -> None:
    model, data, split, given = tested
    text = model_card.render(model, data, split, given, "my search")
    changed = model_card.degraded_answers(model, data, split.test)
    low = [
        row.name
        for rows in model_card.tables(data, split.test, given, changed).values()
        for row in rows
        if row.value < 0.9
    ]
    section = text.split("## Known failures")[1].split("## Hardest")[0]
    assert len(low) > 2
    assert [line.split("**")[1] for line in section.splitlines() if line.startswith("- ")] == low


def test_a_card_without_failures_promises_nothing(tested: Tested, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data, split, _ = tested
    monkeypatch.setattr(model_card, "degraded_answers", lambda *_: {})
    text = model_card.render(model, data, split, answered(data, {})[split.test], "s")
    assert "No row above is below 0.9. Voices that are not in the tables may do worse." in text
    assert "Every clip of every test speaker was answered correctly." in text


def test_synthetic_voices_that_test_are_said_before_all(tested: Tested) -> None:
    model, data, split, given = tested
    text = model_card.render(model, replace(data, made_up=frozenset({"b"})), split, given, "s")
    assert "\n\nSYNTHETIC voices: these numbers prove nothing about people.\n\nBalanced accuracy" in text
    assert "| a | people |" in text
    assert "| b | synthetic |" in text


def test_synthetic_voices_that_only_train_are_named_in_the_table(tested: Tested) -> None:
    model, data, split, given = tested
    people = data.speakers[split.test] != "b/m4"
    turned = replace(split, train=np.append(split.train, split.test[~people]), test=split.test[people])
    text = model_card.render(model, replace(data, made_up=frozenset({"b"})), turned, given[people], "s")
    assert "SYNTHETIC" not in text
    assert "| b | synthetic | 4 clips: 1 male | 0 clips: none | 0 clips: none |" in text


def test_a_test_of_men_alone_has_no_balanced_accuracy(tested: Tested) -> None:
    model, data, split, given = tested
    men = data.labels[split.test] == 1
    text = model_card.render(model, data, replace(split, test=split.test[men]), given[men], "s")
    assert "champion of s\n\nAccuracy **" in text
    assert "balanced accuracy |" not in text


def test_a_leak_is_said(tested: Tested) -> None:
    model, data, split, given = tested
    text = model_card.render(model, data, replace(split, val=split.train), given, "s")
    assert "LEAKY: speakers are on two sides, 3 times." in text


# What MLflow shows


def test_a_short_card_is_its_own_description() -> None:
    assert model_card.description("# A\n\nb\n") == "# A\n\nb\n"


@pytest.mark.parametrize("letters", [5001, 20_000])
def test_a_long_card_is_cut_between_two_sections(letters: int) -> None:
    sections = [f"## {k}\n\n" + "word " * 60 for k in range(letters // 300 + 1)]
    found = model_card.description("\n\n".join(sections))
    assert len(found) <= model_card.DESCRIPTION_LETTERS
    whole, said = found.rsplit("\n\n", 1)
    assert whole == "\n\n".join(sections[: len(whole.split("## ")) - 1])
    assert said == "The rest is in `card.md`, beside the model's weights."


def test_a_card_of_one_endless_section_is_cut_all_the_same() -> None:
    assert len(model_card.description("# " + "a" * 9_000)) == model_card.DESCRIPTION_LETTERS


def test_the_split_of_the_demo_voices_gives_a_card_with_every_table(
    model: bundle.Bundle, voice_images: ImageSet
) -> None:
    split = splits.make(voice_images)
    given = predictor.predict_images(np.array(voice_images.pixels[split.test]), model)
    changed = model_card.degraded_answers(model, voice_images, split.test)
    found = model_card.tables(voice_images, split.test, given, changed)
    assert list(found) == ["By corpus", "By accent", "By gender", "By gender and pitch", "By noise and line"]
    for title, rows in found.items():
        total = len(split.test) * (5 if title == "By noise and line" else 1)
        assert sum(row.clips for row in rows) == total, title
    women = sum(row.clips for row in found["By gender and pitch"] if row.name.startswith(CLASSES[0]))
    assert women == rows_of(found, "By gender")[CLASSES[0]].clips

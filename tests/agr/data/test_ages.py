"""Clips by the age of their speakers."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest

from agr.data.ages import Ages, images_within, parse, within
from agr.data.clips import Clip, Corpus
from agr.data.image_set import ImageSet, assemble
from agr.errors import CorpusError
from agr.recipes.base import IMAGE_SHAPE
from agr.recipes.mfcc import MFCC

AGES = ("17", "18", "65", "66", "twenties", "teens", "60-69", "18+", "", "unknown")


def corpus(ages: tuple[str, ...] = AGES) -> Corpus:
    clips = tuple(Clip(Path(f"{k}.wav"), f"{k}.wav", str(k), "female", {"age": age}) for k, age in enumerate(ages))
    return Corpus("made", Path("made"), clips, skipped=(("x.wav", "no speaker"),))


def images() -> ImageSet:
    rows = [
        {"corpus": "made", "speaker": str(k), "gender": "female", "recording": str(k), "age": age}
        for k, age in enumerate(AGES)
    ]
    pixels = np.arange(len(rows), dtype=np.uint8)[:, None, None, None] * np.ones(IMAGE_SHAPE, dtype=np.uint8)
    return assemble("made", pixels, rows, MFCC, synthetic=False)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("18-", {"18", "65", "66", "twenties", "60-69", "18+", "", "unknown"}),
        ("18-65", {"18", "65", "twenties", "", "unknown"}),
        ("-17", {"17", "", "unknown"}),
    ],
)
def test_speakers_who_may_be_of_another_age_are_left_out_and_unknown_ages_stay(
    text: str, kept: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = within(corpus(), parse(text))
    assert {clip.extra["age"] for clip in found.clips} == kept
    assert found.skipped[0] == ("x.wav", "no speaker")
    left_out = dict(found.skipped[1:])
    assert left_out == {
        f"{AGES.index(age)}.wav": f"age {age!r}; expected {text}, by --ages" for age in set(AGES) - kept
    }
    told = f"agr: --ages {text}: {len(AGES) - len(kept)} of 10 clips of made left out; 2 have no age and stay\n"
    assert capsys.readouterr().err == told

    data = images_within(images(), parse(text))
    assert {row["age"] for row in data.rows} == kept
    np.testing.assert_array_equal(np.array(data.pixels)[:, 0, 0, 0], [k for k, age in enumerate(AGES) if age in kept])
    assert capsys.readouterr().err == told


def test_without_the_flag_nothing_is_left_out_or_told(capsys: pytest.CaptureFixture[str]) -> None:
    whole, data = corpus(), images()
    assert within(whole, None) is whole
    assert images_within(data, None) is data
    assert capsys.readouterr().err == ""


def test_ages_that_leave_nothing_are_refused() -> None:
    with pytest.raises(CorpusError, match="--ages 18-: all 2 clips of made are of other ages"):
        within(corpus(("3", "teens")), parse("18-"))


@pytest.mark.parametrize("text", ["18-", "18-65", "-17", "30-30"])
def test_ages_are_written_as_they_are_typed(text: str) -> None:
    assert str(parse(text)) == text


@pytest.mark.parametrize("text", ["", "-", "18", "65-18", "x-", "18-65-", "-1-5", "twenties"])
def test_what_is_no_span_of_ages_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected ages in years, as 18- or 18-65 or -17"):
        parse(text)


def test_ages_are_whole_years_both_included() -> None:
    assert parse("18-65") == Ages(18, 65)

"""The figure and the sentence that explain an answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agr.inference import bundle
from agr.inference.attribution import (
    Attribution,
    Baseline,
)
from agr.inference.section import section
from agr.labels import CLASSES
from agr.plots import explanation
from agr.plots.explanation import draw, explain_clip, footnote, reading, tinted
from agr.recipes.base import IMAGE_SHAPE, Recipe
from agr.recipes.mfcc import MFCC
from agr.recipes.voice import VOICE
from tests.figures import assert_readable, words
from tests.sounds import vowel

RED, GREEN, BLUE = range(3)
FEMALE, MALE = CLASSES

pytestmark = pytest.mark.usefixtures("one_thread")


Shares = list[tuple[tuple[Any, ...], float]]  # a place in the picture, and what its cells added


def made(shares: Shares, recipe: Recipe = VOICE, **parts: Any) -> Attribution:
    """An attribution with these shares and no others."""
    values = np.zeros(IMAGE_SHAPE)
    for place, share in shares:
        values[place] = share
    rate = recipe.sample_rate
    base = Baseline(torch.zeros(1), "the same clip with pitch 30 % and resonances 8 % lower", True)
    found = Attribution(section(vowel(210, 1.2, rate), recipe, "a.wav"), FEMALE, 0.97, 3.0, 0.0, base, values)
    return replace(found, **parts)


def test_a_cepstrum_is_compared_with_silence(bundle_folder: Path, voices: list[Path], tmp_path: Path) -> None:
    model = bundle.load(bundle_folder)
    assert model.info.recipe == MFCC
    found = explain_clip(voices[0], model, tmp_path / "out.png")
    assert (found.baseline.description, found.baseline.undecided) == ("silence", False)
    assert list(found.parts) == [f"coefficient {k}" for k in range(1, 13)]
    assert abs(found.gap) <= 0.05
    assert_readable(draw(found))


@pytest.mark.parametrize(
    ("shares", "parts", "expected"),
    [
        (
            [((0, 0, BLUE), 2.0), ((3, 9, RED), 1.0), ((5, 5, GREEN), 0.33)],
            {},
            "Answer: female, 0.97. Mostly the pitch of about 210 Hz (60 %), then the vocal tract (30 %), "
            "then the motion (10 %).",
        ),
        (
            [((0, 0, BLUE), -1.0), ((3, 9, RED), 1.0), ((5, 5, GREEN), 0.5)],
            {},
            "Answer: female, 0.97. First of all the vocal tract (40 %), then the motion (20 %). "
            "Against it: the pitch of about 210 Hz (40 %).",
        ),
        (
            [((0, 0, RED), -1.0)],
            {"answer": MALE, "probability": 0.5},
            "Answer: male, 0.50. Nothing in this second spoke for it. Against it: the vocal tract (100 %).",
        ),
        (
            [((0, 0, RED), 1.0)],
            {"baseline": Baseline(torch.zeros(1), "silence", False)},
            "Answer: female, 0.97. Mostly the vocal tract (100 %). Another pitch and vocal tract did not change it.",
        ),
        ([], {}, "Answer: female, 0.97. Nothing in this second spoke for it."),
    ],
    ids=["all for", "mixed", "all against", "unmoved", "nothing"],
)
def test_the_reading_says_what_spoke_for_and_against(shares: Shares, parts: dict[str, Any], expected: str) -> None:
    assert reading(made(shares, **parts)) == expected


def test_the_reading_names_the_three_greatest_of_twelve_coefficients() -> None:
    shares: Shares = [((row, 4, 1), 1.0 + row) for row in range(12)]
    expected = "First of all coefficient 12 (15 %), then coefficient 11 (14 %), then coefficient 10 (13 %)."
    assert reading(made(shares, MFCC)).endswith(expected)


def test_the_footnote_names_the_comparison_and_both_probabilities() -> None:
    text = footnote(made([((0, 0, 0), 2.98)]))
    assert "Compared with the same clip with pitch 30 % and resonances 8 % lower" in text
    assert "which the model takes for female with 0.50, this second with 0.95" in text
    assert "a difference of +3.00 in log odds, of which the cells together explain +2.98" in text


@pytest.mark.parametrize("recipe", [VOICE, MFCC], ids=lambda recipe: recipe.name)
def test_what_spoke_is_drawn_warm_or_cold_in_its_place(recipe: Recipe) -> None:
    found = made([((2, slice(10, 60), RED), 1.0), ((9, slice(10, 60), RED), -1.0)], recipe)
    figure = draw(found)
    tint = np.asarray(figure.axes[1].images[1].get_array())  # (12, 98, 4)
    red, blue, opaque = tint[..., 0], tint[..., 2], tint[..., 3]
    assert (red[2, 10:60] > blue[2, 10:60] + 0.4).all()
    assert (blue[9, 10:60] > red[9, 10:60] + 0.4).all()
    assert opaque[2, 10:60].min() == opaque[9, 10:60].min() == 1
    assert opaque.sum() == 100


def test_the_tint_is_clear_where_nothing_spoke() -> None:
    tint = tinted(np.array([[-9.0, -1.0, 0.0, 0.5, 2.0]]))
    np.testing.assert_allclose(tint[0, :, 3], [1, 1, 0, 0.5**0.7, 1])


@pytest.mark.parametrize("name", ["a.wav", "$x$ " + "n" * 300])
@pytest.mark.parametrize("recipe", [VOICE, MFCC], ids=lambda recipe: recipe.name)
def test_all_that_is_written_can_be_read(name: str, recipe: Recipe) -> None:
    found = made([((0, 0, 0), -1.0), ((4, 0, 1), 0.6), ((8, 0, 2), 1.2), ((9, 0, 2), 1.4)], recipe, answer=MALE)
    silent = Baseline(torch.zeros(1), "silence", False)
    figure = draw(replace(found, section=replace(found.section, name=name), baseline=silent))
    assert_readable(figure)
    text = words(figure).replace("\N{NO-BREAK SPACE}", " ")
    assert "Answer: male, 0.97." in " ".join(text.split())
    if recipe is VOICE:
        for part in (
            "24 % of the contributions, for female",
            "14 % of the contributions, for male",
            "62 % of the contributions",
        ):
            assert part in text


def test_the_names_of_the_parts_are_those_that_are_described() -> None:
    assert list(explanation.ABOUT) == list(VOICE.channels)


@pytest.mark.parametrize(("answer", "warm"), [(FEMALE, True), (MALE, False)])
def test_women_are_red_and_men_blue_whatever_the_answer(answer: str, warm: bool) -> None:
    figure = draw(made([((0, 40, RED), 3.0)], answer=answer))
    tints = np.concatenate([np.asarray(each.get_array()) for each in figure.axes[1].get_images()[1:]])
    red, _, blue, _ = max(tints.reshape(-1, 4), key=lambda cell: cell[3])
    assert (red > blue) == warm

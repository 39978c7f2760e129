"""The second of a clip that is shown: which one it is, and where it lies in time."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from agr.inference.section import Section, read, section
from agr.recipes import voice_features
from agr.recipes.base import FRAMES, Recipe
from agr.recipes.mfcc import MFCC
from agr.recipes.voice import VOICE
from tests.sounds import clip_file, vowel, within

RECIPES = [VOICE, MFCC]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
@pytest.mark.parametrize(("before", "after"), [(0.0, 1.5), (0.7, 0.8), (1.5, 0.0)])
def test_of_a_long_clip_the_second_with_the_voice_is_shown(recipe: Recipe, before: float, after: float) -> None:
    y = within(vowel(140, 0.8, recipe.sample_rate), before, after, recipe.sample_rate)
    left, right = section(y, recipe, "a").span
    assert left <= 1000 * before + 30
    assert right >= 1000 * (before + 0.8) - 30
    assert right - left == pytest.approx(980)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
@pytest.mark.parametrize("begins", [0.2, 0.3, 1.4])
def test_a_sound_stands_where_the_time_axis_says(recipe: Recipe, begins: float) -> None:
    rate, long = recipe.sample_rate, 0.4
    shown = section(within(vowel(150, long, rate), begins, 0.3, rate), recipe, "a")
    left, right = shown.span
    edges = np.linspace(left, right, FRAMES + 1)[1:-1]  # between two frames
    changes = np.abs(np.diff(shown.image.astype(float), axis=1)).sum(axis=(0, 2))
    early = edges < 1000 * (begins + long / 2)
    assert edges[early][changes[early].argmax()] == pytest.approx(1000 * begins, abs=25)
    assert edges[~early][changes[~early].argmax()] == pytest.approx(1000 * (begins + long), abs=35)


def test_the_stored_window_is_the_one_that_is_stored_of_a_clip() -> None:
    y = within(vowel(140, 0.8), 0.7, 0.8)
    found = voice_features.extract(y, VOICE)
    shown = section(y, VOICE, "a")
    start = round(shown.start / VOICE.hop_seconds)
    np.testing.assert_array_equal(found[:, start : start + FRAMES], voice_features.best_window(found))
    np.testing.assert_array_equal(shown.stored, voice_features.best_window(found))


def test_standard_input_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = io.BytesIO(clip_file(tmp_path / "a.wav", vowel(120, 0.7)).read_bytes())
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=data))
    shown: Section = read("-", VOICE)
    assert shown.name == "standard input"
    assert shown.pitch == pytest.approx(120, rel=0.05)

"""The figure of the model's input: rows, axes, units and text that can be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from agr.inference.section import section
from agr.plots import panels
from agr.plots.model_input import draw, envelope_hz, pitch_hz
from agr.recipes.base import COEFFICIENTS, Recipe
from agr.recipes.mfcc import MFCC
from agr.recipes.voice import VOICE
from tests.figures import assert_readable, words
from tests.sounds import vowel, within

RED, BLUE = 0, 2
RECIPES = [VOICE, MFCC]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_short_clip_stands_inside_the_picture(recipe: Recipe) -> None:
    shown = section(vowel(140, 0.5, recipe.sample_rate), recipe, "a")
    left, right = shown.span
    assert left < 20 and right > 480
    assert shown.place == "all of its 0.50 s"
    assert "grey is before and after the clip" in words(draw(shown))


@pytest.mark.parametrize("row", range(COEFFICIENTS))
def test_a_tone_is_brightest_in_the_row_that_has_its_name(row: int) -> None:
    at = np.arange(8_000) / 8_000
    tone = np.sin(2 * np.pi * envelope_hz()[row] * at).astype(np.float32)
    levels = section(tone, VOICE, "a").image[:, 30:70, RED].mean(axis=1)
    assert int(levels.argmax()) == row


@pytest.mark.parametrize("row", range(COEFFICIENTS))
def test_a_pitch_is_in_the_row_that_has_its_name(row: int) -> None:
    shown = section(vowel(pitch_hz()[row], 1.0), VOICE, "a")
    strength = shown.image[:, 30:70, BLUE].mean(axis=1)
    first = int((strength >= 0.9 * strength.max()).argmax())  # longer periods are multiples of it
    assert first == row
    assert shown.pitch == pytest.approx(pitch_hz()[row], rel=0.05)


NAMES = ["a.wav", "cost $5 or $6.wav", "two\nlines.wav", "голос 声.wav", "no\udcff utf-8.wav", "n" * 200 + ".wav"]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
@pytest.mark.parametrize("name", NAMES, ids=["plain", "formula", "lines", "letters", "bytes", "long"])
def test_all_that_is_written_can_be_read(recipe: Recipe, name: str, tmp_path: Path) -> None:
    y = within(vowel(210, 1.3, recipe.sample_rate), 120.0 if name == "a.wav" else 0.1, 0.3, recipe.sample_rate)
    figure = draw(section(y, recipe, name))
    panels.save(figure, tmp_path / "new" / "out.png")
    with Image.open(tmp_path / "new" / "out.png") as picture:
        assert (picture.format, picture.width) == ("PNG", 1200)
    if name.isascii():
        assert_readable(figure)


def test_the_axes_of_the_voice_recipe_say_what_they_are() -> None:
    text = words(draw(section(vowel(210, 1.0), VOICE, "a.wav")))
    for part in (
        "a.wav: all of its 1.00 s",
        "Waveform",
        "Mel spectrogram",
        "Envelope",
        "Motion",
        "Periodicity",
        "about 210 Hz (dashed)",
    ):
        assert part in text
    for part in ("time in the clip, ms", "dB", "dB in 10 ms", f"{envelope_hz()[0]:.0f}", f"{pitch_hz()[0]:.0f}"):
        assert part in text


def test_the_axes_of_a_cepstrum_are_frames_and_coefficients() -> None:
    text = words(draw(section(vowel(210, 1.6, 16_000), MFCC, "a.wav")))
    for part in ("coefficient", "frame, one every 10 ms", "12", "90", " s of 1.60 s, the second with most sound"):
        assert part in text


def test_noise_has_no_pitch_to_mark() -> None:
    noise = np.random.default_rng(0).standard_normal(8_000, dtype=np.float32)
    assert "no steady pitch found" in words(draw(section(noise, VOICE, "a")))


def values(figure: Figure, panel: int) -> NDArray[np.float64]:
    return np.asarray(figure.axes[panel].images[0].get_array())


def test_cells_are_in_the_units_that_the_bars_name() -> None:
    shown = section(vowel(210, 1.0), VOICE, "a")
    figure = draw(shown)
    np.testing.assert_array_equal(values(figure, 2), shown.image)
    for panel, low, high in ((3, -45.0, 15.0), (4, -7.5, 7.5), (5, 0.0, 1.0)):
        np.testing.assert_allclose(values(figure, panel), low + shown.image[..., panel - 3] / 255 * (high - low))
    assert [figure.axes[panel].get_ylim()[1] > 0 for panel in (3, 4, 5)] == [True, True, False]  # high ones on top


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
@pytest.mark.parametrize("hz", [300, 1_000, 3_000])
@pytest.mark.parametrize(("begins", "long"), [(0.1, 0.3), (1.2, 0.4)])
def test_a_tone_stands_in_the_spectrogram_at_its_time_and_frequency(
    recipe: Recipe, hz: int, begins: float, long: float
) -> None:
    rate = recipe.sample_rate
    tone = 0.3 * np.sin(2 * np.pi * hz * np.arange(round(long * rate)) / rate)
    shown = section(within(tone.astype(np.float32), begins, 0.2, rate) + np.float32(0.2), recipe, "a")  # and an offset
    figure = draw(shown)
    panel = figure.axes[1]
    (mesh,) = panel.collections
    assert isinstance(mesh, QuadMesh)
    decibels, corners = np.asarray(mesh.get_array()), np.asarray(mesh.get_coordinates())
    ms, bands = (corners[0, :-1, 0] + corners[0, 1:, 0]) / 2, (corners[:-1, 0, 1] + corners[1:, 0, 1]) / 2
    assert (decibels.max(), decibels.min()) == (0, -60)
    row, _ = np.unravel_index(decibels.argmax(), decibels.shape)
    assert bands[row] == pytest.approx(hz, rel=0.04)
    heard = ms[decibels[row] > -10]
    assert heard[0] == pytest.approx(1000 * begins, abs=20)
    assert heard[-1] == pytest.approx(1000 * (begins + long), abs=20)
    assert panel.get_xlim() == pytest.approx(shown.span)
    assert {"100", "500", "4,000"} <= set(words(figure).splitlines())

"""The drawing of what the model reads: the right second, axes that tell the truth, letters that can be read."""

from __future__ import annotations

import io
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.signal
import soundfile
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from numpy.typing import NDArray
from PIL import Image

from agr.common.cli import run
from agr.features import main
from agr.inference.section import Section, read, section
from agr.plots import panels
from agr.plots.model_input import draw, envelope_hz, pitch_hz
from agr.recipes import voice_features
from agr.recipes.base import COEFFICIENTS, FRAMES, Recipe
from agr.recipes.mfcc import MFCC
from agr.recipes.voice import VOICE

RED, BLUE = 0, 2
RECIPES = [VOICE, MFCC]

pytestmark = pytest.mark.usefixtures("one_thread")


def vowel(hz: float, seconds: float, sample_rate: int = 8_000) -> NDArray[np.float32]:
    """Pulses of a steady pitch through three resonances."""
    at = np.arange(round(seconds * sample_rate)) / sample_rate
    y = np.diff(np.floor(at * hz), prepend=0.0)
    for formant in (500, 1_500, 2_500):
        radius, angle = np.exp(-np.pi * 100 / sample_rate), 2 * np.pi * formant / sample_rate
        y = scipy.signal.lfilter([1], [1, -2 * radius * np.cos(angle), radius**2], y)
    return np.asarray(0.5 * y / np.abs(y).max(), dtype=np.float32)


def within(y: NDArray[np.float32], before: float, after: float, sample_rate: int = 8_000) -> NDArray[np.float32]:
    """The same sound with so many seconds of faint noise around it."""
    padded = np.pad(y, (round(before * sample_rate), round(after * sample_rate)))
    return padded + np.float32(1e-4) * np.random.default_rng(0).standard_normal(len(padded)).astype(np.float32)


def clip_file(path: Path, y: NDArray[np.float32], sample_rate: int = 8_000) -> Path:
    soundfile.write(path, y, sample_rate, subtype="FLOAT")
    return path


def written(figure: Figure) -> list[tuple[str, Bbox]]:
    """Every text that is drawn, and its box in pixels."""
    found: list[tuple[str, Bbox]] = []

    def drawn(text: Text, renderer: Any) -> None:
        if text.get_visible() and text.get_text().strip():
            found.append((text.get_text(), text.get_window_extent(renderer)))

    figure.draw_without_rendering()  # lays it out
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", drawn)
        figure.draw_without_rendering()
    return found


def assert_readable(figure: Figure) -> None:
    """No letter is cut off, no text stands on another."""
    boxes = written(figure)
    width, height = figure.get_size_inches() * figure.dpi
    assert width == 1200
    for text, box in boxes:
        assert 0 <= box.x0 < box.x1 <= width, text
        assert 0 <= box.y0 < box.y1 <= height, text
    for (text, box), (other, another) in itertools.combinations(boxes, 2):
        assert not box.overlaps(another), (text, other)


def words(figure: Figure) -> str:
    return "\n".join(text for text, _ in written(figure))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
@pytest.mark.parametrize(("before", "after"), [(0.0, 1.5), (0.7, 0.8), (1.5, 0.0)])
def test_of_a_long_clip_the_second_with_the_voice_is_shown(recipe: Recipe, before: float, after: float) -> None:
    y = within(vowel(140, 0.8, recipe.sample_rate), before, after, recipe.sample_rate)
    left, right = section(y, recipe, "a").span
    assert left <= 1000 * before + 30
    assert right >= 1000 * (before + 0.8) - 30
    assert right - left == pytest.approx(980)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_short_clip_stands_inside_the_picture(recipe: Recipe) -> None:
    shown = section(vowel(140, 0.5, recipe.sample_rate), recipe, "a")
    left, right = shown.span
    assert left < 20 and right > 480
    assert shown.place == "all of its 0.50 s"
    assert "grey is before and after the clip" in words(draw(shown))


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


def test_the_stored_window_is_the_one_that_is_stored_of_a_clip() -> None:
    y = within(vowel(140, 0.8), 0.7, 0.8)
    found = voice_features.extract(y, VOICE)
    shown = section(y, VOICE, "a")
    start = round(shown.start / VOICE.hop_seconds)
    np.testing.assert_array_equal(found[:, start : start + FRAMES], voice_features.best_window(found))
    np.testing.assert_array_equal(shown.stored, voice_features.best_window(found))


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


@pytest.mark.parametrize("recipe", ["voice", "mfcc", "mfcc48"])
def test_the_command_writes_a_png(recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip, out = clip_file(tmp_path / "a.wav", vowel(120, 0.7)), tmp_path / "out.png"
    assert main([str(clip), "--png", str(out), "--recipe", recipe]) == 0
    assert capsys.readouterr() == (f"{out}\tall of its 0.70 s\n", "")
    with Image.open(out) as picture:
        assert picture.format == "PNG"


def test_standard_input_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = io.BytesIO(clip_file(tmp_path / "a.wav", vowel(120, 0.7)).read_bytes())
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=data))
    shown: Section = read("-", VOICE)
    assert shown.name == "standard input"
    assert shown.pitch == pytest.approx(120, rel=0.05)


def filled(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda path: path, "No such file"),
        (lambda path: filled(path, b""), "0 bytes"),
        (lambda path: filled(path, b"no sound at all"), "expected WAV, FLAC, OGG or MP3"),
        (lambda path: clip_file(path, np.zeros(8_000, dtype=np.float32)), "pure silence"),
        (lambda path: clip_file(path, vowel(120, 0.05)), "expected at least 0.1 s"),
        (lambda path: path.mkdir() or path, "Is a directory"),
    ],
    ids=["missing", "empty", "text", "silent", "short", "folder"],
)
def test_what_is_no_clip_is_one_line_and_status_1(
    make: Callable[[Path], Path], part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, out = make(tmp_path / "a.wav"), tmp_path / "out.png"
    assert main([str(clip), "--png", str(out)]) == 1
    printed, complaint = capsys.readouterr()
    assert printed == ""
    assert complaint.startswith(f"agr: {clip}: ")
    assert part in complaint
    assert complaint.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize("arguments", [["--png", "."], [], ["--png", "out.png", "--recipe", "none"]])
def test_wrong_usage_and_an_unwritable_file_are_status_2(
    arguments: list[str], tmp_path: Path, own_signals: None, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = clip_file(tmp_path / "a.wav", vowel(120, 0.7))
    with pytest.raises(SystemExit) as stopped:
        run(lambda: main([str(clip), *arguments]))
    assert stopped.value.code == 2
    assert capsys.readouterr().out == ""

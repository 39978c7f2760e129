"""The picture of a clip's image as the model reads it, large and with axes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from numpy.typing import NDArray

from agr.inference.section import Section
from agr.plots import panels
from agr.recipes import voice_features, voice_image
from agr.recipes.base import IMAGE_SHAPE, Recipe
from agr.recipes.periodicity import lag_hz

SPECTROGRAM = "Mel spectrogram: how strong each frequency is; the lines are the voice's harmonics, a pitch apart"
ENVELOPE = "how loud each band of frequencies is; the vocal tract's resonances are bright"
MOTION = "how fast each band grows louder (+) or softer (-)"
PERIODICITY = "how exactly the sound repeats at each pitch"
CEPSTRUM = "What the model reads, Mel-frequency cepstra: coefficient 1 is loudness, the others the spectrum's shape"


@dataclass(frozen=True)
class Channel:
    """One part of an image of voice features: what its rows and bytes stand for."""

    name: str  # what people call it
    says: str  # what it shows
    hz: NDArray[np.float64]  # the frequency of each row, (rows,)
    low: float  # the value of byte 0, in `unit`
    high: float  # the value of byte 255
    unit: str  # of these values
    colours: str  # the name of matplotlib's colour map


def channels(recipe: Recipe) -> tuple[Channel, ...]:
    """The parts of the recipe's images: red, green and blue of `voice`, bands and lags of `voice112`."""
    fine = recipe.image_shape != IMAGE_SHAPE
    bands = voice_features.band_hz() if fine else envelope_hz()
    pitches = lag_hz() if fine else pitch_hz()
    low, high, slope = voice_image.LOWEST_DB, voice_image.HIGHEST_DB, voice_image.SLOPE_DB
    envelope = Channel("envelope", ENVELOPE, bands, low, high, "dB", "viridis")
    motion = Channel("motion", MOTION, bands, -slope, slope, "dB in 10 ms", "PuOr_r")
    periodicity = Channel("periodicity", PERIODICITY, pitches, 0.0, 1.0, "0 noise, 1 exact", "magma")
    return (envelope, periodicity) if fine else (envelope, motion, periodicity)


def envelope_hz() -> NDArray[np.float64]:
    """The centre of each row's band in envelope and motion, in Hz, rising: (COEFFICIENTS,)."""
    return voice_image.envelope_edges()[1:-1]


def pitch_hz() -> NDArray[np.float64]:
    """The centre of each row's pitches in periodicity, in Hz, falling: (COEFFICIENTS,)."""
    edges = voice_image.pitch_edges()
    return np.sqrt(edges[1:] * edges[:-1])


def title(section: Section) -> str:
    """The clip's name, which part of it is shown, and why that one where there was a choice."""
    why = "" if section.place.startswith("all") else f", the second with most {section.recipe.chosen_for}"
    return f"{panels.shorter(section.name)}: {section.place}{why}"


def draw(shown: Section) -> Figure:
    """The image of a clip below its waveform and spectrogram, with axes that say what each row and colour means."""
    figure = _draw_voice(shown) if shown.recipe.channels else _draw_mfc(shown)
    figure.suptitle(title(shown), parse_math=False)
    return figure


def _draw_voice(shown: Section) -> Figure:
    parts, known = shown.recipe.parts(shown.image), channels(shown.recipe)
    coloured = shown.image.shape[2] > 1
    height = panels.ROWS if coloured else 1.5 * panels.ROWS
    figure, (top, sound, *each), (_, level, *bars) = panels.sheet(
        [1.0, panels.ROWS, *[height] * (len(parts) + coloured)]
    )
    _draw_sound(shown, top, sound, level)
    if coloured:
        _draw_colours(shown, each.pop(0))
        bars.pop(0)
    for values, channel, panel, bar in zip(parts.values(), known, each, bars, strict=True):
        low, high = channel.low, channel.high
        scaled = low + values / 255 * (high - low)  # (rows, 98)
        drawn = panels.cells(panel, shown.span, scaled, vmin=low, vmax=high, cmap=channel.colours)
        panels.titled(panel, f"{channel.name.capitalize()}: {channel.says}")
        panels.in_hz(panel, channel.hz)
        panels.colour_bar(bar, drawn, channel.unit)
    _mark_pitch(each[-1], shown.pitch, known[-1].hz)
    panels.in_ms(each[-1])
    return figure


def _draw_colours(shown: Section, panel: Axes) -> None:
    """Draw the image as it is."""
    panels.cells(panel, shown.span, shown.image)
    panels.titled(panel, "What the model reads: red is the envelope, green the motion, blue the periodicity")
    panel.set_yticks([0, 5, 11], ["1", "6", "12"])
    panel.set_ylabel("row")


def _draw_sound(shown: Section, top: Axes, below: Axes, bar: Axes) -> None:
    """Draw the waveform and, below it, a spectrogram: views of a sound that people know."""
    panels.waveform(top, shown.span, shown.y, shown.recipe.sample_rate)
    drawn = panels.spectrogram(below, shown.span, shown.y, shown.recipe.sample_rate)
    panels.titled(below, SPECTROGRAM)
    panels.colour_bar(bar, drawn, "dB")


def _mark_pitch(panel: Axes, hz: float, rows: NDArray[np.float64]) -> None:
    """Mark the row of the median pitch and say how high it is; rows: the pitch of each, in Hz, falling."""
    said = "; no steady pitch found" if np.isnan(hz) else f": about {hz:.0f} Hz (dashed), so at its half and third too"
    panels.titled(panel, panel.get_title(loc="left") + said)
    row = (len(rows) - 1) * np.log(rows[0] / hz) / np.log(rows[0] / rows[-1])
    if -0.5 <= row <= len(rows) - 0.5:
        panel.axhline(row, color="white", linewidth=0.8, linestyle=(0, (6, 6)))


def _draw_mfc(shown: Section) -> Figure:
    figure, (top, sound, panel), (_, level, bar) = panels.sheet([1.0, panels.ROWS, 2 * panels.ROWS])
    _draw_sound(shown, top, sound, level)
    panels.in_ms(sound)
    panels.cells(panel, shown.span, shown.image)
    panels.titled(panel, CEPSTRUM)
    panels.in_coefficients(panel)
    panels.in_frames(panel, shown.span)
    panels.colour_bar(bar, ScalarMappable(cmap="viridis"), "before JPEG blurs the colours", ["lowest", "highest"])
    return figure

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
from agr.recipes import voice_image
from agr.recipes.base import COEFFICIENTS

SPECTROGRAM = "Mel spectrogram: how strong each frequency is; the lines are the voice's harmonics, a pitch apart"
ENVELOPE = "how loud each band of frequencies is; the vocal tract's resonances are bright"
MOTION = "how fast each band grows louder (+) or softer (-)"
PERIODICITY = "how exactly the sound repeats at each pitch"
CEPSTRUM = "What the model reads, Mel-frequency cepstra: coefficient 1 is loudness, the others the spectrum's shape"


@dataclass(frozen=True)
class Channel:
    """One channel of an image by the recipe `voice`: what its rows and bytes stand for."""

    name: str  # what people call it
    says: str  # what it shows
    hz: NDArray[np.float64]  # the frequency of each row, (COEFFICIENTS,)
    low: float  # the value of byte 0, in `unit`
    high: float  # the value of byte 255
    unit: str  # of these values
    colours: str  # the name of matplotlib's colour map


def channels() -> tuple[Channel, Channel, Channel]:
    """Red, green and blue."""
    bands, pitches = envelope_hz(), pitch_hz()
    low, high, slope = voice_image.LOWEST_DB, voice_image.HIGHEST_DB, voice_image.SLOPE_DB
    return (
        Channel("envelope", ENVELOPE, bands, low, high, "dB", "viridis"),
        Channel("motion", MOTION, bands, -slope, slope, "dB in 10 ms", "PuOr_r"),
        Channel("periodicity", PERIODICITY, pitches, 0.0, 1.0, "0 noise, 1 exact", "magma"),
    )


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
    figure, (top, sound, colours, *each), (_, level, _, *bars) = panels.sheet([1.0, *[panels.ROWS] * 5])
    _draw_sound(shown, top, sound, level)
    panels.cells(colours, shown.span, shown.image)
    panels.titled(colours, "What the model reads: red is the envelope, green the motion, blue the periodicity")
    colours.set_yticks([0, 5, 11], ["1", "6", "12"])
    colours.set_ylabel("row")
    for index, (channel, panel, bar) in enumerate(zip(channels(), each, bars, strict=True)):
        low, high = channel.low, channel.high
        values = low + shown.image[..., index] / 255 * (high - low)  # (12, 98)
        drawn = panels.cells(panel, shown.span, values, vmin=low, vmax=high, cmap=channel.colours)
        panels.titled(panel, f"{channel.name.capitalize()}: {channel.says}")
        panels.in_hz(panel, channel.hz)
        panels.colour_bar(bar, drawn, channel.unit)
    _mark_pitch(each[-1], shown.pitch)
    panels.in_ms(each[-1])
    return figure


def _draw_sound(shown: Section, top: Axes, below: Axes, bar: Axes) -> None:
    """Draw the waveform and, below it, a spectrogram: views of a sound that people know."""
    panels.waveform(top, shown.span, shown.y, shown.recipe.sample_rate)
    drawn = panels.spectrogram(below, shown.span, shown.y, shown.recipe.sample_rate)
    panels.titled(below, SPECTROGRAM)
    panels.colour_bar(bar, drawn, "dB")


def _mark_pitch(panel: Axes, hz: float) -> None:
    """Mark the row of the median pitch and say how high it is."""
    said = "; no steady pitch found" if np.isnan(hz) else f": about {hz:.0f} Hz (dashed), so at its half and third too"
    panels.titled(panel, panel.get_title(loc="left") + said)
    top, bottom = voice_image.PITCH_HZ
    row = COEFFICIENTS * np.log(top / hz) / np.log(top / bottom) - 0.5
    if -0.5 <= row <= COEFFICIENTS - 0.5:
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

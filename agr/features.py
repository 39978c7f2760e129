"""What the model reads of a clip, drawn large and with axes, below the waveform and a mel spectrogram.

    python -m agr.features clip.wav --png out.png [--recipe voice|mfc|mfc48]

Of a clip longer than a second, the second with most speech is drawn. `-` reads standard input. Exit status: 0 drawn,
1 the clip could not be read, 2 wrong usage or a file that cannot be written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from numpy.typing import NDArray

from agr import audio, panels, picture
from agr.errors import AudioError
from agr.imaging import DEFAULT, RECIPES, by_name
from agr.recipe import COEFFICIENTS, FRAMES, Recipe
from agr.terminal import complain, png_path, run

STDIN = "-"
SPECTROGRAM = "Mel spectrogram: how strong each frequency is; the lines are the voice's harmonics, a pitch apart"
PICTURE = "What the model reads: red is the envelope, green the motion, blue the periodicity"
ENVELOPE = "how loud each band of frequencies is; the vocal tract's resonances are bright"
MOTION = "how fast each band grows louder (+) or softer (-)"
PERIODICITY = "how exactly the sound repeats at each pitch"
CEPSTRUM = "What the model reads, Mel-frequency cepstra: coefficient 1 is loudness, the others the spectrum's shape"


@dataclass(frozen=True)
class Section:
    """The part of a clip that its image shows.

    Attributes:
        name: The clip, for people.
        y: The whole clip, (n,), float32, at the recipe's rate.
        recipe: What makes the image.
        start: Where the image begins in the clip, in seconds; negative where a short clip is padded.
        stored: What is stored of it, `recipe.stored_shape`, uint8.
        image: What the model reads of it, IMAGE_SHAPE, uint8.
    """

    name: str
    y: NDArray[np.float32]
    recipe: Recipe
    start: float
    stored: NDArray[np.uint8]
    image: NDArray[np.uint8]

    @property
    def seconds(self) -> float:
        """The length of the whole clip."""
        return len(self.y) / self.recipe.sample_rate

    @property
    def span(self) -> panels.Span:
        """The left edge of the first frame and the right edge of the last, in milliseconds of the clip."""
        hop = 1000 * self.recipe.hop_seconds
        left = 1000 * (self.start + self.recipe.first_frame) - hop / 2
        return left, left + FRAMES * hop

    @property
    def pitch(self) -> float:
        """The median pitch in Hz; NaN where too little is voiced, or by a recipe that does not measure it."""
        return self.recipe.pitch(self.stored)

    @property
    def place(self) -> str:
        """Which part of the clip it is, in words."""
        left, right = (min(max(ms / 1000, 0.0), self.seconds) for ms in self.span)
        whole = right - left > self.seconds - 0.03
        return f"all of its {self.seconds:.2f} s" if whole else f"{left:.2f} to {right:.2f} s of {self.seconds:.2f} s"

    @property
    def title(self) -> str:
        """The clip's name, which part of it is shown, and why that one where there was a choice."""
        why = "" if self.place.startswith("all") else f", the second with most {self.recipe.chosen_for}"
        return f"{panels.shorter(self.name)}: {self.place}{why}"


@dataclass(frozen=True)
class Channel:
    """One channel of an image by the recipe `voice`: what its rows and bytes stand for.

    Attributes:
        name: What people call it.
        says: What it shows.
        hz: The frequency of each row, (COEFFICIENTS,).
        low: The value of byte 0, in `unit`.
        high: The value of byte 255.
        unit: Of these values.
        colours: The name of matplotlib's colour map.
    """

    name: str
    says: str
    hz: NDArray[np.float64]
    low: float
    high: float
    unit: str
    colours: str


def channels() -> tuple[Channel, Channel, Channel]:
    """Red, green and blue."""
    bands, pitches = envelope_hz(), pitch_hz()
    low, high, slope = picture.LOWEST_DB, picture.HIGHEST_DB, picture.SLOPE_DB
    return (
        Channel("envelope", ENVELOPE, bands, low, high, "dB", "viridis"),
        Channel("motion", MOTION, bands, -slope, slope, "dB in 10 ms", "PuOr_r"),
        Channel("periodicity", PERIODICITY, pitches, 0.0, 1.0, "0 noise, 1 exact", "magma"),
    )


def envelope_hz() -> NDArray[np.float64]:
    """The centre of each row's band in envelope and motion, in Hz, rising: (COEFFICIENTS,)."""
    return picture.envelope_edges()[1:-1]


def pitch_hz() -> NDArray[np.float64]:
    """The centre of each row's pitches in periodicity, in Hz, falling: (COEFFICIENTS,)."""
    edges = picture.pitch_edges()
    return np.sqrt(edges[1:] * edges[:-1])


def read(clip: str, recipe: Recipe) -> Section:
    """Decode a clip, `-` from standard input, and make its image. Raises AudioError where it cannot be read."""
    source = sys.stdin.buffer.read() if clip == STDIN else Path(clip)
    name = "standard input" if clip == STDIN else Path(clip).name
    return section(audio.load(source, recipe.sample_rate), recipe, name)


def section(y: NDArray[np.float32], recipe: Recipe, name: str) -> Section:
    """The second of a clip that its image shows; y: (n,), float32, at the recipe's rate."""
    start, stored = recipe.place(y)
    return Section(name, y, recipe, start, stored, recipe.images(stored[None])[0])


def draw(shown: Section) -> Figure:
    """The image of a clip below its waveform and spectrogram, with axes that say what each row and colour means."""
    figure = _draw_voice(shown) if shown.recipe.channels else _draw_mfc(shown)
    figure.suptitle(shown.title, parse_math=False)
    return figure


def _draw_voice(shown: Section) -> Figure:
    figure, (top, sound, colours, *each), (_, level, _, *bars) = panels.sheet([1.0, *[panels.ROWS] * 5])
    _draw_sound(shown, top, sound, level)
    panels.cells(colours, shown.span, shown.image)
    panels.titled(colours, PICTURE)
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
    if np.isnan(hz):
        panels.titled(panel, f"{panel.get_title(loc='left')}; no steady pitch found")
        return
    panels.titled(panel, f"{panel.get_title(loc='left')}: about {hz:.0f} Hz (dashed), so at its half and third too")
    top, bottom = picture.PITCH_HZ
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


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m agr.features", description="Draw what the model reads of a clip.")
    parser.add_argument("clip", metavar="CLIP", help="a sound file, or - for standard input")
    parser.add_argument("--png", type=png_path, required=True, help="where to write the drawing")
    parser.add_argument("--recipe", choices=list(RECIPES), default=DEFAULT, help=f"{DEFAULT} unless named")
    options = parser.parse_args(arguments)
    try:
        shown = read(options.clip, by_name(options.recipe))
    except AudioError as error:
        complain(str(error))
        return 1
    panels.save(draw(shown), options.png)
    print(f"{options.png}\t{shown.place}")
    return 0


if __name__ == "__main__":
    run(main)

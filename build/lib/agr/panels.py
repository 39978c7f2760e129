"""What the drawings of one clip share: a sheet of panels over the same second, its waveform, its cells, its axes.

figure, panels, bars = sheet([1.0, 1.7])          # two panels, 1.0 and 1.7 inches high
cells(panels[1], (230.0, 1210.0), values)         # (12, 98), from 230 to 1,210 ms
save(figure, Path("clip.png"))
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from agr.files import write_atomic
from agr.recipe import COEFFICIENTS, FRAMES

WIDTH, DPI = 12.0, 100  # inches, and pixels in each: 1,200 pixels wide
ROWS = 1.7  # inches of a panel of COEFFICIENTS rows
NAME_LETTERS = 60  # of a clip's name in a title; longer ones lose their middle

Span = tuple[float, float]  # from where to where a panel reaches, in milliseconds of the clip


def sheet(heights: Sequence[float]) -> tuple[Figure, list[Axes], list[Axes]]:
    """An empty figure: panels of these heights in inches below each other, and room beside each for a colour bar."""
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.42 * len(heights) + 0.9), dpi=DPI, layout="constrained")
    grid = figure.add_gridspec(len(heights), 2, width_ratios=(70, 1), height_ratios=heights)
    panels = [figure.add_subplot(grid[row, 0]) for row in range(len(heights))]
    bars = [figure.add_subplot(grid[row, 1]) for row in range(len(heights))]
    for panel, bar in zip(panels, bars, strict=True):
        panel.tick_params(labelbottom=False, labelsize=8)
        bar.set_axis_off()
    return figure, panels, bars


def titled(panel: Axes, words: str) -> None:
    """Write above a panel, flush left."""
    panel.set_title(words, loc="left", fontsize=10)


def waveform(panel: Axes, span: Span, y: NDArray[np.float32], sample_rate: int) -> None:
    """The sound itself, y: (n,), over the same time as the picture; what lies outside the clip is grey."""
    end = 1000 * len(y) / sample_rate
    first, last = (round(min(max(ms, 0.0), end) / 1000 * sample_rate) for ms in span)
    panel.plot(np.arange(first, last) / sample_rate * 1000, y[first:last], color="#444444", linewidth=0.6)
    panel.axvspan(min(span[0], 0.0), 0.0, color="#dddddd", linewidth=0)
    panel.axvspan(end, max(span[1], end), color="#dddddd", linewidth=0)
    panel.set(xlim=span, ylabel="amplitude")
    outside = span[0] < -10 or span[1] > end + 10
    titled(panel, "Waveform: the sound itself" + ("; grey is before and after the clip" if outside else ""))


def cells(panel: Axes, span: Span, values: NDArray[Any], **options: Any) -> AxesImage:
    """Rows and frames as coloured cells over time: values, (12, 98) or (12, 98, colours)."""
    extent = (*span, COEFFICIENTS - 0.5, -0.5)
    return panel.imshow(values, aspect="auto", interpolation="nearest", extent=extent, **options)


def colour_bar(bar: Axes, drawn: ScalarMappable, label: str = "", ends: Sequence[str] = ()) -> None:
    """A colour bar in the room kept for it; its ticks are numbers, or words evenly spread over a scale of 0 to 1."""
    bar.set_axis_on()
    ticks = list(np.linspace(0, 1, len(ends))) if ends else None
    scale = bar.figure.colorbar(drawn, cax=bar, label=label, ticks=ticks)
    bar.tick_params(labelsize=8)
    if ends:
        scale.set_ticklabels(list(ends))


def in_hz(panel: Axes, hz: NDArray[np.float64]) -> None:
    """Name every other row by its frequency, hz: (COEFFICIENTS,), and put the high ones on top."""
    rows = range(0, COEFFICIENTS, 2)
    panel.set_yticks(rows, [f"{hz[row]:,.0f}" for row in rows])
    panel.set_ylabel("Hz")
    panel.set_ylim((-0.5, COEFFICIENTS - 0.5) if hz[0] < hz[-1] else (COEFFICIENTS - 0.5, -0.5))


def in_coefficients(panel: Axes) -> None:
    """Number the rows of a cepstrum from 1."""
    panel.set_yticks(range(COEFFICIENTS), [str(row + 1) for row in range(COEFFICIENTS)])
    panel.set_ylabel("coefficient")


def in_ms(panel: Axes) -> None:
    """Write the time below a panel."""
    panel.tick_params(labelbottom=True)
    panel.set_xlabel("time in the clip, ms")


def in_frames(panel: Axes, span: Span) -> None:
    """Number the frames below a panel, from 0."""
    frames = np.arange(0, FRAMES, 10)
    panel.set_xticks(span[0] + (frames + 0.5) * (span[1] - span[0]) / FRAMES, [str(frame) for frame in frames])
    panel.tick_params(labelbottom=True)
    panel.set_xlabel("frame, one every 10 ms")


def shorter(name: str) -> str:
    """A clip's name as a title can show it: on one line, without its middle where that is too long."""
    line = " ".join(name.encode("utf-8", "replace").decode().split())
    half = NAME_LETTERS // 2
    return line if len(line) <= NAME_LETTERS else f"{line[: half - 2]}...{line[-half + 1 :]}"


def save(figure: Figure, path: Path) -> None:
    """Write a PNG, whole or not at all. Letters that matplotlib's font lacks, as in some names, become boxes."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="png")
    write_atomic(path, buffer.getvalue())

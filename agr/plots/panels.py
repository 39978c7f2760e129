"""What the drawings of one clip share: panels over the same second, waveform, spectrogram, cells and axes."""

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
from matplotlib.ticker import AutoLocator, ScalarFormatter
from numpy.typing import NDArray

from agr.common.files import write_atomic
from agr.recipes.base import COEFFICIENTS, FRAMES

WIDTH, DPI = 12.0, 100  # inches, and pixels in each: 1,200 pixels wide
ROWS = 1.7  # inches of a panel of COEFFICIENTS rows
NAME_LETTERS = 60  # of a clip's name in a title; longer ones lose their middle
OUTSIDE = "#dddddd"  # what lies before and after the clip
WINDOW_SECONDS, STEP_SECONDS, N_FFT, N_MELS, TOP_DB = 0.035, 0.002, 4096, 160, 60.0  # resolve a voice's harmonics
NAMED_HZ = (100, 500, 1000, 2000, 4000, 8000)
LOWEST_HZ, HIGHEST_HZ = 60, NAMED_HZ[-1]
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
    panel.axvspan(min(span[0], 0.0), 0.0, color=OUTSIDE, linewidth=0)
    panel.axvspan(end, max(span[1], end), color=OUTSIDE, linewidth=0)
    panel.set(xlim=span, ylabel="amplitude")
    outside = span[0] < -10 or span[1] > end + 10
    titled(panel, "Waveform: the sound itself" + ("; grey is before and after the clip" if outside else ""))


def spectrogram(panel: Axes, span: Span, y: NDArray[np.float32], sample_rate: int) -> ScalarMappable:
    """A mel spectrogram of the whole clip y, (n,), over the same time as the image, in dB below its loudest value.

    What lies outside the clip is grey. Returns: what a colour bar is made for.
    """
    import librosa  # takes a second to import, so only when something is drawn
    from librosa.display import specshow

    margin, end = 1000 * WINDOW_SECONDS, len(y)
    first, last = (round(min(max(ms / 1000 * sample_rate, 0), end)) for ms in (span[0] - margin, span[1] + margin))
    hop, window = round(STEP_SECONDS * sample_rate), round(WINDOW_SECONDS * sample_rate)
    steps, missing = 1 + (last - first) // hop, max(N_FFT - (last - first), 0)
    padded = np.pad(y[first:last] - np.mean(y[first:last]), (0, missing))
    highest = min(sample_rate // 2, HIGHEST_HZ)
    lengths = {"n_fft": N_FFT, "win_length": window, "hop_length": hop, "n_mels": N_MELS}
    power = librosa.feature.melspectrogram(y=padded, sr=sample_rate, fmin=LOWEST_HZ, fmax=highest, **lengths)
    decibels = librosa.power_to_db(power[:, :steps], ref=np.max, top_db=TOP_DB)
    centres = librosa.mel_frequencies(N_MELS + 2, fmin=LOWEST_HZ, fmax=highest)[1:-1]
    ms = first / sample_rate * 1000 + 1000 * (hop * np.arange(steps) / sample_rate)
    drawn: ScalarMappable = specshow(decibels, x_coords=ms, y_coords=centres, y_axis="mel", cmap="magma", ax=panel)
    panel.set_facecolor(OUTSIDE)
    panel.xaxis.set_major_locator(AutoLocator())
    panel.xaxis.set_major_formatter(ScalarFormatter())
    ticks = [hz for hz in NAMED_HZ if hz <= highest]
    panel.set_yticks(ticks, [f"{hz:,}" for hz in ticks])
    panel.set(xlim=span, ylim=(LOWEST_HZ, highest), xlabel=None, ylabel="Hz")
    return drawn


def cells(panel: Axes, span: Span, values: NDArray[Any], **options: Any) -> AxesImage:
    """Rows and frames as coloured cells over time: values, (rows, 98) or (rows, 98, colours)."""
    extent = (*span, len(values) - 0.5, -0.5)
    return panel.imshow(values, aspect="auto", interpolation="nearest", extent=extent, **options)


def colour_bar(bar: Axes, drawn: ScalarMappable, label: str = "", ends: Sequence[str] = ()) -> None:
    """A colour bar in the room kept for it; its ticks are numbers, or words evenly spread over a scale of 0 to 1."""
    bar.set_axis_on()
    scale = bar.figure.colorbar(drawn, cax=bar, label=label)
    bar.tick_params(labelsize=8)
    if ends:
        scale.set_ticks(list(np.linspace(0, 1, len(ends))), labels=list(ends))


def in_hz(panel: Axes, hz: NDArray[np.float64]) -> None:
    """Name about six rows by their frequency, hz: (rows,), and put the high ones on top."""
    step = len(hz) // 6
    panel.set_yticks(range(0, len(hz), step), [f"{each:,.0f}" for each in hz[::step]])
    panel.set_ylabel("Hz")
    panel.set_ylim((-0.5, len(hz) - 0.5) if hz[0] < hz[-1] else (len(hz) - 0.5, -0.5))


def in_coefficients(panel: Axes) -> None:
    """Number the rows of a cepstrum from 1."""
    panel.set_yticks(range(COEFFICIENTS), [str(row + 1) for row in range(COEFFICIENTS)])
    panel.set_ylabel("coefficient")


def in_ms(panel: Axes, label: str = "time in the clip, ms") -> None:
    """Write the time below a panel."""
    panel.tick_params(labelbottom=True)
    panel.set_xlabel(label)


def in_frames(panel: Axes, span: Span) -> None:
    """Number the frames below a panel, from 0."""
    frames = np.arange(0, FRAMES, 10)
    panel.set_xticks(span[0] + (frames + 0.5) * (span[1] - span[0]) / FRAMES, [str(frame) for frame in frames])
    in_ms(panel, "frame, one every 10 ms")


def shorter(name: str) -> str:
    """A clip's name as a title can show it: on one line, without its middle where that is too long."""
    line = " ".join(name.encode("utf-8", "replace").decode().split())
    half = NAME_LETTERS // 2
    return line if len(line) <= NAME_LETTERS else f"{line[: half - 2]}...{line[-half + 1 :]}"


def png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG. Letters that matplotlib's font lacks, as in some names, become boxes."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def save(figure: Figure, path: Path) -> None:
    """Write a PNG, whole or not at all."""
    write_atomic(path, png(figure))

"""The picture of a timeline: the sound, and in colour who speaks, in lines of equal length below each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from agr.inference.timeline import PEAK_SECONDS
from agr.inference.timeline_files import TimedAnswer
from agr.labels import CLASSES
from agr.plots import panels
from agr.plots.search import GENDERS

LENGTHS = (6, 12, 30, 60, 120, 300, 600, 900, 1800, 3600)  # seconds of a line, whose sixths are whole
MOST_LINES = 12
LINE_INCHES = 0.8
TICKS = 7
GREY = "#999999"


def draw(recording: TimedAnswer, path: Path) -> None:
    """Draw one recording's segments over its loudness, as a PNG."""
    fitting = [length for length in LENGTHS if recording.seconds <= MOST_LINES * length]
    length = fitting[0] if fitting else recording.seconds / MOST_LINES
    count = max(1, int(np.ceil(recording.seconds / length - 1e-9)))
    figure = Figure(figsize=(panels.WIDTH, LINE_INCHES * count + 1.3), dpi=panels.DPI, layout="constrained")
    lines = figure.subplots(count, 1, squeeze=False)[:, 0]
    peaks = np.asarray(recording.peaks) / max(np.max(recording.peaks, initial=0.0), 1e-9)
    for number, panel in enumerate(lines):
        _line(panel, recording, peaks, number * length, min(length, max(recording.seconds, 1e-3)))
    lines[-1].set_xlabel("minutes:seconds")
    lines[0].set_title(_title(recording), loc="left", fontsize=10)
    handles = [Patch(color=GENDERS[label], label=label) for label in CLASSES] + [Patch(color=GREY, label="no speech")]
    figure.legend(handles=handles, loc="outside upper right", ncols=3, frameon=False, fontsize=9)
    panels.save(figure, path)


def _title(recording: TimedAnswer) -> str:
    parts = [f"{label} {_clock(seconds)}" for label, seconds in recording.spoken.items()]
    return f"{panels.shorter(Path(recording.name).name)}: {', '.join(parts)}"


def _line(panel: Axes, recording: TimedAnswer, peaks: NDArray[np.float64], start: float, length: float) -> None:
    """`length` seconds from `start`: the loudness, coloured by who speaks; the lighter, the less sure."""
    end = start + length
    first, last = round(start / PEAK_SECONDS), min(round(end / PEAK_SECONDS), len(peaks))
    middles = (np.arange(first, last) + 0.5) * PEAK_SECONDS
    high = peaks[first:last]
    panel.fill_between(middles, -high, high, step="mid", color=GREY, linewidth=0)
    for segment in recording.segments:
        if segment.end > start and segment.start < end:
            colour = GENDERS[segment.label]
            span = max(segment.start, start), min(segment.end, end)
            panel.axvspan(*span, color=colour, alpha=0.12 + 0.5 * max(segment.probability - 0.5, 0.0), linewidth=0)
            inside = (middles >= segment.start - PEAK_SECONDS / 2) & (middles <= segment.end + PEAK_SECONDS / 2)
            panel.fill_between(middles, -high, high, where=inside, step="mid", color=colour, linewidth=0)
    panel.set(xlim=(start, end), ylim=(-1.05, 1.05), yticks=[])
    ticks = np.linspace(start, end, TICKS)
    panel.set_xticks(ticks, [_clock(tick) for tick in ticks])
    panel.tick_params(labelsize=8)


def _clock(seconds: float) -> str:
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    return (f"{hours}:{rest // 60:02}" if hours else f"{rest // 60}") + f":{rest % 60:02}"

"""The pictures of a search, each a PNG that stands on its own.

    heat_map(curves, folder / "grid.png", "grid-20260101-101500")

matplotlib is imported by what draws, so that a search can name these functions to its plotting process without it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agr.labels import CLASSES
from agr.metrics.calibration import BINS, Bins, Coverage
from agr.metrics.scoring import Scores
from agr.plots.curves import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 130
COLOURS = ("#0b6e8c", "#c8553d", "#588157", "#8d5a97", "#d4a017", "#444444")
GENDERS = dict(zip(CLASSES, (COLOURS[1], COLOURS[0]), strict=True))  # in every picture women are warm, men are cold
STYLES = ("-", "--", ":", "-.", (0, (8, 2)), (0, (3, 1, 1, 1, 1, 1)))
TITLE_LETTERS = 11  # of the titles' font, about so many fit in an inch
NUMBERED_CELLS, MOST_CURVES, MOST_NAMES = 500, 60, 24
WIDEST, TALLEST, TICKS = 14.0, 10.0, 8  # inches, and labels of an axis, of a heat map without numbers


def new_figure(size: tuple[float, float]) -> Figure:
    """An empty figure of so many inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained")


def heat_map(curves: Sequence[Curve], path: Path, title: str) -> None:
    """Validation balanced accuracy of every point, also as text if they are few: a panel for each number of epochs."""
    epochs = sorted({curve.settings.epochs for curve in curves})
    rates = sorted({curve.settings.lr for curve in curves}, reverse=True)
    gammas = sorted({curve.settings.gamma for curve in curves})
    cells = np.full((len(epochs), len(rates), len(gammas)), np.nan)
    for s, history in ((curve.settings, curve.history) for curve in curves):
        if len(history) == s.epochs:
            place = epochs.index(s.epochs), rates.index(s.lr), gammas.index(s.gamma)
            cells[place] = history[-1].val_balanced_accuracy
    width, height = 2.2 + 0.95 * len(gammas) * len(epochs), 2.4 + 0.62 * len(rates)
    numbered = cells.size <= NUMBERED_CELLS
    size = (max(width, 6), height) if numbered else (min(width, WIDEST), min(height, TALLEST))
    figure = new_figure(size)
    panels = figure.subplots(1, len(epochs), sharey=True, squeeze=False)[0]
    for panel, count, values in zip(panels, epochs, cells, strict=True):
        image = panel.imshow(values, vmin=0.5, vmax=1.0, cmap="viridis", aspect="auto")
        panel.set(title=f"{count} epochs", xlabel="gamma", facecolor="#e8e8e8")
        panel.set_xticks(*_labels(gammas, numbered))
        panel.set_yticks(*_labels(rates, numbered))
        if numbered:
            _write_cells(panel, values)
    panels[0].set_ylabel("learning rate")
    figure.colorbar(image, ax=list(panels), label="balanced accuracy")
    save(figure, path, f"{title}\nbalanced accuracy on validation speakers")


def _labels(values: Sequence[float], every: bool) -> tuple[list[int], list[str]]:
    """Places and texts along an axis, for every value or for about TICKS of them."""
    places = list(range(0, len(values), 1 if every else -(-len(values) // TICKS)))
    return places, [f"{values[place]:g}" if every else f"{values[place]:.2g}" for place in places]


def _write_cells(panel: Axes, values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> None:
    for (row, column), value in np.ndenumerate(values):
        text = "failed" if np.isnan(value) else f"{value:.3f}"
        colour = "black" if np.isnan(value) or value > 0.8 else "white"
        panel.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)


def learning_curves(curves: Sequence[Curve], path: Path, title: str, step_size: int) -> None:
    """Validation balanced accuracy and loss by epoch; gamma, which line styles tell, acts every `step_size` epochs."""
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    longest: dict[tuple[float, float], Curve] = {}
    for curve in sorted(curves, key=lambda curve: len(curve.history)):
        longest[curve.settings.lr, curve.settings.gamma] = curve
    which, every = "the longest trial of each lr and gamma", len(longest)
    if every > MOST_CURVES:
        which = f"the best {MOST_CURVES} of {every} pairs of lr and gamma, each by its longest trial"
        ends = {key: [0.0, *(epoch.val_balanced_accuracy for epoch in longest[key].history)][-1] for key in longest}
        longest = {key: longest[key] for key in sorted(ends, key=ends.__getitem__)[-MOST_CURVES:]}
    rates, gammas = (sorted({key[index] for key in longest}) for index in (0, 1))
    colours = {lr: COLOURS[index % len(COLOURS)] for index, lr in enumerate(rates)}
    styles = {gamma: STYLES[index % len(STYLES)] for index, gamma in enumerate(gammas)}
    figure = new_figure((12, 4.6))
    left, right = figure.subplots(1, 2)
    for (lr, gamma), curve in sorted(longest.items()):
        steps = [epoch.epoch for epoch in curve.history]
        for panel, key in ((left, "val_balanced_accuracy"), (right, "val_loss")):
            values = [getattr(epoch, key) for epoch in curve.history]
            panel.plot(steps, values, color=colours[lr], linestyle=styles[gamma], marker=".", linewidth=1.5)
    left.set(xlabel="epoch", ylabel="balanced accuracy, validation speakers", ylim=(0.4, 1.01))
    right.set(xlabel="epoch", ylabel="loss, validation speakers", yscale="log")
    right.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    right.yaxis.set_major_formatter("{x:g}")
    right.yaxis.set_minor_formatter(NullFormatter())
    for panel in (left, right):
        panel.grid(alpha=0.3)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(colours) + len(styles) <= MOST_NAMES:
        lines = [Line2D([], [], color=colour, linewidth=4, label=f"lr {lr:g}") for lr, colour in colours.items()]
        lines += [Line2D([], [], color="black", linestyle=style, label=f"gamma {g:g}") for g, style in styles.items()]
        figure.legend(handles=lines, loc="outside right center", frameon=False, handlelength=3)
    save(figure, path, f"{title}\n{which}; gamma acts from epoch {step_size + 1} on")


def confusion(scores: Scores, path: Path, title: str) -> None:
    """Who was taken for whom, on test speakers."""
    counts = np.array(scores.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = new_figure((5, 4.4))
    panel = figure.subplots()
    panel.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    for (row, column), share in np.ndenumerate(shares):
        text, colour = f"{counts[row, column]} clips\n{100 * share:.1f} %", "white" if share > 0.62 else "black"
        panel.text(column, row, text, ha="center", va="center", color=colour, fontsize=12)
    panel.set_xticks(range(len(CLASSES)), CLASSES)
    panel.set_yticks(range(len(CLASSES)), CLASSES)
    panel.set(xlabel="answered", ylabel="recorded as")
    save(figure, path, f"{title}\nchampion on test speakers")


def speakers(scores: Scores, path: Path, title: str) -> None:
    """The champion's accuracy for each test speaker, hardest first; colour tells the recorded gender."""
    people = sorted(scores.per_speaker.items(), key=lambda item: item[1].accuracy)
    figure = new_figure((8, 1.9 + 0.26 * len(people)))
    panel = figure.subplots()
    for index, (_, who) in enumerate(people):
        panel.barh(index, who.accuracy, color=GENDERS[who.gender], height=0.75)
        panel.text(who.accuracy + 0.01, index, f"{who.accuracy:.2f}", va="center", fontsize=8)
    for gender in CLASSES:
        panel.barh([0], [0], color=GENDERS[gender], label=gender)
    panel.set_yticks(range(len(people)), [f"{name}  ({who.clips} clips)" for name, who in people], fontsize=8)
    panel.set(xlabel="accuracy", xlim=(0, 1.08), ylim=(len(people) - 0.4, -0.6))
    panel.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(CLASSES), frameon=False)
    low, high = scores.balanced_accuracy_ci95
    line = f"balanced accuracy {scores.balanced_accuracy:.3f}, 95 % interval over speakers {low:.3f} to {high:.3f}"
    save(figure, path, f"{title}\ntest speakers: {line}")


def reliability(sides: Mapping[str, Bins], path: Path, title: str) -> None:
    """Accuracy against confidence, a line for each named set of clips; a dot is as large as its share of the clips."""
    from matplotlib.lines import Line2D

    figure = new_figure((6.4, 6.6))
    panel = figure.subplots()
    panel.plot([0.5, 1], [0.5, 1], color="#999999", linewidth=1)
    lines = [Line2D([], [], color="#999999", linewidth=1, label="as often right as sure")]
    for index, (name, found) in enumerate(sides.items()):
        colour, style = COLOURS[index % len(COLOURS)], STYLES[index % len(STYLES)]
        panel.plot(found.confidence, found.accuracy, color=colour, linestyle=style, linewidth=1, alpha=0.6)
        panel.scatter(found.confidence, found.accuracy, 12 + 300 * found.share, color=colour, alpha=0.75)
        label = f"{name}: calibration error {found.ece:.3f}"
        lines.append(Line2D([], [], color=colour, linestyle=style, marker="o", label=label))
    lowest = min(0.5, *(float(found.accuracy.min()) for found in sides.values()))
    panel.set(xlabel="confidence, the probability of the answer", ylabel="accuracy", xlim=(0.48, 1.02))
    panel.set_ylim(lowest - 0.03, 1.04)
    panel.grid(alpha=0.3)
    figure.legend(handles=lines, loc="outside lower center", frameon=False, handlelength=4)
    save(figure, path, f"{title}\nchampion: clips in {BINS} bins of confidence, dots as large as their share")


def coverage(curve: Coverage, path: Path, title: str) -> None:
    """Accuracy on test speakers against the share of clips answered, as less sure ones are left without an answer."""
    figure = new_figure((6.4, 4.6))
    panel = figure.subplots()
    panel.plot(curve.share, curve.accuracy, color=COLOURS[0], linewidth=1.5, drawstyle="steps-post")
    for colour, (threshold, share, accuracy) in zip(COLOURS[1:], curve.marks, strict=False):
        said = f"{accuracy:.3f} right, {100 * share:.1f} % answered" if share else "no clip answered"
        label = f"from {threshold:g} on: {said}"
        panel.plot([share], [accuracy], "o", color=colour, markersize=8, label=label, zorder=3)
    panel.set(xlabel="share of clips answered", ylabel="accuracy on those", xlim=(-0.02, 1.02))
    room = 1.02 - min(0.9, float(curve.accuracy.min()))
    panel.set_ylim(1.02 - 1.6 * room, 1 + 0.05 * room)  # below the curve there is space for the legend
    panel.grid(alpha=0.3)
    panel.legend(title="answers only of a confidence", loc="lower left", frameon=False)
    save(figure, path, f"{title}\nchampion on test speakers, when it may stay silent")


def save(figure: Figure, path: Path, title: str) -> None:
    """Write a picture with its title above it, every line of it broken to fit the width."""
    letters = int(figure.get_figwidth() * TITLE_LETTERS)
    figure.suptitle("\n".join(wrapped(line, letters) for line in title.splitlines()), fontsize=11)
    figure.savefig(path, dpi=DPI)


def wrapped(line: str, letters: int) -> str:
    """A line broken into as few as fit in `letters`, all about as long."""
    lines = len(textwrap.wrap(line, letters)) or 1
    return textwrap.fill(line, min(letters, len(line) // lines + 8))

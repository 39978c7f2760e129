"""The picture of an explanation: what in a clip moved the model to its answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from agr.inference import section
from agr.inference.attribution import Attribution, attribute
from agr.inference.bundle import Bundle
from agr.inference.section import Section
from agr.labels import CLASSES
from agr.plots import model_input, panels
from agr.plots.model_input import title
from agr.plots.search import wrapped

MOSTLY = 0.5  # a part with a greater share than this is introduced by "Mostly"
LEAST, MOST_NAMED = 0.005, 3  # parts with a smaller share are not named, and no more parts than this
TITLE_LETTERS, LETTERS = 115, 165  # in a line above and below the drawing
TOGETHER = " %", "\N{NO-BREAK SPACE}%"  # no line ends between them
COLOURS = LinearSegmentedColormap.from_list("contributions", ["#1f66c2", "#ffffff", "#d7301f"])  # cold to warm
MOTION = "motion"  # its middle grey stands still
ABOUT = {
    "vocal tract": "how loud each band of frequencies is",
    "motion": "how fast each band grows louder or softer",
    "pitch": "how exactly the sound repeats",
}


def reading(found: Attribution) -> str:
    """The answer, what spoke for it and what spoke against it, in a few short sentences."""
    each = sorted(found.contributions.items(), key=lambda item: -abs(item[1]))
    named = [(name, share) for name, share in each if abs(share) >= LEAST][:MOST_NAMED]
    spoke, against = ([_named(found, *item) for item in named if (item[1] > 0) == side] for side in (True, False))
    first = "Mostly" if named and named[0][1] > MOSTLY else "First of all"
    words = [f"Answer: {found.answer}, {found.probability:.2f}."]
    if found.log_odds < 0:
        words = [f"Answer to the whole clip: {found.answer}, {found.probability:.2f}."]
        words.append(f"This second alone: {found.other}, {1 / (1 + np.exp(found.log_odds)):.2f}.")
    words.append(f"{first} {', then '.join(spoke)}." if spoke else "Nothing in this second spoke for it.")
    if against:
        words.append(f"Against it: {', then '.join(against)}.")
    if found.section.recipe.keeps_features and not found.baseline.undecided:
        words.append("Another pitch and vocal tract did not change it.")
    return " ".join(words)


def _named(found: Attribution, name: str, share: float) -> str:
    of_hz = f" of about {found.section.pitch:.0f} Hz" if name == "pitch" and found.section.pitch > 0 else ""
    article = "" if name.startswith("coefficient") else "the "
    return f"{article}{name}{of_hz} ({100 * abs(share):.0f} %)"


def footnote(found: Attribution) -> str:
    """What the colours mean and what the image was compared with."""
    absent = "; colour on white marks what is missing there, which counts too" if found.baseline.undecided else ""
    second, base = (1 / (1 + np.exp(-odds)) for odds in (found.log_odds, found.baseline_log_odds))
    between = found.log_odds - found.baseline_log_odds
    return (
        f"Warm cells spoke for {CLASSES[0]}, cold ones for {CLASSES[1]}. Grey is the image that was read{absent}. "
        f"Compared with {found.baseline.description}, which the model takes for {found.answer} with {base:.2f}, "
        f"this second with {second:.2f}: a difference of {between:+.2f} in log odds, of which the cells together "
        f"explain {between + found.gap:+.2f} (integrated gradients)."
    )


def draw(found: Attribution) -> Figure:
    """The image of a clip in grey, warm where it spoke for a woman's voice, cold where it spoke for a man's."""
    shown, each = found.section, greys(found.section)
    voice = bool(shown.recipe.channels)
    shares = [*shown.recipe.parts(found.shares).values()] or [found.shares.sum(axis=2)]  # as each
    figure, (top, *below), (_, *bars) = panels.sheet([0.9, *[panels.ROWS * (1 if voice else 2)] * len(each)])
    panels.waveform(top, shown.span, shown.y, shown.recipe.sample_rate)
    every = np.concatenate([np.abs(own).reshape(-1) for own in shares])
    strongest = max(float(np.percentile(every, 99)), 1e-9)  # and above: full colour
    for panel, bar, grey, own in zip(below, bars, each, shares, strict=True):
        panels.cells(panel, shown.span, grey, cmap="Greys", vmin=0, vmax=2)
        panels.cells(panel, shown.span, tinted(own / (strongest if found.answer == CLASSES[0] else -strongest)))
        panels.colour_bar(bar, ScalarMappable(cmap=COLOURS), ends=[CLASSES[1], "neither", CLASSES[0]])
    _name(below, found)
    panels.in_ms(below[-1])
    words = wrapped(reading(found).replace(*TOGETHER), TITLE_LETTERS)
    figure.suptitle(f"{title(shown)}\n{words}", parse_math=False)
    figure.supxlabel(wrapped(footnote(found).replace(*TOGETHER), LETTERS), x=0.01, ha="left", fontsize=9)
    return figure


def _name(below: Sequence[Axes], found: Attribution) -> None:
    """Write above each channel its share of the contributions and which answer it spoke for."""
    if len(below) == 1:
        panels.titled(below[0], "Mel-frequency cepstra")
        panels.in_coefficients(below[0])
        return
    known = model_input.channels(found.section.recipe)
    for (name, share), channel, panel in zip(found.contributions.items(), known, below, strict=True):
        whom = found.answer if share >= 0 else found.other
        spoke = f"{100 * abs(share):.0f} % of the contributions, for {whom}"
        panels.titled(panel, f"{name.capitalize()}, {ABOUT[name]}: {spoke}")
        panels.in_hz(panel, channel.hz)


def greys(shown: Section) -> list[NDArray[np.float64]]:
    """How strong each cell is, 0..1: (rows, 98) for each part of the image, or of the whole without parts."""
    values = shown.image / 255  # image_shape
    parts = shown.recipe.parts(values)
    each = {name: np.abs(2 * part - 1) if name == MOTION else part for name, part in parts.items()}
    return [*each.values()] or [np.asarray(values.mean(axis=2))]


def tinted(strength: NDArray[np.float64]) -> NDArray[np.float64]:
    """Colours to lay over the grey: strength, (rows, 98), -1 male, 1 female; returns RGBA in 0..1, (rows, 98, 4)."""
    bounded = np.clip(strength, -1, 1)
    return np.concatenate([COLOURS((bounded > 0) * 1.0)[..., :3], np.abs(bounded)[..., None] ** 0.7], axis=2)


def explain_clip(clip: str | Path, model: Bundle, png: Path, channel: int | None = None) -> Attribution:
    """Explain the answer to one clip, `-` from standard input, and draw it. Raises: AudioError; OSError."""
    found = attribute(section.read(str(clip), model.info.recipe, channel), model)
    panels.save(draw(found), png)
    return found

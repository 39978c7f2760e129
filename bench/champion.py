"""Draw how the champion that comes with AGR answers people it never heard: by pitch, and by how sure it is.

    python bench/champion.py --out docs --data hindi_digits baved audiomnist_az fsdd

SOURCES are corpora that it was not trained on; a speaker or a recording it knows is an error. Two pictures are written,
champion-pitch.png and champion-calibration.png, and the figures behind them are printed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from agr.common.places import SHIPPED, workspace
from agr.data import combine, preparation
from agr.data.image_set import ImageSet
from agr.errors import CorpusError
from agr.inference import bundle, predictor
from agr.labels import CLASSES
from agr.metrics import calibration
from agr.plots import panels
from agr.plots import search as plots
from agr.recipes import voice_features

EDGES = np.array([80, 100, 120, 140, 160, 180, 200, 230, 260, 300, 400])  # Hz
FEWEST = 10  # clips of a point
SURE = 0.9  # a probability
COLOURS = {"female": "#b8336a", "male": "#2a6f97"}


def by_pitch(hz: NDArray[np.float64], right: NDArray[np.bool_]) -> list[tuple[float, float, int]]:
    """The middle of each range of pitches in Hz, the share of right answers there, and the clips."""
    place = np.digitize(hz, EDGES)
    found = []
    for index in range(1, len(EDGES)):
        own = place == index
        if own.sum() >= FEWEST:
            found.append((float(np.sqrt(EDGES[index - 1] * EDGES[index])), float(right[own].mean()), int(own.sum())))
    return found


def draw_pitch(curves: dict[str, list[tuple[float, float, int]]], title: str) -> Figure:
    """Accuracy against pitch, for women and men."""
    figure = Figure(figsize=(8, 4.5), dpi=panels.DPI, layout="constrained")
    axes = figure.add_subplot()
    for gender, points in curves.items():
        hz, share, clips = zip(*points, strict=True)
        axes.plot(hz, share, color=COLOURS[gender], marker="o", label={"female": "women", "male": "men"}[gender])
        for each in zip(hz, share, clips, strict=True):
            axes.annotate(str(each[2]), each[:2], textcoords="offset points", xytext=(0, -14), ha="center", fontsize=8)
    axes.set(xscale="log", ylim=(0, 1.05), xlabel="median pitch of the clip, Hz", ylabel="share of right answers")
    axes.set_xticks(EDGES, [str(edge) for edge in EDGES])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(loc="lower center")
    axes.set_title(f"{title}\nnumbers: clips", fontsize=10)
    return figure


def answers(data: ImageSet, loaded: bundle.Bundle, known: bundle.Seen) -> NDArray[np.float64]:
    """Probabilities of all clips, (n, 2). Raises: CorpusError for a speaker that the model knows."""
    if met := known.met(data.speakers.tolist(), data.recordings.tolist()):
        found = f"{len(met)} speakers or recordings trained the champion"
        raise CorpusError(f"{data.name}: {found}; expected corpora it never met")
    return predictor.softmax(predictor.logits_of_clips(data, np.arange(len(data)), loaded))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python bench/champion.py", description="Draw how the champion answers.")
    parser.add_argument("--data", nargs="+", required=True, metavar="SOURCE", help="corpora it was not trained on")
    parser.add_argument("--out", type=Path, default=Path(), help="folder of the pictures (default: this one)")
    options = parser.parse_args(arguments)
    loaded, known = bundle.load(SHIPPED), bundle.read_seen(SHIPPED)
    sets = [preparation.ensure(source, workspace(), loaded.info.recipe.name, 2) for source in options.data]
    data = combine.join(sets)
    assert data.features is not None
    probabilities = answers(data, loaded, known)
    right = probabilities.argmax(axis=1) == data.labels
    every = np.array_split(np.arange(len(data)), len(data) // 256 + 1)
    hz = np.concatenate([voice_features.pitch(data.features[rows]) for rows in every])
    curves = {name: by_pitch(hz[own], right[own]) for k, name in enumerate(CLASSES) for own in [data.labels == k]}
    people = len(np.unique(data.speakers))
    title = f"The champion on {len(data):,} clips of {people} people it never heard"
    panels.save(draw_pitch(curves, title), options.out / "champion-pitch.png")
    parts = _parts(data)
    sides = {name: calibration.bins(probabilities[own], data.labels[own]) for name, own in parts.items()}
    plots.reliability(sides, options.out / "champion-calibration.png", title)
    for name, own in parts.items():
        each = [own & (data.labels == k) for k in range(len(CLASSES))]
        recall = ", ".join(f"{c} {right[rows].mean():.3f}" for c, rows in zip(CLASSES, each, strict=True) if rows.any())
        sure = own & (probabilities.max(axis=1) >= SURE)
        kept = f"from {SURE} on {sure.sum() / own.sum():.2f} answered, {right[sure].mean():.3f} right"
        print(f"{name:16} {recall}; ece {sides[name].ece:.3f}; {kept}")
    for gender, points in curves.items():
        print(gender, " ".join(f"{middle:.0f} Hz {share:.2f} ({clips})" for middle, share, clips in points))
    return 0


def _parts(data: ImageSet) -> dict[str, NDArray[np.bool_]]:
    """Which clips are of each corpus."""
    owner = combine.corpora(data)
    return {name: owner == name for name in np.unique(owner).tolist()}


if __name__ == "__main__":
    from agr.common.cli import run

    run(main)

"""Whether the images of two versions of a recipe are the same up to rounding, to AGR's champion too.

    python bench/rounding.py FOLDER [FOLDER ...] [--clips 250]

`voice` 3 and `voice112` 2 measure periodicity with spectra of half the length of those before. Of clips in each folder
of recordings it prints how many values of the voice features agree, and how far the champion's answers differ. Exit
status 0 if no answer differs by more than MOST, and none is another one.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from agr.audio import read as audio
from agr.common.cli import run
from agr.common.places import SHIPPED
from agr.common.progress import terminal_progress
from agr.errors import AudioError
from agr.inference import bundle, predictor
from agr.recipes import periodicity, voice_features

MOST = 0.01  # of a probability
BEFORE = 4  # what PADDING was


@contextmanager
def padding(times: int) -> Iterator[None]:
    """Spectra of so many times a frame's length, instead of those of this version."""
    now = periodicity.PADDING
    periodicity.PADDING = times
    periodicity._autocorrelation_matrices.cache_clear()
    try:
        yield
    finally:
        periodicity.PADDING = now
        periodicity._autocorrelation_matrices.cache_clear()


def compare(folder: Path, count: int, loaded: bundle.Bundle) -> tuple[int, list[float]]:
    """The number of clips; of values, the shares that agree and that differ by 1; of women's probabilities, the
    greatest difference and how many cross 0.5."""
    recipe, clips = loaded.info.recipe, list[np.ndarray]()
    paths = audio.find(folder)
    random.Random(0).shuffle(paths)
    with terminal_progress(f"reading {folder.name}", min(count, len(paths)), unit="clips") as advance:
        for path in paths[:count]:
            try:
                clips.append(audio.load(path, recipe.sample_rate))
            except AudioError as error:
                print(error)
            advance(1)
    kept, answers = [], []
    for times in (BEFORE, periodicity.PADDING):
        with padding(times):
            kept.append([voice_features.extract(y, recipe).astype(np.int16) for y in clips])
            answers.append(np.array([predictor.predict_proba([y], loaded)[0, 0] for y in clips]))
    apart = np.concatenate([np.abs(a - b).ravel() for a, b in zip(*kept, strict=True)])
    first, second = answers
    crossed = float(((first > 0.5) != (second > 0.5)).sum())
    return len(clips), [float((apart == 0).mean()), float((apart == 1).mean()), abs(first - second).max(), crossed]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python bench/rounding.py", description="Compare versions of a recipe.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--clips", type=int, default=250, help="of each folder (default: 250)")
    options = parser.parse_args(arguments)
    loaded, held = bundle.load(SHIPPED), True
    for folder in options.folders:
        count, (same, by_one, most, crossed) = compare(folder, options.clips, loaded)
        about = f"{same:.2%} of values agree, {by_one:.2%} differ by 1 of 255"
        print(f"{folder.name}: {count} clips, {about}; answers differ by {most:.4f} at most, {crossed:.0f} are others")
        held &= most <= MOST and not crossed
    return int(not held)


if __name__ == "__main__":
    run(main)

"""The second of a clip that is shown or explained, and where it lies in the clip."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agr.audio import read as audio
from agr.recipes.base import FRAMES, Recipe

STDIN = "-"


@dataclass(frozen=True)
class Section:
    """The part of a clip that its image shows."""

    name: str  # of the clip, for titles
    y: NDArray[np.float32]  # the whole clip, (n,), at the recipe's rate
    recipe: Recipe
    start: float  # of the image in the clip, in seconds; negative where a short clip is padded
    stored: NDArray[np.uint8]  # the voice features, or the image, of that second
    image: NDArray[np.uint8]  # what the model reads, image_shape

    @property
    def seconds(self) -> float:
        """Length of the whole clip."""
        return len(self.y) / self.recipe.sample_rate

    @property
    def span(self) -> tuple[float, float]:
        """The left edge of the first frame and the right edge of the last, in milliseconds of the clip."""
        hop = 1000 * self.recipe.hop_seconds
        left = 1000 * (self.start + self.recipe.first_frame) - hop / 2
        return left, left + FRAMES * hop

    @property
    def pitch(self) -> float:
        """Median pitch in Hz; NaN if too little is voiced or the recipe does not measure it."""
        return self.recipe.pitch(self.stored)

    @property
    def place(self) -> str:
        """Which part of the clip it is, for titles."""
        left, right = (min(max(ms / 1000, 0.0), self.seconds) for ms in self.span)
        whole = right - left > self.seconds - 0.03
        return f"all of its {self.seconds:.2f} s" if whole else f"{left:.2f} to {right:.2f} s of {self.seconds:.2f} s"


def read(clip: str, recipe: Recipe, channel: int | None = None) -> Section:
    """Decode a clip, `-` from standard input, and make its image. Raises: AudioError if it cannot be read."""
    source = sys.stdin.buffer.read() if clip == STDIN else Path(clip)
    name = "standard input" if clip == STDIN else Path(clip).name
    return section(audio.read(source, recipe.sample_rate, channel=channel).samples, recipe, name)


def section(y: NDArray[np.float32], recipe: Recipe, name: str) -> Section:
    """The second of a clip that its image shows; y: (n,), float32, at the recipe's rate."""
    start, stored = recipe.place(y)
    return Section(name, y, recipe, start, stored, recipe.images(stored[None])[0])

"""What every recipe has; a recipe turns a clip into the image that the model reads, 98 frames x 12 rows x RGB.

    data = recipe.encode(y)                           # a clip's file; y: mono float32 at recipe.sample_rate
    stored = recipe.decode(data)                      # recipe.stored_shape, uint8
    images = recipe.images(stored[None])              # (1, 12, 98, 3), uint8

A recipe is a frozen value with a name and a version; it travels with every model trained on its images. The recipes
themselves are `agr.recipes.voice` and `agr.recipes.mfcc`; `agr.recipes.encode` lists them by name.
"""

from __future__ import annotations

import functools
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

FRAMES, COEFFICIENTS, CHANNELS = 98, 12, 3
IMAGE_SHAPE = (COEFFICIENTS, FRAMES, CHANNELS)  # rows, columns, RGB: the image is 98 wide and 12 high
Bytes = NDArray[np.uint8]
Clip = NDArray[np.float32]  # mono, (n,)
Weights = NDArray[np.float64]


class Placed(NamedTuple):
    """The second of a clip that its image shows.

    Attributes:
        start: Where that second begins in the clip, in seconds; negative where a short clip is padded.
        stored: What is stored of it, `stored_shape`, uint8.
    """

    start: float
    stored: Bytes


@dataclass(frozen=True, kw_only=True)
class Recipe(ABC):
    """A way to turn clips into images. Only its fields, not the class variables, are in the digest and in JSON.

    Attributes:
        name: What `--recipe` calls it.
        version: Goes up whenever the same settings would give other images.
        sample_rate: Of the clips, in Hz.
        hop_seconds: Between the starts of two frames.
        suffix: How the names of its files end.
        stored_shape: The shape of what is stored of a clip.
        keeps_features: Whether that is features, from which images are drawn (and varied in training), rather than
            the image itself.
        channels: What red, green and blue carry; empty where the three together are the colour of one quantity.
        chosen_for: What the second that is shown of a longer clip has most of.
        silence: The colour of an image of no sound, RGB.
    """

    suffix: ClassVar[str]
    stored_shape: ClassVar[tuple[int, ...]]
    keeps_features: ClassVar[bool] = False
    channels: ClassVar[tuple[str, ...]] = ()
    chosen_for: ClassVar[str]
    silence: ClassVar[tuple[int, int, int]]

    name: str
    version: int
    sample_rate: int
    hop_seconds: float = 0.010

    @property
    def hop_length(self) -> int:
        """Samples between the starts of two frames."""
        return round(self.hop_seconds * self.sample_rate)

    @property
    def first_frame(self) -> float:
        """Seconds from the start of the placed second to the middle of its first frame."""
        return 0.0

    @functools.cached_property
    def digest(self) -> str:
        """Sixteen hex digits that name the recipe's settings."""
        values = asdict(self) | {"name": self.name.replace("mfcc", "mfc")}  # as earlier versions named it
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    @abstractmethod
    def encode(self, y: Clip) -> bytes:
        """The file of one clip of any length."""

    @abstractmethod
    def decode(self, data: bytes, name: str = "image") -> Bytes:
        """What `encode` put into a file.

        Args:
            data: The file's content.
            name: What an error calls it.

        Returns:
            An array of `stored_shape`, uint8.

        Raises:
            RecipeError: The data are anything else.
        """

    @abstractmethod
    def images(self, stored: Bytes) -> Bytes:
        """What the model reads of stored clips: (n, *stored_shape) to (n, *IMAGE_SHAPE), uint8."""

    @abstractmethod
    def place(self, y: Clip) -> Placed:
        """The second of a clip that `encode` stores, and where it begins."""

    @abstractmethod
    def windows(self, clips: Sequence[Clip]) -> Iterator[tuple[Bytes, Weights]]:
        """Cut clips of any length into windows that overlap by half.

        Yields:
            For each clip, in order, its images, (n, *IMAGE_SHAPE) uint8, and how much each counts, (n,); the weights
            sum to 1.
        """

    def pitch(self, stored: Bytes) -> float:
        """The median pitch of a stored clip in Hz; NaN where too little is voiced, or where it is not measured."""
        return float("nan")


def offset(whole: NDArray[np.generic], part: NDArray[np.generic]) -> int:
    """Where a part first begins in the whole, both (..., n), along the last axis.

    Returns:
        The index; negative where the whole is shorter and lies inside the part.

    Raises:
        ValueError: The part does not occur.
    """
    if part.shape[-1] > whole.shape[-1]:
        return -offset(part, whole)
    starts = whole[..., : whole.shape[-1] - part.shape[-1] + 1]  # (..., places)
    alike = (starts == part[..., :1]).reshape(-1, starts.shape[-1]).all(axis=0)
    for start in np.flatnonzero(alike):
        if np.array_equal(whole[..., start : start + part.shape[-1]], part):
            return int(start)
    raise ValueError("the part does not occur in the whole")

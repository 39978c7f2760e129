"""The interface of all recipes; a recipe turns a clip into the image that the model reads, 98 frames x 12 rows x RGB.

    data = recipe.encode(y)                           # a clip's file; y: mono float32 at recipe.sample_rate
    stored = recipe.decode(data)                      # recipe.stored_shape, uint8
    images = recipe.images(stored[None])              # (1, 12, 98, 3), uint8

The recipes themselves are in `agr.recipes.voice` and `agr.recipes.mfcc`; `agr.recipes.encode` lists them by name.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from agr.errors import RecipeError

FRAMES, COEFFICIENTS, CHANNELS = 98, 12, 3
IMAGE_SHAPE = (COEFFICIENTS, FRAMES, CHANNELS)  # rows, columns, RGB: the image is 98 wide and 12 high
Bytes = NDArray[np.uint8]
Clip = NDArray[np.float32]  # mono, (n,)
Weights = NDArray[np.float64]


class Placed(NamedTuple):
    """The second of a clip that its image shows."""

    start: float  # where it begins in the clip, in seconds; negative where a short clip is padded
    stored: Bytes  # what is stored of it, (*stored_shape)


@dataclass(frozen=True, kw_only=True)
class Recipe(ABC):
    """A way to turn clips into images; its fields, not the class variables, are in the digest and in JSON."""

    kind: ClassVar[str]  # JPEG or PNG: the file that is stored of a clip
    suffix: ClassVar[str]  # its extension
    stored_shape: ClassVar[tuple[int, ...]]  # shape of what is in it; -1 frames stand for any number of them
    image_shape: ClassVar[tuple[int, int, int]] = IMAGE_SHAPE  # rows, frames and channels of what the model reads
    keeps_features: ClassVar[bool] = False  # whether features are stored, which training can augment, or images
    channels: ClassVar[tuple[str, ...]] = ()  # what red, green and blue stand for; empty where they colour one quantity
    chosen_for: ClassVar[str]  # what the shown second of a longer clip has most of
    silence: ClassVar[tuple[int, ...]]  # the colour of silence, a byte for each channel

    name: str
    version: int  # is raised whenever the same settings would give other images
    sample_rate: int  # of the clips, in Hz
    hop_seconds: float = 0.010  # between the starts of two frames

    @property
    def hop_length(self) -> int:
        """Samples between the starts of two frames."""
        return round(self.hop_seconds * self.sample_rate)

    @property
    def first_frame(self) -> float:
        """Seconds from the start of the shown second to the middle of its first frame."""
        return 0.0

    @functools.cached_property
    def digest(self) -> str:
        """Sixteen hex digits that identify the settings; models and prepared folders carry them."""
        values = asdict(self) | {"name": self.name.replace("mfcc", "mfc")}  # the name in earlier versions
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    @abstractmethod
    def encode(self, y: Clip) -> bytes:
        """What is stored of one clip of any length, as an image file."""

    def store(self, y: Clip) -> Bytes:
        """What is stored of one clip of any length, as an array: `stored_shape`."""
        return self.decode(self.encode(y))

    def write(self, pixels: Bytes, **options: int) -> bytes:
        """A file of this recipe's kind, of (height, width) grey or (height, width, 3) RGB pixels."""
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format=self.kind, **options)
        return buffer.getvalue()

    def decode(self, data: bytes, name: str = "image") -> Bytes:
        """Read a file that `encode` made: `stored_shape`, uint8. Raises RecipeError, naming `name`, for any other."""
        rows, columns = self.stored_shape[:2]
        width = "N" if columns < 0 else columns
        expected = f"{width}x{rows} {'RGB' if len(self.stored_shape) == 3 else 'L'}"
        try:
            with Image.open(io.BytesIO(data), formats=[self.kind]) as image:
                found = f"{width if columns < 0 else image.width}x{image.height} {image.mode}"
                if found != expected:
                    raise RecipeError(f"{name}: {found}; expected a {self.kind} of {expected}")
                return np.asarray(image)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise RecipeError(f"{name}: no whole {self.kind}; expected a {self.kind} of {expected}") from error

    @abstractmethod
    def images(self, stored: Bytes) -> Bytes:
        """The model's input for windows: (n, rows, FRAMES), as stored, to (n, *image_shape), uint8."""

    @abstractmethod
    def place(self, y: Clip) -> Placed:
        """The second of a clip that `encode` stores, and where it begins."""

    @abstractmethod
    def windows(self, clips: Sequence[Clip]) -> Iterator[tuple[Bytes, Weights]]:
        """Cut clips into windows that overlap by half; of each clip, images, (n, *image_shape), and weights, (n,)."""

    def parts(self, image: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """An image, or values of its shape, *image_shape, by what its cells stand for: (rows, frames) each."""
        return {name: image[..., index] for index, name in enumerate(self.channels)}

    def pitch(self, stored: Bytes) -> float:
        """The median pitch of a stored clip in Hz; NaN where it is unknown."""
        return float("nan")


def offset(whole: NDArray[np.generic], part: NDArray[np.generic]) -> int:
    """Where a part first begins in the whole, both (..., n), along the last axis; negative where the part is longer.

    Raises ValueError if neither contains the other.
    """
    if part.shape[-1] > whole.shape[-1]:
        return -offset(part, whole)
    starts = whole[..., : whole.shape[-1] - part.shape[-1] + 1]  # (..., places)
    same = (starts == part[..., :1]).reshape(-1, starts.shape[-1]).all(axis=0)
    for start in np.flatnonzero(same):
        if np.array_equal(whole[..., start : start + part.shape[-1]], part):
            return int(start)
    raise ValueError("the part does not occur in the whole")


def triangles(edges: NDArray[np.float64], points: NDArray[Any]) -> NDArray[np.float64]:
    """Triangles over neighbouring edges, (n + 2,), evaluated at points, (m,): (n, m); each is 1 at its middle edge."""
    rising = (points - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - points) / np.diff(edges)[1:, None]
    return np.asarray(np.maximum(0.0, np.minimum(rising, falling)))


@functools.cache
def hann(length: int) -> NDArray[np.float64]:
    """A periodic Hann window, (length,)."""
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length))

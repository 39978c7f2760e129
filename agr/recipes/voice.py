"""The recipe `voice`: envelope, motion and periodicity on fixed scales, at 8 kHz.

    data = VOICE.encode(y)                            # a PNG of the voice features; y: mono float32 at 8 kHz

`agr.recipes.voice_features` measures the features that are stored, `agr.recipes.voice_image` draws the image that the model reads from them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from agr.errors import RecipeError
from agr.recipes import voice_features
from agr.recipes.base import FRAMES, IMAGE_SHAPE, Bytes, Clip, Placed, Recipe, Weights, offset

AT_ONCE = 256  # images drawn in one go: about 60 MB


@dataclass(frozen=True, kw_only=True)
class VoiceRecipe(Recipe):
    """Voice features; its other settings are the constants of `agr.recipes.voice_features` and `agr.recipes.voice_image`."""

    suffix: ClassVar[str] = ".png"
    stored_shape: ClassVar[tuple[int, ...]] = (voice_features.ROWS, FRAMES)
    keeps_features: ClassVar[bool] = True
    channels: ClassVar[tuple[str, ...]] = ("vocal tract", "motion", "pitch")
    chosen_for: ClassVar[str] = "speech"
    silence: ClassVar[tuple[int, int, int]] = (0, 128, 0)  # nothing loud, nothing moving, nothing periodic

    sample_rate: int = 8_000

    def encode(self, y: Clip) -> bytes:
        """A lossless PNG, 98 x 112 in grey, of the second with most speech."""
        buffer = io.BytesIO()
        stored = voice_features.best_window(voice_features.of_clip(y, self))
        Image.fromarray(stored).save(buffer, format="PNG", compress_level=3)
        return buffer.getvalue()

    def decode(self, data: bytes, name: str = "image") -> Bytes:
        """The features in a PNG: (ROWS, FRAMES), uint8. Raises RecipeError for anything else."""
        size = f"{FRAMES}x{voice_features.ROWS} L"
        try:
            with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
                found = f"{image.width}x{image.height} {image.mode}"
                if found != size:
                    raise RecipeError(f"{name}: {found}; expected a PNG of {size}")
                return np.asarray(image)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise RecipeError(f"{name}: no whole PNG; expected a PNG of {size}") from error

    def images(self, stored: Bytes) -> Bytes:
        """Draw features, (n, ROWS, FRAMES), AT_ONCE at a time: (n, *IMAGE_SHAPE), uint8."""
        if not len(stored):
            return np.zeros((0, *IMAGE_SHAPE), dtype=np.uint8)
        import torch

        from agr.recipes import voice_image

        parts = (np.array(stored[at : at + AT_ONCE]) for at in range(0, len(stored), AT_ONCE))
        return np.concatenate([voice_image.draw(torch.from_numpy(part)).numpy() for part in parts])

    def place(self, y: Clip) -> Placed:
        """The second with most speech."""
        whole = voice_features.of_clip(y, self)
        stored = voice_features.best_window(whole)
        return Placed(offset(whole, stored) * self.hop_seconds, stored)

    def windows(self, clips: Sequence[Clip]) -> Iterator[tuple[Bytes, Weights]]:
        """Windows that count as much as they hold of the clip's voiced speech; all alike where there is none."""
        for y in clips:
            cut = voice_features.windows(voice_features.of_clip(y, self))
            voiced = voice_features.voicing(cut).sum(axis=1)  # (n,)
            total = float(voiced.sum())
            yield self.images(cut), voiced / total if total > 0 else np.full(len(cut), 1 / len(cut))

    def pitch(self, stored: Bytes) -> float:
        """The median pitch in Hz; NaN where too little is voiced."""
        return float(voice_features.pitch(stored[None])[0])


VOICE = VoiceRecipe(name="voice", version=2)

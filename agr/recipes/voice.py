"""The recipe `voice`: envelope, motion and periodicity on fixed scales, at 8 kHz.

    data = VOICE.encode(y)                            # a PNG of the voice features; y: mono float32 at 8 kHz

The features are stored (`agr.recipes.voice_features`); the images are drawn from them (`agr.recipes.voice_image`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from agr.recipes import voice_features
from agr.recipes.base import FRAMES, IMAGE_SHAPE, Bytes, Clip, Placed, Recipe, Weights, offset

BATCH = 256  # images drawn at once, in about 60 MB


@dataclass(frozen=True, kw_only=True)
class VoiceRecipe(Recipe):
    """Voice features; constants of `voice_features` and `voice_image` are its other settings."""

    kind, suffix = "PNG", ".png"
    stored_shape = (voice_features.ROWS, FRAMES)
    keeps_features = True
    channels = ("vocal tract", "motion", "pitch")
    chosen_for = "speech"
    silence = (0, 128, 0)  # nothing loud, nothing moving, nothing periodic

    sample_rate: int = 8_000

    def encode(self, y: Clip) -> bytes:
        """A lossless grey PNG, 98 x 112 pixels, of the second with most speech."""
        return self.write(voice_features.best_window(voice_features.extract(y, self)), compress_level=3)

    def images(self, stored: Bytes) -> Bytes:
        """Draw features, (n, ROWS, FRAMES), BATCH at a time: (n, *IMAGE_SHAPE), uint8."""
        if not len(stored):
            return np.zeros((0, *IMAGE_SHAPE), dtype=np.uint8)
        import torch

        from agr.recipes import voice_image

        parts = (np.array(stored[at : at + BATCH]) for at in range(0, len(stored), BATCH))
        return np.concatenate([voice_image.draw(torch.from_numpy(part)).numpy() for part in parts])

    def place(self, y: Clip) -> Placed:
        """The second with most speech."""
        whole = voice_features.extract(y, self)
        stored = voice_features.best_window(whole)
        return Placed(offset(whole, stored) * self.hop_seconds, stored)

    def windows(self, clips: Sequence[Clip]) -> Iterator[tuple[Bytes, Weights]]:
        """Windows weighted by the voiced speech in them; of equal weight where there is none."""
        for y in clips:
            cut = voice_features.windows(voice_features.extract(y, self))
            voiced = voice_features.voicing(cut).sum(axis=1)  # (n,)
            total = float(voiced.sum())
            yield self.images(cut), voiced / total if total > 0 else np.full(len(cut), 1 / len(cut))

    def pitch(self, stored: Bytes) -> float:
        """The median pitch in Hz; NaN where too little is voiced."""
        return float(voice_features.pitch(stored[None])[0])


VOICE = VoiceRecipe(name="voice", version=2)

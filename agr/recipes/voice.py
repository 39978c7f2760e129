"""The recipes `voice` and `voice112`: envelope and periodicity on fixed scales, at 8 kHz.

    data = VOICE.encode(y)                            # a PNG of the voice features; y: mono float32 at 8 kHz

The features are stored (`agr.recipes.voice_features`); the images are drawn from them (`agr.recipes.voice_image`).
`voice` draws them as coarsely as the study, 12 rows of three channels, and stores one second of a clip. `voice112`
keeps all 112 rows and stores up to LONGEST_FRAMES of a clip; training reads another second of it in every epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from agr.recipes import voice_features
from agr.recipes.base import FRAMES, Bytes, Clip, Placed, Recipe, Weights, offset

if TYPE_CHECKING:  # torch takes long to import
    from torch import Tensor

    from agr.recipes.voice_image import Change

BATCH = 256  # images drawn at once, in about 60 MB
LONGEST_FRAMES = 600  # of a clip that `voice112` stores: the six seconds with most speech


@dataclass(frozen=True, kw_only=True)
class VoiceRecipe(Recipe):
    """Voice features; constants of `voice_features` and `voice_image` are its other settings."""

    kind, suffix = "PNG", ".png"
    stored_shape: ClassVar[tuple[int, ...]] = (voice_features.ROWS, FRAMES)
    keeps_features = True
    channels: ClassVar[tuple[str, ...]] = ("vocal tract", "motion", "pitch")
    chosen_for = "speech"
    silence: ClassVar[tuple[int, ...]] = (0, 128, 0)  # nothing loud, nothing moving, nothing periodic

    sample_rate: int = 8_000

    longest: ClassVar[int] = FRAMES  # of a clip that is stored

    def store(self, y: Clip) -> Bytes:
        """The second with most speech, or `longest` frames."""
        return voice_features.best_window(voice_features.extract(y, self), self.longest)

    def encode(self, y: Clip) -> bytes:
        """A lossless grey PNG, 112 pixels high, of what is stored."""
        return self.write(self.store(y), compress_level=3)

    def images(self, stored: Bytes) -> Bytes:
        """Draw features, (n, ROWS, FRAMES), BATCH at a time: (n, *image_shape), uint8."""
        if not len(stored):
            return np.zeros((0, *self.image_shape), dtype=np.uint8)
        import torch

        parts = (torch.from_numpy(np.array(stored[at : at + BATCH])) for at in range(0, len(stored), BATCH))
        return np.concatenate([self.draw(part).numpy() for part in parts])

    def draw(self, features: Tensor, change: Change | None = None) -> Tensor:
        """Draw features, (n, ROWS, FRAMES) uint8, with a change if one is given: (n, *image_shape) uint8."""
        from agr.recipes import voice_image

        return voice_image.draw(features, change)

    def place(self, y: Clip) -> Placed:
        """The second with most speech."""
        whole = voice_features.extract(y, self)
        stored = voice_features.best_window(whole)
        return Placed(offset(whole, stored) * self.hop_seconds, stored)

    def windows(self, clips: Sequence[Clip]) -> Iterator[tuple[Bytes, Weights]]:
        """Windows weighted by the voiced speech in them; of equal weight where there is none."""
        return (self.cut(voice_features.extract(y, self)) for y in clips)

    def cut(self, features: Bytes) -> tuple[Bytes, Weights]:
        """The windows of a clip's features, (ROWS, frames): images, (n, *image_shape), and weights, (n,)."""
        cut, weights = voice_features.weighted_windows(features)
        return self.images(cut), weights

    def pitch(self, stored: Bytes) -> float:
        """The median pitch in Hz; NaN where too little is voiced."""
        return float(voice_features.pitch(stored[None])[0])


@dataclass(frozen=True, kw_only=True)
class FineVoiceRecipe(VoiceRecipe):
    """All rows of the voice features, of clips of any length."""

    stored_shape = (voice_features.ROWS, -1)
    image_shape = (voice_features.ROWS, FRAMES, 1)
    channels = ("vocal tract", "pitch")
    silence = (0,)
    longest = LONGEST_FRAMES

    def draw(self, features: Tensor, change: Change | None = None) -> Tensor:
        """Draw features, (n, ROWS, FRAMES) uint8, with a change if one is given: (n, ROWS, FRAMES, 1) uint8."""
        from agr.recipes import voice_image

        return voice_image.draw_rows(features, change)

    def parts(self, image: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """The mel bands and the lags of an image, or of values of its shape: (BANDS, FRAMES) and (LAGS, FRAMES)."""
        rows = np.split(image[..., 0], [voice_features.BANDS])
        return dict(zip(self.channels, rows, strict=True))


VOICE = VoiceRecipe(name="voice", version=3)
VOICE112 = FineVoiceRecipe(name="voice112", version=2)

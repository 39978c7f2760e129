"""Images by any recipe: one face for `prepare`, training and prediction.

data = encode(y, recipe)                          # a clip's file: JPEG or PNG, as the recipe has it
stored = decode(data, recipe)                     # uint8; of `mfc` the picture, of `voice` its evidence
images = pictures(stored[None], recipe)           # (1, 12, 98, 3), what the model reads
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from agr import evidence, mfc, speech
from agr.audio import resample
from agr.errors import RecipeError
from agr.recipe import FRAMES, IMAGE_SHAPE, VOICE, MfcRecipe, Recipe, VoiceRecipe

Bytes = NDArray[np.uint8]
AT_ONCE, MFC_AT_ONCE = 256, 32  # pictures drawn in one go: some 60 MB


@dataclass(frozen=True)
class Windows:
    """A clip cut into windows: images, (n, *IMAGE_SHAPE) uint8, and the share of the clip's speech in each, (n,).

    speech: seconds of voiced speech in the whole clip, 0.0 where it does not sound like speech.
    """

    images: Bytes
    weights: NDArray[np.float64]
    speech: float


def suffix(recipe: Recipe) -> str:
    """How the names of its files end."""
    return ".png" if isinstance(recipe, VoiceRecipe) else ".jpg"


def stored_shape(recipe: Recipe) -> tuple[int, ...]:
    """The shape of what is kept of a clip."""
    return (evidence.ROWS, FRAMES) if isinstance(recipe, VoiceRecipe) else IMAGE_SHAPE


def encode(y: NDArray[np.float32], recipe: Recipe) -> bytes:
    """The file of one clip, of any length; y: (n,), mono, at the recipe's rate."""
    if isinstance(recipe, VoiceRecipe):
        return _to_png(evidence.best_window(evidence.of_clip(y, recipe)))
    assert isinstance(recipe, MfcRecipe)
    return mfc.jpegs(mfc.place(y, recipe)[None], recipe)[0]


def decode(data: bytes, recipe: Recipe, name: str = "image") -> Bytes:
    """What `encode` put into a file: stored_shape(recipe), uint8. Raises: RecipeError for anything else."""
    return _from_png(data, name) if isinstance(recipe, VoiceRecipe) else mfc.from_jpeg(data, name)


def pictures(stored: Bytes, recipe: Recipe) -> Bytes:
    """What the model reads of clips: (n, *stored_shape) to (n, *IMAGE_SHAPE), uint8."""
    if not isinstance(recipe, VoiceRecipe) or not len(stored):
        return stored.reshape(-1, *IMAGE_SHAPE)
    import torch

    from agr import picture

    starts = range(0, len(stored), AT_ONCE)
    drawn = (picture.draw(torch.from_numpy(np.array(stored[at : at + AT_ONCE]))).numpy() for at in starts)
    return np.concatenate(list(drawn))


def of_clips(clips: Sequence[NDArray[np.float32]], recipe: Recipe) -> Iterator[Windows]:
    """Clips of any length in windows, in order."""
    if isinstance(recipe, VoiceRecipe):
        for y in clips:
            found = evidence.of_clip(y, recipe)
            cut = evidence.windows(found)
            shares = _shares(evidence.voicing(cut).sum(axis=1))
            yield Windows(pictures(cut, recipe), shares, speech.heard(y, recipe))
        return
    assert isinstance(recipe, MfcRecipe)
    cuts = [mfc.windows(y, recipe) for y in clips]
    every = [window for cut in cuts for window in cut]
    drawn = [mfc.images(every[at : at + MFC_AT_ONCE], recipe) for at in range(0, len(every), MFC_AT_ONCE)]
    ends = np.cumsum([len(cut) for cut in cuts])[:-1]
    for y, images in zip(clips, np.split(np.concatenate(drawn), ends), strict=True):
        low = resample(y, recipe.sample_rate, VOICE.sample_rate)
        yield Windows(images, np.full(len(images), 1 / len(images)), speech.heard(low, VOICE))


def _shares(amounts: NDArray[np.float64]) -> NDArray[np.float64]:
    total = float(amounts.sum())
    return amounts / total if total > 0 else np.full(len(amounts), 1 / len(amounts))


def _to_png(values: Bytes) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()


def _from_png(data: bytes, name: str) -> Bytes:
    expected = f"a PNG of {FRAMES}x{evidence.ROWS} L"
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            found = f"{picture.width}x{picture.height} {picture.mode}"
            if found != f"{FRAMES}x{evidence.ROWS} L":
                raise RecipeError(f"{name}: {found}; expected {expected}")
            return np.asarray(picture)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise RecipeError(f"{name}: no whole PNG; expected {expected}") from error

"""The images of the paper made by librosa and matplotlib: the reference for `agr.recipes.mfcc`.

    data = by_librosa(MFCC).encode(y)                  # the same pixels as in MFCC.encode(y)

`python -m agr.prepare --reference` makes images this way; tests and benchmarks compare with it.
"""

from __future__ import annotations

import io
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agr.errors import RecipeError
from agr.recipes.base import Clip, Recipe
from agr.recipes.mfcc import MFCC, MFCC48, MfccRecipe, place


class LibrosaRecipe(MfccRecipe):
    """A recipe of the paper with the same settings, digest and images; only `encode` calls librosa."""

    def encode(self, y: Clip) -> bytes:
        """A colour JPEG, 98 x 12 pixels, of the loudest second."""
        return jpeg(place(y, self).astype(np.float64), self)


REFERENCES = {recipe.name: LibrosaRecipe(**asdict(recipe)) for recipe in (MFCC, MFCC48)}


def by_librosa(recipe: Recipe) -> LibrosaRecipe:
    """The recipe of the same name whose images librosa makes. Raises RecipeError where there is none."""
    if recipe.name not in REFERENCES:
        raise RecipeError(f"recipe {recipe.name!r}: has no reference by librosa; expected {' or '.join(REFERENCES)}")
    return REFERENCES[recipe.name]


def cepstra(window: NDArray[np.floating[Any]], recipe: MfccRecipe) -> NDArray[np.floating[Any]]:
    """Mel-frequency cepstral coefficients by `librosa.feature.mfcc`: (n_samples,) to (n_mfcc, frames), same dtype."""
    from librosa.effects import preemphasis
    from librosa.feature import mfcc

    y = preemphasis(window, coef=recipe.pre_emphasis)
    sizes: dict[str, Any] = {"n_mels": recipe.n_mels, "n_fft": recipe.win_length, "hop_length": recipe.hop_length}
    own: dict[str, Any] = {"n_mfcc": recipe.n_mfcc, "lifter": recipe.lifter}
    return np.asarray(mfcc(y=y, sr=recipe.sample_rate, center=False, **own, **sizes))


def jpeg(window: NDArray[np.floating[Any]], recipe: MfccRecipe) -> bytes:
    """The JPEG of one window, (n_samples,), its cepstra coloured by `matplotlib.image.imsave`."""
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    imsave(buffer, cepstra(window, recipe), format="jpg", cmap="viridis", pil_kwargs={"quality": recipe.jpeg_quality})
    return buffer.getvalue()

"""The recipes by name, and clips cut into windows by any of them.

recipe = by_name("voice")
(windows,) = of_clips([y], recipe)                # y: mono float32 at recipe.sample_rate

voice   envelope, motion and periodicity on fixed scales, at 8 kHz: `agr.recipes.voice`
mfcc     the study's (AudioMNIST clips as Mel-frequency cepstra) at 16 kHz: `agr.recipes.mfcc`
mfcc48   the same at 48 kHz, the rate at which the study's published images were made
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from agr.audio.read import resample
from agr.errors import RecipeError
from agr.recipes import speech
from agr.recipes.base import Bytes, Clip, Recipe, Weights
from agr.recipes.mfcc import MFCC, MFCC48
from agr.recipes.voice import VOICE

FORMER_NAMES = {"mfc": "mfcc", "mfc48": "mfcc48"}  # in models and folders that earlier versions wrote
RECIPES: Mapping[str, Recipe] = {recipe.name: recipe for recipe in (VOICE, MFCC, MFCC48)}
DEFAULT = VOICE.name


@dataclass(frozen=True)
class Windows:
    """A clip cut into windows.

    Attributes:
        images: (n, *IMAGE_SHAPE), uint8.
        weights: How much each window counts, (n,); they sum to 1.
        speech: Seconds of voiced speech in the whole clip; 0.0 where it does not sound like speech.
    """

    images: Bytes
    weights: Weights
    speech: float


def by_name(name: str) -> Recipe:
    """The recipe of that name. Raises RecipeError where there is none."""
    if name not in RECIPES:
        raise RecipeError(f"recipe {name!r}: unknown; expected one of {', '.join(RECIPES)}")
    return RECIPES[name]


def from_dict(values: Mapping[str, Any]) -> Recipe:
    """The recipe that `asdict` wrote. Raises RecipeError if this AGR does not make exactly that one."""
    if "name" not in values:
        raise RecipeError("recipe: no name; expected the settings of one")
    values = {**values, "name": FORMER_NAMES.get(str(values["name"]), values["name"])}
    recipe = by_name(str(values["name"]))
    wrong = set(values) ^ {field.name for field in fields(recipe)}
    if wrong:
        raise RecipeError(f"recipe {recipe.name!r}: keys {sorted(wrong)} are missing or unknown")
    if asdict(recipe) != dict(values):
        raise RecipeError(
            f"recipe {recipe.name!r}: version {values['version']}, other settings; expected version {recipe.version}"
        )
    return recipe


def of_clips(clips: Sequence[Clip], recipe: Recipe) -> Iterator[Windows]:
    """Clips of any length in windows, in order. Speech is looked for at the rate of `voice`, whatever the recipe."""
    for y, (images, weights) in zip(clips, recipe.windows(clips), strict=True):
        low = resample(y, recipe.sample_rate, VOICE.sample_rate)
        yield Windows(images, weights, speech.heard(low, VOICE))

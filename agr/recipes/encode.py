"""The recipes by name, and clips cut into windows by any of them.

recipe = by_name("voice")
(windows,) = cut_clips([y], recipe)               # y: mono float32 at recipe.sample_rate

voice    envelope, motion and periodicity on fixed scales, at 8 kHz: `agr.recipes.voice`
mfcc     Mel-frequency cepstra at 16 kHz, as in the paper: `agr.recipes.mfcc`
mfcc48   the same at 48 kHz, the rate of the images that were published with the paper
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from agr.audio.read import resample
from agr.errors import RecipeError
from agr.recipes import periodicity, speech, voice_features
from agr.recipes.base import Bytes, Clip, Recipe, Weights
from agr.recipes.mfcc import MFCC, MFCC48
from agr.recipes.voice import VOICE, VOICE112, VoiceRecipe

FORMER_NAMES = {"mfc": "mfcc", "mfc48": "mfcc48"}  # in models and folders that earlier versions wrote
RECIPES: Mapping[str, Recipe] = {recipe.name: recipe for recipe in (VOICE, VOICE112, MFCC, MFCC48)}
# versions whose images are those of a later one, up to rounding (docs/recipes.md)
SAME: Mapping[tuple[str, object], int] = {("voice", 2): 3, ("voice112", 1): 2}
DEFAULT = VOICE.name


@dataclass(frozen=True)
class Windows:
    """A clip cut into windows."""

    images: Bytes  # (n, *IMAGE_SHAPE)
    weights: Weights  # (n,); they sum to 1
    speech: float  # seconds of voiced speech in the clip; 0.0 where it does not sound like speech


def by_name(name: str) -> Recipe:
    """The recipe of that name. Raises RecipeError where there is none."""
    if name not in RECIPES:
        raise RecipeError(f"recipe {name!r}: unknown; expected one of {', '.join(RECIPES)}")
    return RECIPES[name]


def from_dict(values: Mapping[str, Any]) -> Recipe:
    """The recipe that `asdict` turned into a dict, or the later one that makes the same images (SAME).

    Raises RecipeError unless this version of AGR has exactly that one.
    """
    if "name" not in values:
        raise RecipeError("recipe: no name; expected the settings of one")
    values = {**values, "name": FORMER_NAMES.get(str(values["name"]), values["name"])}
    recipe = by_name(str(values["name"]))
    values["version"] = SAME.get((recipe.name, values.get("version")), values.get("version"))
    wrong = set(values) ^ {field.name for field in fields(recipe)}
    if wrong:
        raise RecipeError(f"recipe {recipe.name!r}: keys {sorted(wrong)} are missing or unknown")
    if asdict(recipe) != dict(values):
        found = f"version {values['version']}, other settings"
        raise RecipeError(f"recipe {recipe.name!r}: {found}; expected version {recipe.version}")
    return recipe


def cut_clips(clips: Sequence[Clip], recipe: Recipe) -> Iterator[Windows]:
    """Cut clips of any length into windows. Speech is always detected at the sample rate of `voice`."""
    if isinstance(recipe, VoiceRecipe):
        measures = periodicity.autocorrelation, periodicity.yin_periodicity
        for y in clips:
            features, heard = voice_features.extract_each(y, recipe, measures)
            yield Windows(*recipe.cut(features), speech.seconds_of(heard))
        return
    for y, (images, weights) in zip(clips, recipe.windows(clips), strict=True):
        low = resample(y, recipe.sample_rate, VOICE.sample_rate)
        yield Windows(images, weights, speech.speech_seconds(low, VOICE))

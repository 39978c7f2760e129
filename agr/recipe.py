"""A recipe: everything that determines the picture of a clip, 98 frames x 12 rows x RGB, which the model reads.

    recipe = by_name("voice")

A recipe is a frozen value with a name and a version; it travels with every model trained on its images.

    voice   envelope, motion and periodicity on fixed scales, at 8 kHz: `agr.evidence`, `agr.picture`
    mfc     the study's (AudioMNIST clips as Mel-frequency cepstra) at 16 kHz: `agr.mfc`
    mfc48   the same at 48 kHz, the rate at which the study's published images were made

`agr.imaging` makes images by any of them.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from agr.errors import RecipeError

FRAMES, COEFFICIENTS, CHANNELS = 98, 12, 3
IMAGE_SHAPE = (COEFFICIENTS, FRAMES, CHANNELS)  # rows, columns, RGB: the picture is 98 wide and 12 high


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What all recipes have. `sample_rate` in Hz, `hop_seconds` in seconds."""

    name: str
    version: int
    sample_rate: int
    hop_seconds: float = 0.010

    @property
    def hop_length(self) -> int:
        """Samples between the starts of two frames."""
        return round(self.hop_seconds * self.sample_rate)

    @functools.cached_property
    def digest(self) -> str:
        """Sixteen hex digits of the recipe's content."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class VoiceRecipe(Recipe):
    """What a voice is told by; its settings are the constants of `agr.evidence` and `agr.picture`."""

    sample_rate: int = 8_000


@dataclass(frozen=True, kw_only=True)
class MfcRecipe(Recipe):
    """The study's. `seconds` and `window_seconds` in seconds, `top_db` in decibels."""

    seconds: float = 0.9999583
    pre_emphasis: float = 0.97
    window_seconds: float = 0.025
    n_mels: int = 40
    n_mfcc: int = COEFFICIENTS
    lifter: int = 22
    top_db: float = 80.0
    jpeg_quality: int = 75

    @property
    def n_samples(self) -> int:
        """Samples in one window of `seconds`."""
        return int(self.seconds * self.sample_rate)

    @property
    def win_length(self) -> int:
        """Samples in one analysis frame; the FFT is as long."""
        return round(self.window_seconds * self.sample_rate)


VOICE = VoiceRecipe(name="voice", version=2)
MFC = MfcRecipe(name="mfc", version=1, sample_rate=16_000)
MFC48 = replace(MFC, name="mfc48", sample_rate=48_000)
RECIPES: Mapping[str, Recipe] = {recipe.name: recipe for recipe in (VOICE, MFC, MFC48)}
DEFAULT = VOICE.name


def by_name(name: str) -> Recipe:
    """The recipe of that name. Raises: RecipeError."""
    if name not in RECIPES:
        raise RecipeError(f"recipe {name!r}: unknown; expected one of {', '.join(RECIPES)}")
    return RECIPES[name]


def from_dict(values: Mapping[str, Any]) -> Recipe:
    """The recipe that `asdict` wrote. Raises: RecipeError if this AGR does not make exactly that one."""
    if "name" not in values:
        raise RecipeError("recipe: no name; expected the settings of one")
    recipe = by_name(str(values["name"]))
    wrong = set(values) ^ {field.name for field in fields(recipe)}
    if wrong:
        raise RecipeError(f"recipe {recipe.name!r}: keys {sorted(wrong)} are missing or unknown")
    if asdict(recipe) != dict(values):
        raise RecipeError(
            f"recipe {recipe.name!r}: version {values['version']}, other settings; expected version {recipe.version}"
        )
    return recipe

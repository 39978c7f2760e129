"""Recipes as values: their digests, JSON and back, what is refused."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np
import pytest

from agr.errors import RecipeError
from agr.recipes.base import Recipe, offset
from agr.recipes.encode import DEFAULT, RECIPES, by_name, from_dict
from agr.recipes.mfcc import MFCC
from agr.recipes.voice import VOICE, VOICE112


def fields_of(recipe: Recipe) -> list[tuple[Recipe, str]]:
    return [(recipe, field.name) for field in fields(recipe)]


@pytest.mark.parametrize(("recipe", "field"), fields_of(VOICE) + fields_of(MFCC))
def test_the_digest_changes_with_every_field(recipe: Recipe, field: str) -> None:
    value = getattr(recipe, field)
    changed: dict[str, Any] = {field: value + "x" if isinstance(value, str) else value * 2}
    assert replace(recipe, **changed).digest != recipe.digest
    assert len(recipe.digest) == 16
    assert replace(recipe).digest == recipe.digest


def test_the_digests_of_published_recipes_stay() -> None:
    """Whoever changes what a recipe means must give it another version: models carry these numbers."""
    assert {name: recipe.digest for name, recipe in RECIPES.items()} == {
        "voice": "7350b2f736d29d53",
        "voice112": "3820d1866771f44f",
        "mfcc": "001e0c4789517100",
        "mfcc48": "d7cf13e5c32b5260",
    }


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_comes_back_from_json(name: str) -> None:
    recipe = by_name(name)
    assert recipe.name == name
    assert from_dict(json.loads(json.dumps(asdict(recipe)))) == recipe


def test_an_unknown_name_is_refused_with_the_known_names() -> None:
    with pytest.raises(RecipeError, match=r"'mel'.*voice, voice112, mfcc, mfcc48"):
        by_name("mel")
    with pytest.raises(RecipeError, match="'mel'"):
        from_dict(asdict(replace(MFCC, name="mel")))


@pytest.mark.parametrize(
    ("recipe", "field"), [each for each in fields_of(VOICE) + fields_of(MFCC) if each[1] != "name"]
)
def test_other_settings_under_a_known_name_are_refused(recipe: Recipe, field: str) -> None:
    with pytest.raises(RecipeError, match=f"'{recipe.name}': version .*expected version {recipe.version}"):
        from_dict(asdict(recipe) | {field: getattr(recipe, field) * 2})


@pytest.mark.parametrize(("recipe", "version"), [(VOICE, 2), (VOICE112, 1)])
def test_a_version_that_made_the_same_images_up_to_rounding_is_read_as_the_present_one(
    recipe: Recipe, version: int
) -> None:
    assert from_dict(asdict(recipe) | {"version": version}) == recipe


@pytest.mark.parametrize(("recipe", "version"), [(VOICE, 1), (VOICE, 4), (VOICE112, 3)])
def test_a_version_that_made_other_images_is_refused(recipe: Recipe, version: int) -> None:
    with pytest.raises(RecipeError, match=f"version {version}, other settings; expected version {recipe.version}"):
        from_dict(asdict(recipe) | {"version": version})


def test_keys_of_another_recipe_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"'voice': keys .*lifter"):
        from_dict(asdict(MFCC) | {"name": "voice"})
    with pytest.raises(RecipeError, match="no name"):
        from_dict({key: value for key, value in asdict(VOICE).items() if key != "name"})


def test_the_default_recipe_is_voice_at_8_khz() -> None:
    assert by_name(DEFAULT) is VOICE
    assert (VOICE.sample_rate, VOICE.hop_length) == (8_000, 80)


def test_unknown_and_missing_keys_are_refused_by_name() -> None:
    with pytest.raises(RecipeError, match="n_fft"):
        from_dict(asdict(MFCC) | {"n_fft": 512})
    with pytest.raises(RecipeError, match="lifter"):
        from_dict({key: value for key, value in asdict(MFCC).items() if key != "lifter"})


@pytest.mark.parametrize(
    ("whole", "part", "expected"),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4], 0),
        ([1, 2, 3, 4], [3, 4], 2),
        ([1, 2, 1, 2, 3], [1, 2, 3], 2),
        ([1, 2, 1, 2], [1, 2], 0),
        ([2, 3], [0, 0, 2, 3, 0], -2),
        ([[1, 2, 3], [4, 5, 6]], [[2, 3], [5, 6]], 1),
        ([[2, 2, 2], [4, 5, 6]], [[2], [6]], 2),
    ],
)
def test_offset_finds_a_part_in_the_whole(whole: list[Any], part: list[Any], expected: int) -> None:
    assert offset(np.array(whole), np.array(part)) == expected


def test_offset_of_a_part_that_does_not_occur_is_an_error() -> None:
    with pytest.raises(ValueError, match="does not occur"):
        offset(np.array([1, 2, 3]), np.array([2, 4]))

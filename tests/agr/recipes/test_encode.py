"""All recipes behind one interface: files and back, windows and their weights, what is refused."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from agr.errors import RecipeError
from agr.recipes import speech, voice, voice_features, voice_image
from agr.recipes.base import FRAMES, IMAGE_SHAPE, Recipe, offset
from agr.recipes.encode import RECIPES, cut_clips
from agr.recipes.mfcc import MFCC
from agr.recipes.voice import LONGEST_FRAMES, VOICE, VOICE112
from agr.synth import demo

pytestmark = pytest.mark.usefixtures("one_thread")


def clip(recipe: Recipe, seconds: float = 0.7, seed: int = 0) -> NDArray[np.float32]:
    """A buzz with some noise, then noise alone."""
    t = np.arange(round(seconds * recipe.sample_rate)) / recipe.sample_rate
    buzz = np.where(t < 0.6, 2 * ((130 + 20 * seed) * t % 1) - 1, 0.0)
    return (0.1 * buzz + np.random.default_rng(seed).normal(0, 0.005, len(t))).astype(np.float32)


# --- files


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
@pytest.mark.parametrize("seconds", [0.1, 0.7, 1.0, 2.3])
def test_a_file_is_decoded_to_what_its_images_are_made_of(recipe: Recipe, seconds: float) -> None:
    y = clip(recipe, seconds)
    stored = recipe.decode(recipe.encode(y))
    frames = max(FRAMES, round(100 * seconds)) if recipe is VOICE112 else recipe.stored_shape[1]
    assert stored.shape == (recipe.stored_shape[0], frames, *recipe.stored_shape[2:])
    drawn = recipe.images(stored[None, :, :FRAMES])
    assert drawn.shape == (1, *recipe.image_shape)
    assert stored.dtype == drawn.dtype == np.uint8
    assert recipe.encode(y) == recipe.encode(y.copy())


def test_a_file_of_the_voice_recipe_holds_the_features_without_loss() -> None:
    y = clip(VOICE, 2.3)
    expected = voice_features.best_window(voice_features.extract(y, VOICE))
    np.testing.assert_array_equal(VOICE.decode(VOICE.encode(y)), expected)


def test_a_long_clip_is_stored_whole_up_to_its_limit() -> None:
    y = clip(VOICE112, 8.0)
    stored = VOICE112.decode(VOICE112.encode(y))
    assert stored.shape == (112, LONGEST_FRAMES)
    whole = voice_features.extract(y, VOICE112)
    assert offset(whole, stored) < 60  # the buzz ends after 0.6 s


@pytest.mark.parametrize(
    "recipe", [each for each in RECIPES.values() if each is not VOICE112], ids=lambda each: each.name
)
def test_the_stored_second_is_the_placed_second(recipe: Recipe) -> None:
    y = clip(recipe, 2.3)
    np.testing.assert_array_equal(recipe.decode(recipe.encode(y)), recipe.place(y).stored)


def test_file_extensions_match_the_file_formats() -> None:
    kinds = {name: Image.open(io.BytesIO(recipe.encode(clip(recipe)))).format for name, recipe in RECIPES.items()}
    assert kinds == {"voice": "PNG", "voice112": "PNG", "mfcc": "JPEG", "mfcc48": "JPEG"}
    assert {name: recipe.suffix for name, recipe in RECIPES.items()} == {
        "voice": ".png",
        "voice112": ".png",
        "mfcc": ".jpg",
        "mfcc48": ".jpg",
    }


def image(size: tuple[int, int] = (98, 112), mode: str = "L", kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, format=kind)
    return buffer.getvalue()


REFUSED = {
    "a JPEG": (image(kind="JPEG"), "no whole PNG"),
    "wrong width": (image((97, 112)), "97x112 L"),
    "on its side": (image((112, 98)), "112x98 L"),
    "colours": (image(mode="RGB"), "98x112 RGB"),
    "transparency": (image(mode="LA"), "98x112 LA"),
    "16 bits": (image(mode="I;16"), "98x112 I;16"),
    "an image of the paper's size": (image((98, 12), "RGB"), "98x12 RGB"),
    "nothing": (b"", "no whole PNG"),
    "text": (b"<html>not found</html>", "no whole PNG"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_files_than_features_are_refused_by_name(case: str) -> None:
    data, reason = REFUSED[case]
    with pytest.raises(RecipeError, match=f"^x/y.png: {reason}.*expected a PNG of 98x112 L$"):
        VOICE.decode(data, "x/y.png")


@pytest.mark.parametrize("part", [0.01, 0.2, 0.5, 0.8, 0.95])
def test_a_torn_file_is_refused(part: float) -> None:
    data = VOICE.encode(clip(VOICE))
    with pytest.raises(RecipeError, match="no whole PNG"):
        VOICE.decode(data[: int(part * len(data))])


def test_a_png_that_claims_billions_of_pixels_is_refused() -> None:
    data = bytearray(image())
    data[16:24] = b"\x7f\xff\xff\xff" * 2  # IHDR: width, height
    with pytest.raises(RecipeError, match="98x112 L"):
        VOICE.decode(bytes(data))


def test_a_file_of_another_recipe_is_refused() -> None:
    with pytest.raises(RecipeError, match="no whole PNG"):
        VOICE.decode(MFCC.encode(clip(MFCC)))
    with pytest.raises(RecipeError, match="no whole JPEG"):
        MFCC.decode(VOICE.encode(clip(VOICE)))


# --- images and windows


def test_many_images_are_drawn_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    found = np.random.default_rng(0).integers(0, 256, (7, 112, 98), dtype=np.uint8)
    whole = voice_image.draw(torch.from_numpy(found)).numpy()
    np.testing.assert_array_equal(VOICE.images(found), whole)
    monkeypatch.setattr(voice, "BATCH", 3)
    assert np.abs(VOICE.images(found).astype(int) - whole).max() <= 1
    assert VOICE.images(found[:0]).shape == (0, *IMAGE_SHAPE)
    assert MFCC.images(np.zeros((0, *IMAGE_SHAPE), dtype=np.uint8)).shape == (0, *IMAGE_SHAPE)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_clips_are_cut_in_order_with_weights_that_sum_to_1(recipe: Recipe) -> None:
    clips = [clip(recipe, seconds, seed) for seed, seconds in enumerate((0.3, 2.6, 1.0, 4.2))]
    found = list(cut_clips(clips, recipe))
    assert [len(windows.images) for windows in found] == [1, 5, 2, 8]
    for y, windows in zip(clips, found, strict=True):
        assert windows.images.shape[1:] == recipe.image_shape
        assert len(windows.weights) == len(windows.images)
        assert float(windows.weights.sum()) == pytest.approx(1)
        assert (windows.weights >= 0).all()
        (alone,) = cut_clips([y], recipe)
        assert np.abs(alone.images.astype(int) - windows.images).max() <= 1


@pytest.mark.parametrize("recipe", [VOICE, VOICE112], ids=lambda each: each.name)
def test_one_pass_over_a_clip_finds_the_windows_and_the_speech_of_two(recipe: Recipe) -> None:
    clips = [demo.utterance(demo.voices(2, seed=0)[0], 1, 0, seed=0)[::2].copy(), clip(recipe, 2.6)]
    for y, found in zip(clips, cut_clips(clips, recipe), strict=True):
        ((images, weights),) = recipe.windows([y])
        np.testing.assert_array_equal(found.images, images)
        np.testing.assert_array_equal(found.weights, weights)
        assert found.speech == speech.speech_seconds(y, VOICE)


def test_windows_are_weighted_by_their_share_of_the_speech() -> None:
    (found,) = cut_clips([clip(VOICE, 3.0)], VOICE)  # a voice for 0.6 s, then noise
    assert found.weights[0] > 0.8
    assert found.weights[2:].sum() < 0.1


@pytest.mark.parametrize("seconds", [0.4, 2.0])
def test_windows_of_a_clip_without_speech_have_equal_weights(seconds: float) -> None:
    y = np.random.default_rng(0).normal(0, 0.1, round(8_000 * seconds)).astype(np.float32)
    for silence in (np.zeros_like(y), y * 0 + np.float32(0.2)):
        (found,) = cut_clips([silence], VOICE)
        np.testing.assert_allclose(found.weights, 1 / len(found.weights))


def test_a_short_synthetic_word_is_one_window_of_weight_1() -> None:
    y = demo.utterance(demo.voices(2, seed=0)[0], 1, 0, seed=0)
    (found,) = cut_clips([y[::2].copy()], VOICE)
    assert float(found.weights.sum()) == pytest.approx(1)

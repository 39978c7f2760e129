"""Probabilities of clips and images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from agr.audio import read as audio
from agr.data.image_set import ImageSet
from agr.inference import bundle, predictor
from agr.inference.predictor import predict_images, predict_proba, softmax
from agr.recipes import mfcc
from agr.recipes.mfcc import MFCC
from agr.training.model import to_input


@pytest.fixture(scope="module")
def loaded(bundle_folder: Path) -> bundle.Bundle:
    return bundle.load(bundle_folder)


def test_softmax_is_that_of_torch_in_double_precision() -> None:
    logits = np.random.default_rng(0).normal(0, 30, (50, 2)).astype(np.float32)
    expected = torch.softmax(torch.from_numpy(logits).double(), dim=1).numpy()
    assert softmax(logits) == pytest.approx(expected, abs=1e-15)
    assert softmax(logits).dtype == np.float64


def test_softmax_of_huge_logits_stays_finite() -> None:
    rows = np.array([[1e4, -1e4], [-1e4, 1e4], [3e38, 3e38]], dtype=np.float32)
    assert softmax(rows).tolist() == [[1, 0], [0, 1], [0.5, 0.5]]


def test_images_pass_through_the_model_as_in_training(loaded: bundle.Bundle, images: ImageSet) -> None:
    pixels = np.array(images.pixels[:7])
    with torch.inference_mode():
        expected = torch.softmax(loaded.model(to_input(torch.from_numpy(pixels))).double(), dim=1)
    found = predict_images(pixels, loaded)
    assert found.shape == (7, 2)
    assert found == pytest.approx(expected.numpy(), abs=1e-6)
    assert not loaded.model.training


def test_no_images_have_no_probabilities(loaded: bundle.Bundle, images: ImageSet) -> None:
    assert predict_images(np.array(images.pixels[:0]), loaded).shape == (0, 2)


def test_a_recording_and_its_prepared_image_have_the_same_probabilities(
    loaded: bundle.Bundle, images: ImageSet, voices: list[Path]
) -> None:
    clips = [audio.load(path, loaded.info.recipe.sample_rate) for path in voices]
    assert max(map(len, clips)) <= MFCC.n_samples  # one window each
    assert predict_proba(clips, loaded) == pytest.approx(predict_images(np.array(images.pixels), loaded), abs=1e-6)


def test_many_windows_are_encoded_in_batches(
    loaded: bundle.Bundle, voices: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    y = np.concatenate([audio.load(path, loaded.info.recipe.sample_rate) for path in voices[:9]])
    clips = [y[:9_000], y, y[::-1].copy()]
    expected = predict_proba(clips, loaded)
    monkeypatch.setattr(mfcc, "BATCH", 4)
    assert predict_proba(clips, loaded) == pytest.approx(expected, abs=1e-6)
    assert expected.sum(axis=1) == pytest.approx(1)


def test_torch_uses_one_thread_for_clips_and_then_as_many_as_before(
    loaded: bundle.Bundle, voices: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    during = []
    draw = predictor.logits_of_images

    def spied(pixels: NDArray[np.uint8], bundle: bundle.Bundle) -> NDArray[np.float64]:
        during.append(torch.get_num_threads())
        return draw(pixels, bundle)

    monkeypatch.setattr(predictor, "logits_of_images", spied)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        predict_proba([audio.load(voices[0], 16_000)], loaded)
        assert (during, torch.get_num_threads()) == ([1], 3)
    finally:
        torch.set_num_threads(before)

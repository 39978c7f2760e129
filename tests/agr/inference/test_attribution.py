"""Attribution: a planted cue is found where it was planted, and all shares add up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from agr.data.image_set import ImageSet
from agr.data.splits import Split
from agr.inference import predictor
from agr.inference.attribution import (
    STEPS,
    TOLERANCE,
    attribute,
    integrated_gradients,
    silence,
    undecided_voice,
)
from agr.inference.bundle import Bundle, BundleInfo
from agr.inference.section import Section, read, section
from agr.labels import CLASSES
from agr.plots.explanation import reading
from agr.recipes import mfcc
from agr.recipes.base import FRAMES, Recipe
from agr.recipes.mfcc import MFCC
from agr.recipes.voice import VOICE
from agr.training.loop import fit
from agr.training.model import build
from agr.training.settings import Settings
from tests.sounds import vowel

RED, GREEN, BLUE = range(3)
HIGH = slice(2, 6)  # rows of periodicity from 162 to 301 Hz
FEMALE, MALE = CLASSES

pytestmark = pytest.mark.usefixtures("one_thread")


class Planted(nn.Module):
    """Its log odds of a woman rise with the mean of one region, less `middle`, and bend as they do."""

    def __init__(self, region: tuple[int, slice, slice], middle: float = 0.0, slope: float = 4.0) -> None:
        super().__init__()
        self.region, self.middle, self.slope = region, middle, slope

    def forward(self, x: Tensor) -> Tensor:
        channel, rows, frames = self.region
        odds = 5 * torch.tanh(self.slope * (x[:, channel, rows, frames].mean(dim=(1, 2)) - self.middle))
        return torch.stack([odds / 2, -odds / 2], dim=1)


class ByPitch(nn.Module):
    """A woman where the sound repeats at pitches of 162 to 301 Hz, a man where it does not."""

    def forward(self, x: Tensor) -> Tensor:
        strength = ((x[:, BLUE, HIGH] + 1) / 2).amax(dim=1).mean(dim=1)
        odds = 8 * (strength - 0.7)
        return torch.stack([odds / 2, -odds / 2], dim=1)


def bundled(model: nn.Module, recipe: Recipe = VOICE, temperature: float = 1.0) -> Bundle:
    empty: dict[str, Any] = {name: {} for name in ("settings", "data", "split", "val", "test", "environment")}
    return Bundle(model.eval(), BundleInfo("planted", recipe, **empty, temperature=temperature))


def busy() -> Section:
    """A window with something in every cell, drawn from a generator."""
    stored = np.random.default_rng(0).integers(60, 230, (112, FRAMES), dtype=np.uint8)
    return Section("busy", vowel(150, 1.0), VOICE, 0.0, stored, VOICE.images(stored[None])[0])


@pytest.fixture(scope="module")
def voice_model(voice_images: ImageSet) -> Bundle:
    """A network trained on synthetic voices for a few epochs."""
    rows = np.arange(len(voice_images))
    split = Split("all", rows, rows[:8], rows[:0])
    settings = Settings(epochs=6, lr=0.002, gamma=0.5)
    model = build(settings.model)
    model.load_state_dict(fit(voice_images, split, settings, torch.device("cpu")).weights)
    return bundled(model, temperature=1.3)


@pytest.mark.parametrize("name", ["cnn", "pooled"])
def test_integrated_gradients_are_the_integral_of_the_gradients(name: str) -> None:
    model = build(name, seed=3).eval()
    generator = torch.Generator().manual_seed(0)
    x, base = (torch.rand(1, 3, 12, 98, generator=generator) * 2 - 1 for _ in range(2))

    def odds(values: Tensor) -> Tensor:
        logits: Tensor = model(values)
        return 5 * (logits[:, 0] - logits[:, 1])

    count = 1_000  # midpoints of as many pieces of the way, all weighed alike
    summed = torch.zeros_like(x)
    for first in range(0, count, 250):
        parts = (torch.arange(first, first + 250) + 0.5) / count
        way = (base + parts[:, None, None, None] * (x - base)).requires_grad_()
        (gradients,) = torch.autograd.grad(odds(way).sum(), way)
        summed += gradients.sum(dim=0, keepdim=True)
    expected = summed / count * (x - base)
    found = integrated_gradients(odds, x, base)
    assert float((found - expected).abs().sum() / expected.abs().sum()) < 0.05
    assert float(found.sum()) == pytest.approx(float((odds(x) - odds(base)).detach()), abs=TOLERANCE)


def test_of_a_linear_model_the_shares_are_weight_times_difference() -> None:
    generator = torch.Generator().manual_seed(1)
    x, base, weights = (torch.rand(1, 3, 12, 98, generator=generator) for _ in range(3))
    found = integrated_gradients(lambda values: (values * weights).sum(dim=(1, 2, 3)), x, base)
    torch.testing.assert_close(found, weights * (x - base), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [(2, 3), (3, 12, 98)])
def test_of_a_polynomial_the_shares_are_its_analytic_integral(size: tuple[int, ...]) -> None:
    """Of sum(w x^4) the path integral of each cell from b to x is w (x - b) times the integral of 4 (b + t (x - b))^3
    over t, which is w (x^4 - b^4).
    """
    generator = torch.Generator().manual_seed(2)
    x, base, weights = (torch.randn(1, *size, generator=generator) for _ in range(3))
    found = integrated_gradients(lambda values: (values**4 * weights).flatten(1).sum(dim=1), x, base)
    torch.testing.assert_close(found, weights * (x**4 - base**4), rtol=1e-4, atol=1e-4)


def test_more_steps_are_taken_where_few_are_not_exact() -> None:
    asked = []

    def steep(values: Tensor) -> Tensor:
        asked.append(len(values))
        return 20 * torch.sigmoid(3_000 * (values.mean(dim=(1, 2, 3)) - 0.37))

    x, base = torch.ones(1, 3, 12, 98), torch.zeros(1, 3, 12, 98)
    found = integrated_gradients(steep, x, base)
    assert sum(asked) > STEPS[1]
    assert float(found.sum()) == pytest.approx(20, rel=0.1)


REGIONS = {
    "first frames of the envelope": (RED, slice(0, 3), slice(0, 20)),
    "middle of the motion": (GREEN, slice(4, 8), slice(40, 60)),
    "one row of the periodicity": (BLUE, slice(6, 7), slice(30, 90)),
    "one cell": (RED, slice(11, 12), slice(97, 98)),
}


@pytest.mark.parametrize("region", REGIONS.values(), ids=REGIONS)
@pytest.mark.parametrize("middle", [-3.0, 0.0, 3.0], ids=["always female", "either", "always male"])
def test_a_planted_cue_is_found_where_it_was_planted(region: tuple[int, slice, slice], middle: float) -> None:
    channel, rows, frames = region
    slope = 4.0 if middle == 0 else 0.3
    found = attribute(busy(), bundled(Planted(region, middle, slope)))
    sizes = np.abs(found.shares)
    assert sizes.sum() > 0.05
    assert sizes[rows, frames, channel].sum() >= 0.8 * sizes.sum()
    assert abs(found.gap) <= TOLERANCE
    strongest = max(found.contributions, key=lambda name: abs(found.contributions[name]))
    assert strongest == ("vocal tract", "motion", "pitch")[channel]


def test_a_planted_cue_is_found_in_a_trained_network() -> None:
    generator = torch.Generator().manual_seed(0)

    def some(count: int) -> tuple[Tensor, Tensor]:
        """Noise everywhere, and one region bright or dark as the label says."""
        labels = torch.randint(0, 2, (count,), generator=generator)
        x = torch.rand(count, 3, 12, FRAMES, generator=generator) * 0.2 - 0.1
        x[:, BLUE, 4:8, 40:60] += 0.7 * (labels * 2 - 1)[:, None, None]
        return x, labels

    model = build("cnn", seed=0)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(40):
        x, labels = some(32)
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(model(x), labels))
        optimizer.step()

    def odds(values: Tensor) -> Tensor:
        logits: Tensor = model(values)
        return logits[:, 1] - logits[:, 0]

    for x in some(6)[0]:
        shares = integrated_gradients(odds, x[None], torch.zeros_like(x)[None])[0]
        assert float(shares[BLUE, 4:8, 40:60].sum() / shares.sum()) >= 0.8
        row, frame = divmod(int(shares.abs().amax(dim=0).argmax()), FRAMES)
        assert 4 <= row < 8 and 40 <= frame < 60


@pytest.mark.parametrize(("hz", "answer", "way"), [(230.0, FEMALE, "lower"), (120.0, MALE, "higher")])
def test_a_model_of_pitch_is_seen_to_read_the_pitch(hz: float, answer: str, way: str) -> None:
    found = attribute(section(vowel(hz, 1.0), VOICE, "a.wav"), bundled(ByPitch()))
    assert found.answer == answer
    assert found.contributions["pitch"] == pytest.approx(1)
    assert found.baseline.undecided
    assert found.baseline.description.endswith(way)
    assert abs(found.baseline_log_odds) < 0.2
    assert reading(found).endswith(f"Mostly the pitch of about {found.section.pitch:.0f} Hz (100 %).")
    assert found.section.pitch == pytest.approx(hz, rel=0.05)


def test_the_undecided_voice_is_the_same_clip_moved_as_far_as_it_takes() -> None:
    stored = section(vowel(230, 1.0), VOICE, "a").stored

    def odds(x: Tensor) -> Tensor:
        logits: Tensor = ByPitch()(x)
        return logits[:, 0] - logits[:, 1]

    found = undecided_voice(stored, VOICE, odds, FEMALE)
    assert found is not None
    assert found.image.shape == (1, 3, 12, FRAMES)
    strength = (found.image[0, BLUE, :, 30:70].mean(dim=1) + 1) / 2
    both = strength[5] + strength[6]  # the rows above and below 162 Hz
    assert both > 0.9
    assert both > 2 * strength[:5].max()
    assert undecided_voice(stored, VOICE, lambda x: odds(x) + 100, FEMALE) is None  # of what nothing changes
    assert undecided_voice(stored, VOICE, lambda x: odds(x) - 100, FEMALE) is None


def test_a_second_that_speaks_against_the_answer_is_moved_towards_it() -> None:
    y = np.concatenate([vowel(120, 1.0), vowel(230, 1.6) * np.float32(0.9)])
    low = section(y[:8_000], VOICE, "a")
    found = attribute(replace(low, y=y), bundled(ByPitch()))
    assert found.answer == FEMALE  # of the whole clip
    assert found.log_odds < 0  # of the second that is shown
    assert found.baseline.description.endswith("higher")
    assert found.contributions["pitch"] == pytest.approx(-1)
    words = reading(found)
    assert words.startswith(
        f"Answer to the whole clip: {FEMALE}, {found.probability:.2f}. This second alone: {found.other}, "
    )
    assert "Nothing in this second spoke for it. Against it: the pitch" in words


@pytest.mark.parametrize("clip", [0, 15, 44, 79])
def test_all_shares_add_up_and_are_those_of_the_answer(clip: int, voices: list[Path], voice_model: Bundle) -> None:
    shown = read(str(voices[clip]), VOICE)
    found = attribute(shown, voice_model)
    assert abs(found.gap) <= 0.05
    probabilities = predictor.predict_proba([shown.y], voice_model)[0]
    assert found.probability == probabilities.max()
    assert found.answer == CLASSES[int(probabilities.argmax())]
    logits = predictor.logits_of_images(shown.image[None], voice_model)[0]  # divided by the temperature
    sign = 1 if found.answer == FEMALE else -1
    assert found.log_odds == pytest.approx(sign * (logits[0] - logits[1]), abs=1e-4)
    assert sum(found.parts.values()) == pytest.approx(found.shares.sum())
    assert sum(map(abs, found.contributions.values())) == pytest.approx(1)


def test_silence_is_what_a_pause_looks_like() -> None:
    stored = np.zeros((1, 112, FRAMES), dtype=np.uint8)
    stored[:, :, 60:80] = 200
    np.testing.assert_array_equal(silence(VOICE)[:, :50], VOICE.images(stored)[0, :, :50])
    np.testing.assert_array_equal(silence(MFCC), mfcc.colour(np.full((1, 12, FRAMES), -3.0))[0])

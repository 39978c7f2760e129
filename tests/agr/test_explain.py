"""Why a clip was answered so: evidence planted in a known place is found there, adds up, and is drawn there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from agr.data.image_set import ImageSet
from agr.data.splits import Split
from agr.explain import main
from agr.inference import bundle, predictor
from agr.inference.attribution import (
    STEPS,
    TOLERANCE,
    Attribution,
    Baseline,
    attribute,
    integrated_gradients,
    silence,
    undecided_voice,
)
from agr.inference.bundle import Bundle, BundleInfo
from agr.inference.section import Section, read, section
from agr.labels import CLASSES
from agr.plots import explanation
from agr.plots.explanation import draw, explain_clip, footnote, reading, tinted
from agr.recipes import mfcc
from agr.recipes.base import FRAMES, IMAGE_SHAPE, Recipe
from agr.recipes.mfcc import MFCC
from agr.recipes.voice import VOICE
from agr.training.loop import fit
from agr.training.model import build
from agr.training.settings import Settings
from tests.agr.test_features import assert_readable, clip_file, vowel, words

RED, GREEN, BLUE = range(3)
HIGH = slice(2, 6)  # rows of periodicity from 162 to 301 Hz
FEMALE, MALE = CLASSES

pytestmark = pytest.mark.usefixtures("one_thread")


Shares = list[tuple[tuple[Any, ...], float]]  # a place in the picture, and what its cells added


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


def made(shares: Shares, recipe: Recipe = VOICE, **parts: Any) -> Attribution:
    """An attribution with these shares and no others."""
    values = np.zeros(IMAGE_SHAPE)
    for place, share in shares:
        values[place] = share
    rate = recipe.sample_rate
    base = Baseline(torch.zeros(1), "the same clip with pitch 30 % and resonances 8 % lower", True)
    found = Attribution(section(vowel(210, 1.2, rate), recipe, "a.wav"), FEMALE, 0.97, 3.0, 0.0, base, values)
    return replace(found, **parts)


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
def test_planted_evidence_is_found_where_it_was_planted(region: tuple[int, slice, slice], middle: float) -> None:
    channel, rows, frames = region
    slope = 4.0 if middle == 0 else 0.3
    found = attribute(busy(), bundled(Planted(region, middle, slope)))
    sizes = np.abs(found.shares)
    assert sizes.sum() > 0.05
    assert sizes[rows, frames, channel].sum() >= 0.8 * sizes.sum()
    assert abs(found.gap) <= TOLERANCE
    strongest = max(found.contributions, key=lambda name: abs(found.contributions[name]))
    assert strongest == ("vocal tract", "motion", "pitch")[channel]


def test_planted_evidence_is_found_in_a_trained_network() -> None:
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

    found = undecided_voice(stored, odds, FEMALE)
    assert found is not None
    assert found.image.shape == (1, 3, 12, FRAMES)
    strength = (found.image[0, BLUE, :, 30:70].mean(dim=1) + 1) / 2
    both = strength[5] + strength[6]  # the rows above and below 162 Hz
    assert both > 0.9
    assert both > 2 * strength[:5].max()
    assert undecided_voice(stored, lambda x: odds(x) + 100, FEMALE) is None  # of what nothing changes
    assert undecided_voice(stored, lambda x: odds(x) - 100, FEMALE) is None


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


def test_a_cepstrum_is_compared_with_silence(bundle_folder: Path, voices: list[Path], tmp_path: Path) -> None:
    model = bundle.load(bundle_folder)
    assert model.info.recipe == MFCC
    found = explain_clip(voices[0], model, tmp_path / "out.png")
    assert (found.baseline.description, found.baseline.undecided) == ("silence", False)
    assert list(found.parts) == [f"coefficient {k}" for k in range(1, 13)]
    assert abs(found.gap) <= 0.05
    assert_readable(draw(found))


def test_silence_is_what_a_pause_looks_like() -> None:
    stored = np.zeros((1, 112, FRAMES), dtype=np.uint8)
    stored[:, :, 60:80] = 200
    np.testing.assert_array_equal(silence(VOICE)[:, :50], VOICE.images(stored)[0, :, :50])
    np.testing.assert_array_equal(silence(MFCC), mfcc.colour(np.full((1, 12, FRAMES), -3.0))[0])


@pytest.mark.parametrize(
    ("shares", "parts", "expected"),
    [
        (
            [((0, 0, BLUE), 2.0), ((3, 9, RED), 1.0), ((5, 5, GREEN), 0.33)],
            {},
            "Answer: female, 0.97. Mostly the pitch of about 210 Hz (60 %), then the vocal tract (30 %), "
            "then the motion (10 %).",
        ),
        (
            [((0, 0, BLUE), -1.0), ((3, 9, RED), 1.0), ((5, 5, GREEN), 0.5)],
            {},
            "Answer: female, 0.97. First of all the vocal tract (40 %), then the motion (20 %). "
            "Against it: the pitch of about 210 Hz (40 %).",
        ),
        (
            [((0, 0, RED), -1.0)],
            {"answer": MALE, "probability": 0.5},
            "Answer: male, 0.50. Nothing in this second spoke for it. Against it: the vocal tract (100 %).",
        ),
        (
            [((0, 0, RED), 1.0)],
            {"baseline": Baseline(torch.zeros(1), "silence", False)},
            "Answer: female, 0.97. Mostly the vocal tract (100 %). Another pitch and vocal tract did not change it.",
        ),
        ([], {}, "Answer: female, 0.97. Nothing in this second spoke for it."),
    ],
    ids=["all for", "mixed", "all against", "unmoved", "nothing"],
)
def test_the_reading_says_what_spoke_for_and_against(shares: Shares, parts: dict[str, Any], expected: str) -> None:
    assert reading(made(shares, **parts)) == expected


def test_the_reading_names_the_three_greatest_of_twelve_coefficients() -> None:
    shares: Shares = [((row, 4, 1), 1.0 + row) for row in range(12)]
    expected = "First of all coefficient 12 (15 %), then coefficient 11 (14 %), then coefficient 10 (13 %)."
    assert reading(made(shares, MFCC)).endswith(expected)


def test_the_footnote_names_the_comparison_and_both_probabilities() -> None:
    text = footnote(made([((0, 0, 0), 2.98)]))
    assert "Compared with the same clip with pitch 30 % and resonances 8 % lower" in text
    assert "takes that for female with 0.50, this second with 0.95" in text
    assert "+2.98 of the +3.00" in text


@pytest.mark.parametrize("recipe", [VOICE, MFCC], ids=lambda recipe: recipe.name)
def test_what_spoke_is_drawn_warm_or_cold_in_its_place(recipe: Recipe) -> None:
    found = made([((2, slice(10, 60), RED), 1.0), ((9, slice(10, 60), RED), -1.0)], recipe)
    figure = draw(found)
    tint = np.asarray(figure.axes[1].images[1].get_array())  # (12, 98, 4)
    red, blue, opaque = tint[..., 0], tint[..., 2], tint[..., 3]
    assert (red[2, 10:60] > blue[2, 10:60] + 0.4).all()
    assert (blue[9, 10:60] > red[9, 10:60] + 0.4).all()
    assert opaque[2, 10:60].min() == opaque[9, 10:60].min() == 1
    assert opaque.sum() == 100


def test_the_tint_is_clear_where_nothing_spoke() -> None:
    tint = tinted(np.array([[-9.0, -1.0, 0.0, 0.5, 2.0]]))
    np.testing.assert_allclose(tint[0, :, 3], [1, 1, 0, 0.5**0.7, 1])


@pytest.mark.parametrize("name", ["a.wav", "$x$ " + "n" * 300])
@pytest.mark.parametrize("recipe", [VOICE, MFCC], ids=lambda recipe: recipe.name)
def test_all_that_is_written_can_be_read(name: str, recipe: Recipe) -> None:
    found = made([((0, 0, 0), -1.0), ((4, 0, 1), 0.6), ((8, 0, 2), 1.2), ((9, 0, 2), 1.4)], recipe, answer=MALE)
    silent = Baseline(torch.zeros(1), "silence", False)
    figure = draw(replace(found, section=replace(found.section, name=name), baseline=silent))
    assert_readable(figure)
    text = words(figure).replace("\N{NO-BREAK SPACE}", " ")
    assert "Answer: male, 0.97." in " ".join(text.split())
    if recipe is VOICE:
        for part in ("24 % of the evidence, for female", "14 % of the evidence, for male", "62 % of the evidence"):
            assert part in text


def stored_bundle(folder: Path, bundle_folder: Path) -> Path:
    """A bundle on disk of an untrained network for the voice recipe."""
    card = replace(bundle.read_info(bundle_folder), recipe=VOICE)
    bundle.save(folder, build("cnn", seed=1).state_dict(), card, bundle.read_seen(bundle_folder))
    return folder


def test_the_command_draws_and_says_why(
    bundle_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = stored_bundle(tmp_path / "model", bundle_folder), tmp_path / "out.png"
    clip = clip_file(tmp_path / "a.wav", vowel(120, 0.7))
    assert main(["--model-uri", str(model), str(clip), "--png", str(out)]) == 0
    said, complaint = capsys.readouterr()
    assert said.startswith("Answer: ")
    assert complaint == ""
    with Image.open(out) as picture:
        assert (picture.format, picture.width) == ("PNG", 1200)
    assert main(["--json", "--model-uri", str(model), str(clip), "--png", str(out)]) == 0
    values = json.loads(capsys.readouterr().out)
    assert list(values) == ["path", "label", "probability", "evidence", "compared_with", "png"]
    assert said.startswith(f"Answer: {values['label']}, {values['probability']:.2f}.")


def test_a_bad_clip_is_one_line_and_status_1(
    bundle_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.png"
    assert main(["--model-uri", str(bundle_folder), str(tmp_path / "no.wav"), "--png", str(out)]) == 1
    said, complaint = capsys.readouterr()
    assert (said, complaint.count("\n")) == ("", 1)
    assert complaint.startswith(f"agr: {tmp_path / 'no.wav'}: No such file")
    assert not out.exists()


def test_the_names_of_the_parts_are_those_that_are_described() -> None:
    assert list(explanation.ABOUT) == list(VOICE.channels)

"""What each cell of a clip's picture added to the model's answer; `agr.explain` draws it.

    found = attribute(section, bundle)                # section: of agr.features
    found.parts                                       # {"vocal tract": 0.6, "motion": 0.1, "pitch": 2.7}, log odds

Integrated gradients (Sundararajan, Taly and Yan, Axiomatic Attribution for Deep Networks, ICML 2017) give every cell a
share of the answer's log odds. The shares add up to the difference between the log odds of the image and those of a
baseline; how exactly they do is checked. The paper asks for a baseline on which the model is neutral. Here that is the
same clip with pitch and resonances moved until the model is undecided, towards a typical woman's voice or a typical
man's. Silence does not serve: models lean one way on it, and what speaks for that side would look as if it spoke
against it. It is used only where no moved voice changes the answer, and with recipes that store no voice features.

Known limit: this tells what the model read, not what makes a voice a woman's or a man's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agr.inference import predictor
from agr.inference.bundle import Bundle
from agr.inference.section import Section
from agr.labels import CLASSES
from agr.recipes import voice_image
from agr.recipes.base import IMAGE_SHAPE, Recipe
from agr.training.model import to_input

STEPS = (64, 256, 1024)  # points between baseline and image; the next number is tried where one is not exact
TOLERANCE = 0.02  # log odds by which the sum of all shares may differ from what it should be
AT_ONCE = 128  # points that go through the model together
# From a typical man's voice to a typical woman's, in the logarithm of frequency (Hillenbrand et al., 1995, adults).
PITCH, TRACT = float(np.log(1.68)), float(np.log(1.16))
FARTHEST, PLACES = 1.5, 31  # how far a voice is moved at most, as a multiple of that; how many positions are tried
Odds = Callable[[Tensor], Tensor]  # log odds of some inputs: (n, 3, 12, 98) to (n,)


@dataclass(frozen=True)
class Baseline:
    """What an image is compared with.

    Attributes:
        image: (1, 3, 12, 98), float32, as the model reads it.
        words: What it is, for people.
        neutral: Whether the model is undecided on it.
    """

    image: Tensor
    words: str
    neutral: bool


@dataclass(frozen=True)
class Attribution:
    """Why a clip was answered as it was.

    Attributes:
        section: The second that is explained.
        answer: The answer to the whole clip.
        probability: Its probability for the whole clip.
        odds: Log odds of that answer for the section's image.
        base_odds: The same for the baseline.
        base: The baseline.
        shares: What each cell adds to the log odds, IMAGE_SHAPE, float64; positive for the answer.
    """

    section: Section
    answer: str
    probability: float
    odds: float
    base_odds: float
    base: Baseline
    shares: NDArray[np.float64]

    @property
    def other(self) -> str:
        """The gender that was not answered."""
        return next(name for name in CLASSES if name != self.answer)

    @property
    def gap(self) -> float:
        """The sum of the shares less what it should be, in log odds."""
        return float(self.shares.sum()) - (self.odds - self.base_odds)

    @property
    def parts(self) -> dict[str, float]:
        """Shares summed by what has a name, in log odds: the recipe's channels, or cepstral coefficients."""
        if channels := self.section.recipe.channels:
            return dict(zip(channels, self.shares.sum(axis=(0, 1)).tolist(), strict=True))
        rows = self.shares.sum(axis=(1, 2)).tolist()
        return {f"coefficient {row}": value for row, value in enumerate(rows, start=1)}

    @property
    def contributions(self) -> dict[str, float]:
        """Each part divided by the sum of all magnitudes, -1..1; negative where it spoke against the answer."""
        whole = sum(map(abs, self.parts.values())) or 1.0
        return {name: value / whole for name, value in self.parts.items()}


def attribute(section: Section, model: Bundle) -> Attribution:
    """Explain the model's answer to a clip by the second of it that is shown."""
    probabilities = predictor.of_clips([section.y], model)[0]
    answer = int(probabilities.argmax())

    def odds(x: Tensor) -> Tensor:
        logits: Tensor = model.model(x) / model.card.temperature
        return logits[:, answer] - logits[:, 1 - answer]

    x = to_input(torch.tensor(section.image)[None])
    base = baseline(section, odds, CLASSES[answer])
    shares = integrated_gradients(odds, x, base.image)[0].permute(1, 2, 0)  # (12, 98, 3)
    there, at_base = (float(_read(odds, image)) for image in (x, base.image))
    values = shares.numpy().astype(np.float64)
    return Attribution(section, CLASSES[answer], float(probabilities[answer]), there, at_base, base, values)


def integrated_gradients(odds: Odds, x: Tensor, base: Tensor) -> Tensor:
    """Each value's share of odds(x) - odds(base).

    The gradient is integrated along the straight line from the baseline to the image by Gauss-Legendre quadrature of
    STEPS points, more of them until the shares add up to within TOLERANCE.

    Args:
        odds: A differentiable function of inputs, (n, ...) to (n,).
        x: One input, (1, ...), float32.
        base: Its baseline, of the same shape.

    Returns:
        Shares, of the shape of x.
    """
    expected = float(_read(odds, x) - _read(odds, base))
    for steps in STEPS:
        shares = (x - base) * _mean_gradient(odds, x, base, steps)
        if abs(float(shares.sum()) - expected) <= TOLERANCE:
            break
    return shares


def _mean_gradient(odds: Odds, x: Tensor, base: Tensor, steps: int) -> Tensor:
    """The mean of the gradient between a baseline and an input, both (1, ...), from so many points."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)  # between -1 and 1
    shape = (-1, *[1] * (x.dim() - 1))
    places, sizes = (torch.tensor(each / 2, dtype=x.dtype).reshape(shape) for each in (1 + nodes, weights))
    total = torch.zeros_like(x)
    for first in range(0, steps, AT_ONCE):
        some = slice(first, first + AT_ONCE)
        between = (base + places[some] * (x - base)).requires_grad_()  # (AT_ONCE, ...)
        (gradients,) = torch.autograd.grad(odds(between).sum(), between)
        total += (sizes[some] * gradients).sum(dim=0, keepdim=True)
    return total


def baseline(section: Section, odds: Odds, answer: str) -> Baseline:
    """What to compare the section's image with; `odds` are those of `answer`."""
    if section.recipe.keeps_features:
        found = undecided(section.stored, odds, answer)
        if found is not None:
            return found
    return Baseline(to_input(torch.tensor(silence(section.recipe))[None]), "silence", neutral=False)


def silence(recipe: Recipe) -> NDArray[np.uint8]:
    """The image of no sound: IMAGE_SHAPE, uint8."""
    return np.broadcast_to(np.array(recipe.silence, dtype=np.uint8), IMAGE_SHAPE)


def undecided(stored: NDArray[np.uint8], odds: Odds, answer: str) -> Baseline | None:
    """The nearest voice saying the same words on which the model is undecided.

    The voice is moved away from those of `answer`, or towards them where this second alone is answered otherwise.

    Args:
        stored: Voice features, (ROWS, FRAMES), uint8.
        odds: Log odds of `answer`.
        answer: One of CLASSES.

    Returns:
        That voice as a baseline; None if there is none within FARTHEST.
    """
    found = torch.tensor(stored)[None]
    for_answer = bool(_read(odds, to_input(voice_image.draw(found))) > 0)
    up = for_answer == (answer == "male")
    ways = (1 if up else -1) * np.linspace(0, FARTHEST, PLACES)
    images = to_input(voice_image.draw(found.expand(PLACES, -1, -1), _moved(ways)))  # (PLACES, 3, 12, 98)
    past = 1 + np.flatnonzero((_read(odds, images[1:]) > 0).numpy() != for_answer)
    if not len(past):
        return None
    part = torch.linspace(0, 1, PLACES)[:, None, None, None]
    between = images[past[0] - 1] * (1 - part) + images[past[0]] * part
    best = int(_read(odds, between).abs().argmin())
    return Baseline(between[[best]], _in_words(float(ways[past[0]])), neutral=True)


def _moved(ways: NDArray[np.float64]) -> voice_image.Change:
    """Move voices towards a woman's, by each of (n,); 1 leads from a typical man's to a typical woman's, -1 back."""
    warps = voice_image.WARPS // 2 * (1 + np.clip(ways * TRACT / voice_image.WARP_RANGE, -1, 1))
    return replace(
        voice_image.unchanged(len(ways)),
        formants=torch.from_numpy(np.rint(warps).astype(np.int64)),
        pitch=torch.from_numpy(np.rint(ways * PITCH / voice_image.LAG_STEP).astype(np.int64)),
    )


def _in_words(way: float) -> str:
    pitch, tract = (abs(100 * np.expm1(way * size)) for size in (PITCH, TRACT))
    return f"the same clip with pitch {pitch:.0f} % and resonances {tract:.0f} % {'higher' if way > 0 else 'lower'}"


@torch.no_grad()
def _read(odds: Odds, x: Tensor) -> Tensor:
    return odds(x)

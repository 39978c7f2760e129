"""How much each cell of a clip's image added to the model's answer.

    attribute(section, bundle).parts                  # {"vocal tract": 0.6, "motion": 0.1, "pitch": 2.7}, log odds

Integrated gradients (Sundararajan, Taly and Yan, Axiomatic Attribution for Deep Networks, ICML 2017) split the
difference between the log odds of an image and those of a baseline, on which the model should be neutral. Known limit:
this shows what the model reads, not what makes a voice a woman's or a man's.
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
from agr.recipes.base import Recipe
from agr.recipes.voice import VoiceRecipe
from agr.training.model import to_input

STEPS = (64, 256, 1024)  # points between baseline and image; the next number is tried if one is not exact enough
TOLERANCE = 0.02  # log odds by which the sum of all shares may be wrong
AT_ONCE = 128  # points in a batch
# From a typical man's voice to a typical woman's, in the logarithm of frequency (Hillenbrand et al., 1995, adults).
PITCH, TRACT = float(np.log(1.68)), float(np.log(1.16))
FARTHEST, PLACES = 1.5, 31  # the largest move, as a multiple of that, and the number of positions tried
LogOdds = Callable[[Tensor], Tensor]  # of inputs: (n, channels, rows, frames) to (n,)


@dataclass(frozen=True)
class Baseline:
    """What an image is compared with."""

    image: Tensor  # (1, channels, rows, frames), float32, as the model reads it
    description: str
    undecided: bool  # whether the model gives both answers about the same probability


@dataclass(frozen=True)
class Attribution:
    """What led to the answer to a clip."""

    section: Section  # the second that is explained
    answer: str  # to the whole clip
    probability: float  # of that answer, for the whole clip
    log_odds: float  # of that answer, for the section's image
    baseline_log_odds: float  # the same for the baseline
    baseline: Baseline
    shares: NDArray[np.float64]  # what each cell adds to the log odds, image_shape; positive for the answer

    @property
    def other(self) -> str:
        """The class that was not answered."""
        return next(name for name in CLASSES if name != self.answer)

    @property
    def gap(self) -> float:
        """The error of the sum of all shares, in log odds."""
        return float(self.shares.sum()) - (self.log_odds - self.baseline_log_odds)

    @property
    def parts(self) -> dict[str, float]:
        """Shares summed by part of the recipe's images, or by cepstral coefficient, in log odds."""
        if parts := self.section.recipe.parts(self.shares):
            return {name: float(values.sum()) for name, values in parts.items()}
        rows = self.shares.sum(axis=(1, 2)).tolist()
        return {f"coefficient {row}": value for row, value in enumerate(rows, start=1)}

    @property
    def contributions(self) -> dict[str, float]:
        """Each part divided by the sum of all magnitudes, -1..1; negative if it spoke against the answer."""
        total = sum(map(abs, self.parts.values())) or 1.0
        return {name: value / total for name, value in self.parts.items()}


def attribute(section: Section, model: Bundle) -> Attribution:
    """Explain the model's answer to a clip by one second of it."""
    probabilities = predictor.predict_proba([section.y], model)[0]
    answer = int(probabilities.argmax())

    def log_odds(x: Tensor) -> Tensor:
        logits: Tensor = model.model(x) / model.info.temperature
        return logits[:, answer] - logits[:, 1 - answer]

    x = to_input(torch.tensor(section.image)[None])
    # Silence only if nothing else is left: models lean one way on it, which would look like a contribution of the clip.
    recipe, name = section.recipe, CLASSES[answer]
    found = undecided_voice(section.stored, recipe, log_odds, name) if isinstance(recipe, VoiceRecipe) else None
    baseline = found or Baseline(to_input(torch.tensor(silence(recipe))[None]), "silence", undecided=False)
    shares = integrated_gradients(log_odds, x, baseline.image)[0].permute(1, 2, 0).numpy().astype(np.float64)
    at_image, at_baseline = (float(_evaluate(log_odds, image)) for image in (x, baseline.image))
    probability = float(probabilities[answer])
    return Attribution(section, CLASSES[answer], probability, at_image, at_baseline, baseline, shares)


def integrated_gradients(log_odds: LogOdds, x: Tensor, base: Tensor) -> Tensor:
    """Each value's share of log_odds(x) - log_odds(base); x, base and the shares: (1, ...), float32.

    The gradient is integrated along the straight line from the baseline to the image by Gauss-Legendre quadrature of
    STEPS points, more of them until the shares add up to within TOLERANCE.
    """
    expected = float(_evaluate(log_odds, x) - _evaluate(log_odds, base))
    for steps in STEPS:
        shares = (x - base) * _mean_gradient(log_odds, x, base, steps)
        if abs(float(shares.sum()) - expected) <= TOLERANCE:
            break
    return shares


def _mean_gradient(log_odds: LogOdds, x: Tensor, base: Tensor, steps: int) -> Tensor:
    """The mean gradient on the line from a baseline to an input, both (1, ...), from `steps` points."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)  # between -1 and 1
    shape = (-1, *[1] * (x.dim() - 1))
    points, sizes = (torch.tensor(each / 2, dtype=x.dtype).reshape(shape) for each in (1 + nodes, weights))
    total = torch.zeros_like(x)
    for first in range(0, steps, AT_ONCE):
        batch = slice(first, first + AT_ONCE)
        between = (base + points[batch] * (x - base)).requires_grad_()  # (AT_ONCE, ...)
        (gradients,) = torch.autograd.grad(log_odds(between).sum(), between)
        total += (sizes[batch] * gradients).sum(dim=0, keepdim=True)
    return total


def silence(recipe: Recipe) -> NDArray[np.uint8]:
    """The image of no sound: image_shape, uint8."""
    return np.broadcast_to(np.array(recipe.silence, dtype=np.uint8), recipe.image_shape)


def undecided_voice(stored: NDArray[np.uint8], recipe: VoiceRecipe, log_odds: LogOdds, answer: str) -> Baseline | None:
    """The voice nearest to voice features, (ROWS, FRAMES) uint8, on which the model is undecided; None beyond FARTHEST.

    The voice is moved away from those of `answer`, or towards them if this second alone is answered otherwise.
    """
    features = torch.tensor(stored)[None]
    for_answer = bool(_evaluate(log_odds, to_input(recipe.draw(features))) > 0)
    up = for_answer == (answer == "male")
    shifts = (1 if up else -1) * np.linspace(0, FARTHEST, PLACES)
    images = to_input(
        recipe.draw(features.expand(PLACES, -1, -1), _shifted(shifts))
    )  # (PLACES, channels, rows, frames)
    flipped = 1 + np.flatnonzero((_evaluate(log_odds, images[1:]) > 0).numpy() != for_answer)
    if not len(flipped):
        return None
    part = torch.linspace(0, 1, PLACES)[:, None, None, None]
    between = images[flipped[0] - 1] * (1 - part) + images[flipped[0]] * part
    best = int(_evaluate(log_odds, between).abs().argmin())
    shift = float(shifts[flipped[0]])
    pitch, tract = (abs(100 * np.expm1(shift * size)) for size in (PITCH, TRACT))
    moved = f"pitch {pitch:.0f} % and resonances {tract:.0f} % {'higher' if shift > 0 else 'lower'}"
    return Baseline(between[[best]], f"the same clip with {moved}", undecided=True)


def _shifted(shifts: NDArray[np.float64]) -> voice_image.Change:
    """Move voices by each of (n,) shifts; 1 leads from a typical man's voice to a typical woman's, -1 back."""
    warps = voice_image.WARPS // 2 * (1 + np.clip(shifts * TRACT / voice_image.WARP_RANGE, -1, 1))
    return replace(
        voice_image.unchanged(len(shifts)),
        formants=torch.from_numpy(np.rint(warps).astype(np.int64)),
        pitch=torch.from_numpy(np.rint(shifts * PITCH / voice_image.LAG_STEP).astype(np.int64)),
    )


@torch.no_grad()
def _evaluate(log_odds: LogOdds, x: Tensor) -> Tensor:
    return log_odds(x)

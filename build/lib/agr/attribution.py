"""What each cell of a clip's picture added to the model's answer; `agr.explain` draws it.

    found = attribute(section, bundle)                # section: of agr.features
    found.parts                                       # {"vocal tract": 0.6, "motion": 0.1, "pitch": 2.7}, log odds

Integrated gradients (Sundararajan, Taly and Yan, Axiomatic Attribution for Deep Networks, ICML 2017), by captum, give
every cell a share of the answer's log odds; together the shares make up the odds' distance from a baseline's, which
is checked. That paper wants a baseline on which the model is neutral. Here it is the same clip with its pitch and
resonances moved until the model is undecided, on the way from a typical man's to a typical woman's, or back. Silence
would not do: models lean one way on it, and what spoke for an answer on that side would seem to speak against it.
Only where no moved voice turns the answer is silence taken, and with recipes other than `voice`.

Known limit: this tells what the model read, not what makes a voice a woman's or a man's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agr import inference, picture
from agr.bundle import Bundle
from agr.corpus import CLASSES
from agr.errors import SettingsError
from agr.features import Section
from agr.model import to_input
from agr.recipe import IMAGE_SHAPE, Recipe, VoiceRecipe
from agr.viridis import VIRIDIS

STEPS = (64, 256, 1024)  # points on the way from the baseline; more where fewer are not exact
TOLERANCE = 0.02  # log odds, by which the sum of all shares may miss
AT_ONCE = 128
# From a typical man's voice to a typical woman's, in the logarithm of frequency (Hillenbrand et al., 1995, adults).
PITCH, TRACT = float(np.log(1.68)), float(np.log(1.16))
FARTHEST, PLACES = 1.5, 31  # how far off an undecided voice may be, in such ways, and how many are tried
CHANNEL_PARTS = ("vocal tract", "motion", "pitch")  # what the channels of the `voice` recipe carry

Odds = Callable[[Tensor], Tensor]  # log odds of some inputs: (n, 3, 12, 98) to (n,)


@dataclass(frozen=True)
class Baseline:
    """What a picture is compared with: image, (1, 3, 12, 98), float32, and in words.

    neutral: whether the model is undecided on it.
    """

    image: Tensor
    words: str
    neutral: bool


@dataclass(frozen=True)
class Attribution:
    """Why a clip was answered as it was.

    answer, probability: the whole clip's. odds, base_odds: log odds of that answer for the section's picture and for
    the baseline. shares: what each cell added to them, IMAGE_SHAPE, float64, positive for the answer.
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
        """By how much the sum of the shares misses what it should be, in log odds."""
        return float(self.shares.sum()) - (self.odds - self.base_odds)

    @property
    def parts(self) -> dict[str, float]:
        """Shares summed by what a person can name, in log odds: channels, or the coefficients of a cepstrum."""
        if isinstance(self.section.recipe, VoiceRecipe):
            return dict(zip(CHANNEL_PARTS, self.shares.sum(axis=(0, 1)).tolist(), strict=True))
        rows = self.shares.sum(axis=(1, 2)).tolist()
        return {f"coefficient {row}": value for row, value in enumerate(rows, start=1)}

    @property
    def evidence(self) -> dict[str, float]:
        """Each part as a share of the sizes of all, -1..1, below 0 where it spoke against the answer."""
        whole = sum(map(abs, self.parts.values())) or 1.0
        return {name: value / whole for name, value in self.parts.items()}


def attribute(section: Section, model: Bundle) -> Attribution:
    """Explain the answer to a clip. Raises: SettingsError without captum."""
    probabilities = inference.of_clips([section.y], model)[0]
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
    """Each value's share of odds(x) - odds(base): one picture, (1, ...), to the same shape.

    The integral is a sum over STEPS points, over more until the shares add up to within TOLERANCE.
    Raises: SettingsError without captum.
    """
    try:
        from captum.attr import IntegratedGradients
    except ImportError as error:
        raise SettingsError('captum: not installed, explaining needs it; try: pip install "captum>=0.9"') from error
    expected = float(_read(odds, x) - _read(odds, base))
    method = IntegratedGradients(odds)
    for steps in STEPS:
        shares: Tensor = method.attribute(x, base, n_steps=steps, internal_batch_size=AT_ONCE).detach()
        if abs(float(shares.sum()) - expected) <= TOLERANCE:
            break
    return shares


def baseline(section: Section, odds: Odds, answer: str) -> Baseline:
    """What to compare the section's picture with; odds: of that answer."""
    if isinstance(section.recipe, VoiceRecipe):
        found = undecided(section.stored, odds, answer)
        if found is not None:
            return found
    return Baseline(to_input(torch.tensor(silence(section.recipe))[None]), "silence", neutral=False)


def silence(recipe: Recipe) -> NDArray[np.uint8]:
    """The picture of no sound, IMAGE_SHAPE: nothing loud, moving or periodic; of a cepstrum, all of it lowest."""
    colour = np.array([0, 128, 0]) if isinstance(recipe, VoiceRecipe) else VIRIDIS[0]
    return np.broadcast_to(colour.astype(np.uint8), IMAGE_SHAPE)


def undecided(stored: NDArray[np.uint8], odds: Odds, answer: str) -> Baseline | None:
    """The nearest voice of which the model is undecided, saying the same; None if there is none within FARTHEST.

    stored: (ROWS, FRAMES), uint8. odds: of `answer`; the voice is moved away from that gender's, or towards it
    where this second alone is not answered so.
    """
    found = torch.tensor(stored)[None]
    for_answer = bool(_read(odds, to_input(picture.draw(found))) > 0)
    up = for_answer == (answer == "male")
    ways = (1 if up else -1) * np.linspace(0, FARTHEST, PLACES)
    images = to_input(picture.draw(found.expand(PLACES, -1, -1), _moved(ways)))  # (PLACES, 3, 12, 98)
    past = 1 + np.flatnonzero((_read(odds, images[1:]) > 0).numpy() != for_answer)
    if not len(past):
        return None
    part = torch.linspace(0, 1, PLACES)[:, None, None, None]
    between = images[past[0] - 1] * (1 - part) + images[past[0]] * part
    best = int(_read(odds, between).abs().argmin())
    return Baseline(between[[best]], _in_words(float(ways[past[0]])), neutral=True)


def _moved(ways: NDArray[np.float64]) -> picture.Change:
    """Voices moved so far towards a woman's, (n,), 1 from a typical man's to a typical woman's, -1 back."""
    warps = picture.WARPS // 2 * (1 + np.clip(ways * TRACT / picture.WARP_RANGE, -1, 1))
    return replace(
        picture.unchanged(len(ways)),
        formants=torch.from_numpy(np.rint(warps).astype(np.int64)),
        pitch=torch.from_numpy(np.rint(ways * PITCH / picture.LAG_STEP).astype(np.int64)),
    )


def _in_words(way: float) -> str:
    pitch, tract = (abs(100 * np.expm1(way * size)) for size in (PITCH, TRACT))
    return f"the same clip with pitch {pitch:.0f} % and resonances {tract:.0f} % {'higher' if way > 0 else 'lower'}"


@torch.no_grad()
def _read(odds: Odds, x: Tensor) -> Tensor:
    return odds(x)

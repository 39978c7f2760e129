"""Augmentation: change pitch, vocal tract, microphone, room, line and noise of the training clips in every epoch.

The changes of a clip depend on (seed, epoch, clip) alone. Validation and test clips are never changed. Not recordings
are changed but voice features (`agr.recipes.voice_features`), in which pitch and the resonances of the vocal tract can
be shifted separately; speed shifts both by one factor, as on a tape. Images do not depend on loudness.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agr.errors import SettingsError
from agr.recipes.base import FRAMES, Recipe
from agr.recipes.voice import VOICE, VoiceRecipe
from agr.recipes.voice_features import BANDS, band_hz
from agr.recipes.voice_image import LAG_STEP, WARP_RANGE, WARPS, Change
from agr.training.random_rows import uniform_rows

Floats = NDArray[np.float64]
COLUMNS = 19  # random numbers for each clip in each epoch
NOISE_FRAMES = 4096  # length of the noise of which each clip gets a part


@dataclass(frozen=True)
class Augmentation:
    """The strengths of augmentation; 0 switches a part off."""

    speed: float = 0.05  # the greatest change of the logarithm of all frequencies, 0..0.3 (0.2 is 22 % up or 18 % down)
    pitch: float = 0.20  # the greatest change of the logarithm of pitch alone, 0..0.6
    formants: float = 0.08  # the greatest change of the logarithm of the resonances alone, 0..0.3
    colour: float = 4.0  # the size of changes of a microphone's frequency response, 0..20 dB
    line: float = 0.3  # the share of clips that pass through a telephone line
    noise: float = 0.5  # the share of clips with noise, 0 to 35 dB below the voice
    room: float = 0.3  # the share of clips in a room with a reverberation time of 0.1 to 0.7 s
    shift: int = 15  # the greatest shift in time, in frames of 10 ms
    # how far the mean pitch of each corpus's women and men is shifted towards that of the general population if there
    # are several corpora, 0..1 (`agr.training.pitch_targets`)
    pitch_targets: float = 1.0

    def __post_init__(self) -> None:
        """Raises: SettingsError if a value is outside its range."""
        highest = {"speed": 0.3, "pitch": 0.6, "formants": 0.3, "colour": 20, "line": 1, "noise": 1, "room": 1}
        for name, high in (highest | {"shift": FRAMES // 2, "pitch_targets": 1}).items():
            if not 0 <= (value := getattr(self, name)) <= high:
                raise SettingsError(f"augmentation {name} {value}: expected 0 to {high}")


DEFAULT = Augmentation()
NONE = Augmentation(**{field.name: 0 for field in fields(Augmentation)})


def parse(strengths: Sequence[str]) -> Augmentation:
    """The default strengths, with some replaced, each given as `name=value`. Raises: SettingsError."""
    types = {name: type(value) for name, value in asdict(DEFAULT).items()}
    values = {}
    for item in strengths:
        name, _, value = item.partition("=")
        try:
            values[name] = types[name](value)
        except (KeyError, ValueError) as error:
            raise SettingsError(f"--augment {item}: expected NAME=STRENGTH, NAME of {', '.join(types)}") from error
    return replace(DEFAULT, **values)


def random_numbers(rows: NDArray[np.int64], seed: int, epoch: int) -> Floats:
    """The random numbers of some clips in one epoch, (m,) to (m, COLUMNS), float64, uniform in [0, 1)."""
    return uniform_rows((seed, epoch, 1), rows, COLUMNS)


def augment(
    features: Tensor, draws: Floats, strength: Augmentation, recipe: Recipe = VOICE, pitch_shift: Floats | float = 0.0
) -> Tensor:
    """Augment voice features, (n, ROWS, FRAMES), and draw their images, (n, *image_shape), uint8, on the same device.

    `draws`, (n, COLUMNS), are from `random_numbers`; `pitch_shift`, (n,), is added to the randomly changed log pitch.
    """
    assert isinstance(recipe, VoiceRecipe)
    return recipe.draw(features, change(draws, strength, features.device, pitch_shift))


def change(draws: Floats, strength: Augmentation, device: torch.device, pitch_shift: Floats | float = 0.0) -> Change:
    """The changes that random numbers stand for, as tensors on a device; other arguments as in `augment`."""
    both = 2 * draws - 1  # (n, COLUMNS), -1..1
    speed = strength.speed * both[:, 0]
    pitch = np.rint((speed + strength.pitch * both[:, 1] + pitch_shift) / LAG_STEP)
    warp = np.clip(speed + strength.formants * both[:, 2], -WARP_RANGE, WARP_RANGE)
    gain = _colour(both[:, 3:6], draws[:, 6:8], strength.colour)  # (n, BANDS)
    gain *= _line(draws[:, 9:11], draws[:, 8] < strength.line)
    room, noise = draws[:, 11] < strength.room, draws[:, 14] < strength.noise
    return Change(
        gain=_floats(gain, device),
        noise=_noise(draws[:, 15:18], noise, device) if noise.any() else None,
        room=_floats(_room(draws[:, 12:14], room), device) if room.any() else None,
        formants=_integers(np.rint((warp / WARP_RANGE + 1) / 2 * (WARPS - 1)), device),
        pitch=_integers(pitch, device),
        shift=_integers(np.rint(strength.shift * both[:, 18]), device),
    )


def _floats(values: NDArray[np.floating[Any]], device: torch.device) -> Tensor:
    return torch.from_numpy(values.astype(np.float32, copy=False)).to(device)


def _integers(values: Floats, device: torch.device) -> Tensor:
    return torch.from_numpy(values.astype(np.int64)).to(device)


def _colour(size: Floats, phase: Floats, strength: float) -> Floats:
    """Smooth frequency responses, a slope and two waves, as factors on power, (n, BANDS); `strength` is in dB."""
    x = np.linspace(0, 1, BANDS)
    waves = [np.cos(2 * np.pi * (cycles * x + phase[:, [cycles - 1]])) for cycles in (1, 2)]
    db = 1.7 * strength * (size[:, [0]] * (2 * x - 1) + size[:, [1]] * waves[0] + size[:, [2]] * waves[1])
    return np.asarray(10 ** (db / 10))


def _line(edges: Floats, on: NDArray[np.bool_]) -> Floats:
    """Telephone lines that pass 150..350 Hz to 3,000..3,800 Hz, as factors on power, (n, BANDS); 1 if not `on`."""
    low, high = 150 + 200 * edges[:, [0]], 3000 + 800 * edges[:, [1]]
    return np.where(on[:, None], pass_band(low, high), 1.0)


def pass_band(low: float | Floats, high: float | Floats) -> Floats:
    """A line that passes `low` to `high` Hz, (..., 1), as factors on the power of the bands, (..., BANDS)."""
    return np.asarray(np.minimum(1.0, (band_hz() / low) ** 6) * np.where(band_hz() > high, 0.003, 1.0))


def _room(draws: Floats, on: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The share of each frame's power (rows) that a room adds to later frames (columns), (n, FRAMES, FRAMES).

    The echo falls by 60 dB in 0.1..0.7 s (Sabine's reverberation time) and has 0.05..1 times the direct power.
    """
    decay = 10 ** (-6 * 0.01 / (0.1 + 0.6 * draws[:, [0]]))  # (n, 1), the share of power that is left a frame later
    ratio = on[:, None] * (0.05 + 0.95 * draws[:, [1]])
    # By delay in frames; the last column, 0, is for negative delays.
    response = np.zeros((len(on), FRAMES + 1), dtype=np.float32)
    response[:, :FRAMES] = ratio * (1 - decay) / decay * decay ** np.arange(FRAMES)
    response[:, 0] = 1
    delays = np.arange(FRAMES)[None, :] - np.arange(FRAMES)[:, None]
    return response[:, np.where(delays < 0, FRAMES, delays)]


def _noise(draws: Floats, on: NDArray[np.bool_], device: torch.device) -> Tensor:
    """Noise with an even slope over the bands, 0..35 dB below the voice, as power, (n, BANDS, FRAMES), float32."""
    shape = 10 ** ((15 * draws[:, [1]] - 12) * np.linspace(0, 1, BANDS) / 10)  # (n, BANDS); -12..3 dB at the highest
    power = on[:, None] * 10 ** (-3.5 * draws[:, [0]]) * shape / shape.mean(axis=1, keepdims=True)
    start = _integers(draws[:, 2] * (NOISE_FRAMES - FRAMES), device)
    columns = start[:, None] + torch.arange(FRAMES, device=device)  # (n, FRAMES)
    field = _noise_field(device)[:, columns].transpose(0, 1)  # (n, BANDS, FRAMES)
    return field * _floats(power, device).unsqueeze(2)


@functools.cache
def _noise_field(device: torch.device) -> Tensor:
    """Random power of noise in each band and frame, (BANDS, NOISE_FRAMES), float32, mean 1, always the same."""
    return _floats(np.random.default_rng(0).gamma(3.0, 1 / 3, (BANDS, NOISE_FRAMES)), device)

"""Augmentation: change pitch, vocal tract, microphone, room, line and noise of the training clips in every epoch.

    draws = drawn(len(data), seed=0, epoch=3)
    pictures = augment(features, draws[rows], Augmentation())

The changes of a clip depend on (seed, epoch, clip) alone. Validation and test clips are never changed. The voice
features (`agr.recipes.voice_features`) are changed, not the recording: there, pitch and the resonances of the vocal tract can be
shifted separately; speed shifts both by one factor, as on a tape. Loudness is not changed, because images do not depend
on it.
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
from agr.recipes import voice_image
from agr.recipes.base import FRAMES
from agr.recipes.voice_features import BANDS, band_hz
from agr.recipes.voice_image import LAG_STEP, WARP_RANGE, WARPS, Change

Floats = NDArray[np.float64]
COLUMNS = 19  # random numbers for each clip in each epoch
FIELD_FRAMES = 4096  # of the noise that all clips take their noise from


@dataclass(frozen=True)
class Augmentation:
    """The strengths of augmentation; 0 switches a part off.

    Attributes:
        speed: The greatest change of the logarithm of all frequencies, 0..0.3 (0.2 is 22 % up or 18 % down).
        pitch: The greatest change of the logarithm of pitch alone, 0..0.6.
        formants: The greatest change of the logarithm of the resonances alone, 0..0.3.
        colour: Size of the changes of a microphone's frequency response, 0..20 dB.
        line: The share of clips that pass through a telephone line.
        noise: The share of clips with noise, 0 to 35 dB below the voice.
        room: The share of clips in a room with a reverberation time of 0.1 to 0.7 s.
        shift: The greatest shift in time, in frames of 10 ms.
        pitch_targets: How far the mean pitch of each corpus's women and men is shifted towards that of people at large if
            there are several corpora, 0..1, as in `agr.training.pitch_targets`.
    """

    speed: float = 0.05
    pitch: float = 0.20
    formants: float = 0.08
    colour: float = 4.0
    line: float = 0.3
    noise: float = 0.5
    room: float = 0.3
    shift: int = 15
    pitch_targets: float = 1.0

    def __post_init__(self) -> None:
        """Check all values.

        Raises:
            SettingsError: If a value is outside its range.
        """
        highest = {"speed": 0.3, "pitch": 0.6, "formants": 0.3, "colour": 20, "line": 1, "noise": 1, "room": 1}
        for name, high in (highest | {"shift": FRAMES // 2, "pitch_targets": 1}).items():
            value = getattr(self, name)
            if not 0 <= value <= high:
                raise SettingsError(f"augmentation {name} {value}: expected 0 to {high}")


DEFAULT = Augmentation()
NONE = Augmentation(**{field.name: 0 for field in fields(Augmentation)})


def parse(strengths: Sequence[str]) -> Augmentation:
    """The default strengths, some of which are replaced.

    Args:
        strengths: Replacements, each as `name=value`.

    Raises:
        SettingsError: If a name is unknown, or a value is no number or outside its range.
    """
    kinds = {name: type(value) for name, value in asdict(DEFAULT).items()}
    values = {}
    for item in strengths:
        name, _, value = item.partition("=")
        try:
            values[name] = kinds[name](value)
        except (KeyError, ValueError) as error:
            raise SettingsError(f"--augment {item}: expected NAME=STRENGTH, NAME of {', '.join(kinds)}") from error
    return replace(DEFAULT, **values)


def drawn(clips: int, seed: int, epoch: int) -> NDArray[np.float64]:
    """The random numbers of all clips in one epoch: (clips, COLUMNS), float64, uniform in 0..1."""
    return np.random.default_rng([seed, epoch, 1]).random((clips, COLUMNS))


def augment(
    features: Tensor, draws: NDArray[np.float64], strength: Augmentation, moved: Floats | float = 0.0
) -> Tensor:
    """Augment clips and draw their images.

    Args:
        features: Voice features, (n, ROWS, FRAMES), uint8.
        draws: Random numbers, (n, COLUMNS), as `drawn` gives them.
        strength: Of augmentation.
        moved: Added to the logarithm of pitch besides the random changes, (n,).

    Returns:
        Images, (n, 12, FRAMES, 3), uint8, on the device of `features`.
    """
    return voice_image.draw(features, change(draws, strength, features.device, moved))


def change(draws: Floats, strength: Augmentation, device: torch.device, moved: Floats | float = 0.0) -> Change:
    """The changes that random numbers stand for, on a device; the other arguments are those of `augment`."""
    both = 2 * draws - 1  # (n, COLUMNS), -1..1
    speed = strength.speed * both[:, 0]
    pitch = np.rint((speed + strength.pitch * both[:, 1] + moved) / LAG_STEP)
    warp = np.clip(speed + strength.formants * both[:, 2], -WARP_RANGE, WARP_RANGE)
    gain = _colour(both[:, 3:6], draws[:, 6:8], strength.colour)  # (n, BANDS)
    gain *= _line(draws[:, 9:11], draws[:, 8] < strength.line)
    room, noise = draws[:, 11] < strength.room, draws[:, 14] < strength.noise

    def there(values: NDArray[np.floating[Any]]) -> Tensor:
        return torch.from_numpy(values.astype(np.float32, copy=False)).to(device)

    def whole(values: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(values.astype(np.int64)).to(device)

    return Change(
        gain=there(gain),
        noise=_noise(draws[:, 15:18], noise, device) if noise.any() else None,
        room=there(_room(draws[:, 12:14], room)) if room.any() else None,
        formants=whole(np.rint((warp / WARP_RANGE + 1) / 2 * (WARPS - 1))),
        pitch=whole(pitch),
        shift=whole(np.rint(strength.shift * both[:, 18])),
    )


def _colour(size: NDArray[np.float64], phase: NDArray[np.float64], strength: float) -> NDArray[np.float64]:
    """Smooth frequency responses, a slope and two waves, as factors on power, (n, BANDS); `strength` is in dB."""
    at = np.linspace(0, 1, BANDS)
    waves = [np.cos(2 * np.pi * (turns * at + phase[:, [turns - 1]])) for turns in (1, 2)]
    db = 1.7 * strength * (size[:, [0]] * (2 * at - 1) + size[:, [1]] * waves[0] + size[:, [2]] * waves[1])
    return np.asarray(10 ** (db / 10))


def _line(edges: NDArray[np.float64], on: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Telephone lines from 150..350 Hz to 3,000..3,800 Hz as factors on power, (n, BANDS); 1 for clips not `on`."""
    low, high = 150 + 200 * edges[:, [0]], 3000 + 800 * edges[:, [1]]
    return np.where(on[:, None], pass_band(low, high), 1.0)


def pass_band(low: float | NDArray[np.float64], high: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """The response of a line that carries `low` to `high` Hz, (..., 1), as factors on power, (..., BANDS)."""
    return np.asarray(np.minimum(1.0, (band_hz() / low) ** 6) * np.where(band_hz() > high, 0.003, 1.0))


def _room(drawn: NDArray[np.float64], on: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The share of each frame's power (rows) that a room adds to later frames (columns), (n, FRAMES, FRAMES).

    The echo falls by 60 dB in 0.1..0.7 s (Sabine's reverberation time), and has 0.05..1 times the direct power.
    """
    keep = 10 ** (-6 * 0.01 / (0.1 + 0.6 * drawn[:, [0]]))  # (n, 1), the share of power that is left a frame later
    ratio = on[:, None] * (0.05 + 0.95 * drawn[:, [1]])
    heard = np.zeros(
        (len(on), FRAMES + 1), dtype=np.float32
    )  # by delay in frames; the last column, 0, is for negative delays
    heard[:, :FRAMES] = ratio * (1 - keep) / keep * keep ** np.arange(FRAMES)
    heard[:, 0] = 1
    later = np.arange(FRAMES)[None, :] - np.arange(FRAMES)[:, None]
    return heard[:, np.where(later < 0, FRAMES, later)]


def _noise(drawn: NDArray[np.float64], on: NDArray[np.bool_], device: torch.device) -> Tensor:
    """Noise with an even slope over the bands, 0..35 dB below the voice, as power, (n, BANDS, FRAMES), float32."""
    slope = (15 * drawn[:, [1]] - 12) * np.linspace(0, 1, BANDS)  # (n, BANDS), dB; -12..3 at the highest band
    shape = 10 ** (slope / 10)
    power = on[:, None] * 10 ** (-3.5 * drawn[:, [0]]) * shape / shape.mean(axis=1, keepdims=True)
    start = torch.from_numpy((drawn[:, 2] * (FIELD_FRAMES - FRAMES)).astype(np.int64)).to(device)
    columns = start[:, None] + torch.arange(FRAMES, device=device)  # (n, FRAMES)
    field = _field(device)[:, columns].transpose(0, 1)  # (n, BANDS, FRAMES)
    return field * torch.from_numpy(power.astype(np.float32)).to(device).unsqueeze(2)


@functools.cache
def _field(device: torch.device) -> Tensor:
    """Random power of noise in each band and frame, with mean 1: (BANDS, FIELD_FRAMES), float32, always the same."""
    values = np.random.default_rng(0).gamma(3.0, 1 / 3, (BANDS, FIELD_FRAMES))
    return torch.from_numpy(values.astype(np.float32)).to(device)

"""The image that the model reads, drawn from voice features, as measured or augmented.

    images = draw(torch.from_numpy(features))       # (n, 112, 98) uint8 to (n, 12, 98, 3) uint8

Twelve rows, high at the bottom, and three channels:

    red     envelope: the level in 12 mel bands of 150 to 3,700 Hz, 45 dB below to 15 dB above the clip's active level
    green   motion: the slope of the envelope over 50 ms; middle grey stands still
    blue    periodicity: its greatest strength at pitches of 410 to 64 Hz, in 12 bands; black in the pauses

All scales are fixed: an image does not depend on other clips and, apart from the clip's own level, is not normalised.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from agr.recipes import voice_features
from agr.recipes.base import COEFFICIENTS, FRAMES, triangles
from agr.recipes.periodicity import BOTTOM_HZ, LAGS, TOP_HZ
from agr.recipes.voice_features import BANDS, HEADROOM, RANGE_DB

ENVELOPE_HZ = (150.0, 3700.0)
PITCH_HZ = (410.0, 64.0)
LOWEST_DB, HIGHEST_DB = -45.0, 15.0  # of the envelope, relative to the active level
ACTIVE_FRAMES = 15  # the loudest frames, whose mean is the active level
PAUSE_DB, FADE_DB = -40.0, 15.0  # periodicity is faded out below the active level, over FADE_DB down to PAUSE_DB
NOISE_FLOOR = 0.3  # the periodicity that noise has by chance
SLOPE_DB = 7.5  # a slope of the envelope in dB per frame that fills the scale
LOW_BANDS = 12  # mel bands below about 900 Hz, where periodicity is measured
WARPS = 41
WARP_RANGE = 0.3  # of the logarithm of frequency, up and down
LAG_STEP = float(np.log(TOP_HZ / BOTTOM_HZ)) / (LAGS - 1)  # of the logarithm of frequency
MIN_POWER = 1e-9


@dataclass(frozen=True)
class Change:
    """Changes to n windows before they are drawn; every tensor is on the features' device."""

    gain: Tensor  # factor on power, (n, BANDS)
    noise: Tensor | None  # added power relative to the active level, (n, BANDS, FRAMES), or None
    room: Tensor | None  # how much power each frame receives from each frame, (n, FRAMES, FRAMES), or None
    formants: Tensor  # warp of the envelope's frequencies, an index below WARPS, (n,); the middle one changes nothing
    pitch: Tensor  # whole lag steps, (n,); positive is higher
    shift: Tensor  # frames, (n,); positive is later


def unchanged(clips: int) -> Change:
    """No change to so many windows, on the CPU; callers replace parts of it."""
    still = torch.zeros(clips, dtype=torch.int64)
    return Change(torch.ones(clips, BANDS), None, None, formants=still + WARPS // 2, pitch=still, shift=still)


def envelope_edges() -> NDArray[np.float64]:
    """The edges of the envelope's overlapping rows, in Hz, rising: (COEFFICIENTS + 2,)."""
    low, high = (float(voice_features.hz_to_mel(hz)) for hz in ENVELOPE_HZ)
    return np.asarray(voice_features.mel_to_hz(np.linspace(low, high, COEFFICIENTS + 2)))


def pitch_edges() -> NDArray[np.float64]:
    """The edges of the rows of periodicity, in Hz, falling: (COEFFICIENTS + 1,)."""
    return np.geomspace(*PITCH_HZ, COEFFICIENTS + 1)


def draw(features: Tensor, change: Change | None = None) -> Tensor:
    """Draw voice features, (n, ROWS, FRAMES) uint8, as images, (n, COEFFICIENTS, FRAMES, 3) uint8, on their device."""
    tables = _tables(features.device)
    power = tables.power[features[:, :BANDS].int()]  # (n, BANDS, FRAMES)
    periodic = features[:, BANDS:].to(torch.float32) / 255  # (n, LAGS, FRAMES)
    envelope, lags = tables.warps[WARPS // 2], tables.lags
    if change is not None:
        power, periodic = _apply(power, periodic, change)
        envelope = tables.warps[change.formants]  # (n, COEFFICIENTS, BANDS)
        lags = (lags + change.pitch.unsqueeze(1)).clamp(0, LAGS - 1)  # (n, rows); low pitches are last
    level = power.mean(dim=1)  # (n, FRAMES)
    red, loud = _relative(envelope @ power, level)  # (n, 12, FRAMES), (n, FRAMES)
    blue = _pool_lags(periodic, lags, tables.lags_per_row) * loud.unsqueeze(1)
    image = torch.stack([red, _slope(red), blue], dim=3)  # (n, 12, FRAMES, 3)
    if change is not None:
        columns = (torch.arange(FRAMES, device=image.device) - change.shift.unsqueeze(1)) % FRAMES  # (n, FRAMES)
        image = image.gather(2, columns[:, None, :, None].expand_as(image))  # each rotated in time
    return (image * 255).round().to(torch.uint8)


def draw_rows(features: Tensor, change: Change | None = None) -> Tensor:
    """Draw every row of voice features: (n, ROWS, FRAMES) uint8 to (n, ROWS, FRAMES, 1) uint8, on their device.

    The first BANDS rows are the envelope, the others periodicity, on the scales of `draw`. `change.shift` is not used:
    training reads another second of a clip in every epoch.
    """
    tables = _tables(features.device)
    power = tables.power[features[:, :BANDS].int()]  # (n, BANDS, FRAMES)
    periodic = features[:, BANDS:].to(torch.float32) / 255  # (n, LAGS, FRAMES)
    if change is not None:
        power, periodic = _apply(power, periodic, change)
        power = tables.band_warps[change.formants] @ power
        lags = (torch.arange(LAGS, device=features.device) + change.pitch.unsqueeze(1)).clamp(0, LAGS - 1)  # (n, LAGS)
        periodic = periodic.gather(1, lags.unsqueeze(2).expand_as(periodic))
    level = power.mean(dim=1)  # (n, FRAMES)
    envelope, loud = _relative(power, level)
    image = torch.cat([envelope, periodic * loud.unsqueeze(1)], dim=1).unsqueeze(3)
    return (image * 255).round().to(torch.uint8)


def _relative(power: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """Power, (n, rows, FRAMES), and which frames, by level, (n, FRAMES), are no pause, on the image's scales, 0..1."""
    active = active_level(level)  # (n, 1)
    db = 10 * torch.log10(power.clamp_min(MIN_POWER) / active.unsqueeze(1))  # (n, rows, FRAMES)
    loud = (10 * torch.log10(level.clamp_min(MIN_POWER) / active) - PAUSE_DB) / FADE_DB
    return ((db - LOWEST_DB) / (HIGHEST_DB - LOWEST_DB)).clamp(0, 1), loud.clamp(0, 1)


def active_level(level: Tensor) -> Tensor:
    """Mean power of the loudest frames: (n, FRAMES) to (n, 1)."""
    return level.topk(ACTIVE_FRAMES, dim=1).values.mean(dim=1, keepdim=True).clamp_min(MIN_POWER)


def _apply(power: Tensor, periodic: Tensor, change: Change) -> tuple[Tensor, Tensor]:
    """Apply room, gain and noise to power, and lower periodicity by the share of the low bands that they replace."""
    if change.room is not None:
        echoed = power @ change.room
        share = power[:, :LOW_BANDS].sum(dim=1) / echoed[:, :LOW_BANDS].sum(dim=1).clamp_min(MIN_POWER)
        power, periodic = echoed, periodic * (0.3 + 0.7 * share.unsqueeze(1))  # what a room adds is partly periodic
    power = power * change.gain.unsqueeze(2)
    if change.noise is not None:
        noise = change.noise * active_level(power.mean(dim=1)).unsqueeze(2)
        signal, both = (each[:, :LOW_BANDS].sum(dim=1) for each in (power, power + noise))  # (n, FRAMES)
        power, periodic = power + noise, periodic * (signal / both.clamp_min(MIN_POWER)).unsqueeze(1)
    return power, periodic


def _pool_lags(periodic: Tensor, lags: Tensor, lags_per_row: list[int]) -> Tensor:
    """The greatest periodicity in each row's lags, rescaled above NOISE_FLOOR: (n, COEFFICIENTS, FRAMES), 0..1."""
    chosen = periodic.gather(1, lags.expand(len(periodic), -1).unsqueeze(2).expand(-1, -1, FRAMES))  # (n, rows, FRAMES)
    rows = [part.amax(dim=1) for part in torch.split(chosen, lags_per_row, dim=1)]
    return ((torch.stack(rows, dim=1) - NOISE_FLOOR) / (1 - NOISE_FLOOR)).clamp(0, 1)


def _slope(red: Tensor) -> Tensor:
    """The slope of the envelope by regression over five frames (Furui, 1986), 0..1: (n, COEFFICIENTS, FRAMES)."""
    held = functional.pad(red, (2, 2), mode="replicate")
    slope = (2 * (held[..., 4:] - held[..., :-4]) + held[..., 3:-1] - held[..., 1:-3]) / 10  # of the scale, a frame
    return (slope * (HIGHEST_DB - LOWEST_DB) / (2 * SLOPE_DB) + 0.5).clamp(0, 1)


@dataclass(frozen=True)
class _Tables:
    """Constants on one device."""

    power: Tensor  # that each byte stands for, (256,)
    warps: Tensor  # weights of the mel bands in each row, for each warp, (WARPS, COEFFICIENTS, BANDS)
    band_warps: Tensor  # the same with a row for each mel band, (WARPS, BANDS, BANDS)
    lags: Tensor  # of all rows, one after the other
    lags_per_row: list[int]


@functools.cache
def _tables(device: torch.device) -> _Tables:
    power = 10 ** ((np.arange(256) / 255 - 1 + HEADROOM) * RANGE_DB / 10)
    power[0] = 0.0
    factors = np.exp(np.linspace(-WARP_RANGE, WARP_RANGE, WARPS))  # of resonances
    warps, bands = (
        np.stack([triangles(edges / factor, voice_features.band_hz()) for factor in factors])
        for edges in (envelope_edges(), voice_features.band_edges())
    )
    for weights in (warps, bands):
        weights /= np.maximum(weights.sum(axis=2, keepdims=True), 1e-6)
    edges = np.rint(np.log(TOP_HZ / pitch_edges()) / LAG_STEP).astype(int)
    return _Tables(
        power=torch.tensor(power, dtype=torch.float32, device=device),
        warps=torch.tensor(warps, dtype=torch.float32, device=device),
        band_warps=torch.tensor(bands, dtype=torch.float32, device=device),
        lags=torch.arange(int(edges[0]), int(edges[-1]), device=device),
        lags_per_row=np.diff(edges).tolist(),
    )

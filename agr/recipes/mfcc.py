"""The recipes `mfcc` and `mfcc48` of the paper: Mel-frequency cepstra of one second, coloured by viridis, as JPEG.

    images = MFCC.images(MFCC.decode(MFCC.encode(y))[None])      # y: mono float32 at 16 kHz

The steps follow librosa's and matplotlib's definitions: a Slaney mel scale and normalisation (Slaney, Auditory
Toolbox, 1998), an orthonormal DCT-II, a sinusoidal lifter (Juang et al., 1987), the viridis colour map, JPEG at
Pillow's default quality. `agr.recipes.mfcc_reference` makes the same images by calling those libraries, which is
several times slower.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agr.recipes.base import COEFFICIENTS, IMAGE_SHAPE, Bytes, Clip, Placed, Recipe, Weights, hann, offset, triangles

_HEX = """
44015444025544035745055845065a45085b46095c460b5e460c5f460e61470f6247116347126547146647156747166947186a48196b481a6c
481c6e481d6f481e70482071482172482273482374472575472676472777472878472a79472b7a472c7b462d7c462f7c46307d46317e45327f
45347f453580453681443781443982433a83433b83433c84423d84423e854240854141864142864043874044873f45873f47883e48883e4989
3d4a893d4b893d4c893c4d8a3c4e8a3b508a3b518a3a528b3a538b39548b39558b38568b38578c37588c37598c365a8c365b8c355c8c355d8c
345e8d345f8d33608d33618d32628d32638d31648d31658d31668d30678d30688d2f698d2f6a8d2e6b8e2e6c8e2e6d8e2d6e8e2d6f8e2c708e
2c718e2c728e2b738e2b748e2a758e2a768e2a778e29788e29798e287a8e287a8e287b8e277c8e277d8e277e8e267f8e26808e26818e25828e
25838d24848d24858d24868d23878d23888d23898d22898d228a8d228b8d218c8d218d8c218e8c208f8c20908c20918c1f928c1f938b1f948b
1f958b1f968b1e978a1e988a1e998a1e998a1e9a891e9b891e9c891e9d881e9e881e9f881ea0871fa1871fa2861fa38620a48520a58521a685
21a78422a78423a88323a98224aa8225ab8126ac8127ad8028ae7f29af7f2ab07e2bb17d2cb17d2eb27c2fb37b30b47a32b57a33b67935b778
36b87738b97639b9763bba753dbb743ebc7340bd7242be7144be7045bf6f47c06e49c16d4bc26c4dc26b4fc36951c46853c56755c66657c665
59c7645bc8625ec96160c96062ca5f64cb5d67cc5c69cc5b6bcd596dce5870ce5672cf5574d05477d05279d1517cd24f7ed24e81d34c83d34b
86d44988d5478bd5468dd64490d64392d74195d73f97d83e9ad83c9dd93a9fd938a2da37a5da35a7db33aadb32addc30afdc2eb2dd2cb5dd2b
b7dd29bade27bdde26bfdf24c2df22c5df21c7e01fcae01ecde01dcfe11cd2e11bd4e11ad7e219dae218dce218dfe318e1e318e4e318e7e419
e9e419ece41aeee51bf1e51cf3e51ef6e61ff8e621fae622fde724
"""
VIRIDIS: NDArray[np.uint8] = np.frombuffer(bytes.fromhex(_HEX), dtype=np.uint8).reshape(256, 3)
BATCH = 32  # images computed at once, in about 60 MB


@dataclass(frozen=True, kw_only=True)
class MfccRecipe(Recipe):
    """Mel-frequency cepstral coefficients (MFCCs) of one window."""

    kind, suffix = "JPEG", ".jpg"
    stored_shape = IMAGE_SHAPE
    chosen_for = "sound"
    silence = (68, 1, 84)  # the lowest colour of viridis

    seconds: float = 0.9999583
    pre_emphasis: float = 0.97  # coefficient of the first-order filter
    window_seconds: float = 0.025  # length of an analysis frame
    n_mels: int = 40
    n_mfcc: int = COEFFICIENTS
    lifter: int = 22  # length of the sinusoidal lifter, in coefficients
    top_db: float = 80.0  # dynamic range kept below the loudest value, in decibels
    jpeg_quality: int = 75  # 1 to 95

    @property
    def n_samples(self) -> int:
        """Samples in one window of `seconds`."""
        return int(self.seconds * self.sample_rate)

    @property
    def win_length(self) -> int:
        """Samples in one analysis frame; the FFT is as long."""
        return round(self.window_seconds * self.sample_rate)

    @property
    def first_frame(self) -> float:
        """Half an analysis frame: it starts with the second."""
        return self.window_seconds / 2

    def encode(self, y: Clip) -> bytes:
        """A colour JPEG, 98 x 12 pixels, of the loudest second."""
        return jpegs(place(y, self)[None], self)[0]

    def images(self, stored: Bytes) -> Bytes:
        """The stored images as they are: (n, *IMAGE_SHAPE), uint8."""
        return stored.reshape(-1, *IMAGE_SHAPE)

    def place(self, y: Clip) -> Placed:
        """The loudest second."""
        window = place(y, self)
        return Placed(offset(y, window) / self.sample_rate, self.decode(jpegs(window[None], self)[0]))

    def windows(self, clips: Sequence[Clip]) -> Iterator[tuple[Bytes, Weights]]:
        """Windows of equal weight; those of several clips are computed together."""
        cuts = [windows(y, self) for y in clips]
        every = [window for cut in cuts for window in cut]
        batches = (np.stack(every[at : at + BATCH]) for at in range(0, len(every), BATCH))
        images = np.stack([self.decode(data) for batch in batches for data in jpegs(batch, self)])
        for own in np.split(images, np.cumsum([len(cut) for cut in cuts])[:-1]):
            yield own, np.full(len(own), 1 / len(own))


MFCC = MfccRecipe(name="mfcc", version=1, sample_rate=16_000)
MFCC48 = replace(MFCC, name="mfcc48", sample_rate=48_000)


def place(y: NDArray[np.float32], recipe: MfccRecipe) -> NDArray[np.float32]:
    """Bring a clip to exactly one window: (n,) to (n_samples,), both float32.

    A short clip is padded with zeros, as many of them before it as a hash of its 16-bit samples says, so that the same
    clip always has the same image. Of a long clip, the window with most energy around the clip's mean is kept.
    """
    excess = len(y) - recipe.n_samples
    if excess > 0:
        blocks = np.pad(y - y.mean(), (0, -len(y) % recipe.hop_length)).reshape(-1, recipe.hop_length)
        energy = np.einsum("ij,ij->i", blocks, blocks).astype(np.float64)  # of each hop
        hops = -(-recipe.n_samples // recipe.hop_length)  # of a window
        loudest = int(np.convolve(energy, np.ones(hops), mode="valid").argmax())
        start = min(excess, loudest * recipe.hop_length)
        return y[start : start + recipe.n_samples]
    pcm = np.round(np.clip(y, -1, 1) * 32767).astype("<i2")
    before = int.from_bytes(hashlib.blake2b(pcm.tobytes(), digest_size=8).digest(), "big") % (1 - excess)
    return np.pad(y, (before, -excess - before))


def windows(y: NDArray[np.float32], recipe: MfccRecipe) -> list[NDArray[np.float32]]:
    """Cut a clip into one or more windows, (n_samples,), that overlap by half; the last one ends with the clip.

    Windows of constant samples are left out.
    """
    if len(y) <= recipe.n_samples:
        return [place(y, recipe)]
    last = len(y) - recipe.n_samples
    starts = [*range(0, last, recipe.n_samples // 2), last]
    cut = [y[start : start + recipe.n_samples] for start in starts]
    return [window for window in cut if np.ptp(window) > 0] or [place(y, recipe)]


def mfcc(y: NDArray[np.floating[Any]], recipe: MfccRecipe) -> NDArray[np.float64]:
    """Mel-frequency cepstral coefficients of windows: (batch, n_samples) to (batch, n_mfcc, frames), float64."""
    y = np.asarray(y, dtype=np.float64)
    before = np.concatenate([2 * y[:, :1] - y[:, 1:2], y[:, :-1]], axis=1)  # the first one is extrapolated linearly
    frames = np.lib.stride_tricks.sliding_window_view(y - recipe.pre_emphasis * before, recipe.win_length, axis=-1)
    frames = frames[:, :: recipe.hop_length]  # (batch, frames, win_length)
    spectrum = np.fft.rfft(frames * hann(recipe.win_length))
    power = spectrum.real**2 + spectrum.imag**2  # (batch, frames, bins)
    mel = power @ mel_filters(recipe.sample_rate, recipe.win_length, recipe.n_mels).T  # (batch, frames, n_mels)
    db = 10.0 * np.log10(np.maximum(mel, 1e-10))
    db = np.maximum(db, db.max(axis=(1, 2), keepdims=True) - recipe.top_db)
    return np.asarray((db @ _cepstrum(recipe)).transpose(0, 2, 1))


def colour(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Colour each matrix from its minimum to its maximum by viridis: (batch, rows, columns) to (..., 3), uint8.

    A constant matrix gets the lowest colour.
    """
    low = values.min(axis=(1, 2), keepdims=True)
    span = values.max(axis=(1, 2), keepdims=True) - low
    scaled = (values - low) / np.where(span > 0, span, 1.0)
    return np.asarray(VIRIDIS[np.minimum((scaled * len(VIRIDIS)).astype(np.intp), len(VIRIDIS) - 1)])


def jpegs(y: NDArray[np.float32], recipe: MfccRecipe) -> list[bytes]:
    """The JPEG files of a batch of windows, (batch, n_samples)."""
    return [recipe.write(image, quality=recipe.jpeg_quality) for image in colour(mfcc(y, recipe))]


@functools.cache
def mel_filters(sample_rate: int, n_fft: int, n_mels: int) -> NDArray[np.float64]:
    """Triangular filters of equal area on Slaney's mel scale: shape (n_mels, n_fft // 2 + 1), float64."""
    linear_hz, knee_hz, log_step = 200 / 3, 1000.0, np.log(6.4) / 27  # linear below 1 kHz, then 27 steps for x 6.4
    knee = knee_hz / linear_hz
    mel = np.linspace(0.0, knee + np.log(sample_rate / 2 / knee_hz) / log_step, n_mels + 2)
    edges = np.where(mel < knee, mel * linear_hz, knee_hz * np.exp(log_step * (mel - knee)))
    heights = 2.0 / (edges[2:] - edges[:-2])
    return np.asarray(triangles(edges, np.fft.rfftfreq(n_fft, 1 / sample_rate)) * heights[:, None])


@functools.cache
def _cepstrum(recipe: MfccRecipe) -> NDArray[np.float64]:
    """Orthonormal DCT-II and lifter in one matrix: shape (n_mels, n_mfcc)."""
    band, order = np.arange(recipe.n_mels)[:, None], np.arange(recipe.n_mfcc)[None, :]
    dct = np.cos(np.pi * (band + 0.5) * order / recipe.n_mels) * np.sqrt(2.0 / recipe.n_mels)
    dct[:, 0] /= np.sqrt(2.0)
    lift = 1.0 + recipe.lifter / 2 * np.sin(np.pi * (np.arange(recipe.n_mfcc) + 1) / recipe.lifter)
    return np.asarray(dct * lift)

"""Phonemes of the ten spoken digits, with published formants of men and women.

The vowel means are Table V of Hillenbrand, Getty, Clark & Wheeler (1995), JASA 97(5), 3099-3111 (45 men, 48 women,
h-V-d syllables). Consonant loci are close to the male values of Klatt (1980), JASA 67(3), 971-995; a woman's are those
times the mean ratio of women to men in the vowel table. Durations and levels were set by inspecting spectrograms.

Limit: one accent, one pronunciation of each digit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Formants = tuple[float, ...]  # F1 to F4 in Hz
FRAME_SECONDS = 0.005
VOWELS: dict[str, tuple[Formants, Formants]] = {  # of men and of women, at the steady state
    "iy": ((342, 2322, 3000, 3657), (437, 2761, 3372, 4352)),
    "ih": ((427, 2034, 2684, 3618), (483, 2365, 3053, 4334)),
    "ey": ((476, 2089, 2691, 3649), (536, 2530, 3047, 4319)),
    "eh": ((580, 1799, 2605, 3677), (731, 2058, 2979, 4294)),
    "ae": ((588, 1952, 2601, 3624), (669, 2349, 2972, 4290)),
    "aa": ((768, 1333, 2522, 3687), (936, 1551, 2815, 4299)),
    "ao": ((652, 997, 2538, 3486), (781, 1136, 2824, 3923)),
    "ow": ((497, 910, 2459, 3384), (555, 1035, 2828, 3927)),
    "uh": ((469, 1122, 2434, 3400), (519, 1225, 2827, 4052)),
    "uw": ((378, 997, 2343, 3357), (459, 1105, 2735, 4115)),
    "ah": ((623, 1200, 2550, 3557), (753, 1426, 2933, 4092)),
    "er": ((474, 1379, 1710, 3334), (523, 1588, 1929, 3914)),
}
MEN, WOMEN = ({vowel: both[i] for vowel, both in VOWELS.items()} for i in (0, 1))
LOCI: dict[str, Formants] = {
    "w": (290, 610, 2150, 3300),
    "r": (310, 1060, 1380, 3300),
    "n": (480, 1340, 2470, 3500),
    "f": (340, 1100, 2080, 3400),
    "v": (220, 1100, 2080, 3400),
    "th": (320, 1290, 2540, 3500),
    "s": (320, 1390, 2530, 3500),
    "z": (240, 1390, 2530, 3500),
    "t": (400, 1600, 2600, 3500),
    "k": (300, 1990, 2850, 3500),
}
WOMEN_TO_MEN = float(np.exp(np.mean([np.log(WOMEN[vowel]) - np.log(MEN[vowel]) for vowel in MEN])))
PLACES = VOWELS | {place: (locus, tuple(hz * WOMEN_TO_MEN for hz in locus)) for place, locus in LOCI.items()}


@dataclass(frozen=True)
class Phoneme:
    """One stretch of steady articulation; amplitudes are 0..1."""

    place: str  # a key of PLACES
    seconds: float  # at tempo 1
    voicing: float = 0.0  # amplitude of glottal pulses
    aspiration: float = 0.0  # amplitude of noise at the glottis
    noise: float = 0.0  # amplitude of noise at a constriction
    noise_hz: float = 0.0  # its centre for a man
    noise_width: float = 0.0  # its bandwidth in Hz
    nasal: float = 0.0  # 1 with the velum open


PHONEMES: dict[str, Phoneme] = {
    **{vowel: Phoneme(vowel, 0.13, voicing=1.0) for vowel in MEN},
    "ax": Phoneme("ah", 0.06, voicing=0.7),
    "iy-off": Phoneme("iy", 0.09, voicing=0.8),
    "ih-off": Phoneme("ih", 0.09, voicing=0.8),
    "uw-off": Phoneme("uw", 0.10, voicing=0.7),
    "er-off": Phoneme("er", 0.11, voicing=0.7),
    "w": Phoneme("w", 0.08, voicing=0.5),
    "r": Phoneme("r", 0.08, voicing=0.6),
    "n": Phoneme("n", 0.09, voicing=0.5, nasal=1.0),
    "f": Phoneme("f", 0.10, noise=0.10, noise_hz=4800, noise_width=5000),
    "th": Phoneme("th", 0.10, noise=0.08, noise_hz=5600, noise_width=5000),
    "s": Phoneme("s", 0.12, noise=0.40, noise_hz=5700, noise_width=1400),
    "z": Phoneme("z", 0.10, voicing=0.30, noise=0.20, noise_hz=5700, noise_width=1600),
    "v": Phoneme("v", 0.07, voicing=0.35, noise=0.05, noise_hz=4800, noise_width=5000),
    "t-closed": Phoneme("t", 0.06),
    "t": Phoneme("t", 0.02, noise=0.50, noise_hz=4200, noise_width=2500),
    "k-closed": Phoneme("k", 0.06),
    "k": Phoneme("k", 0.02, noise=0.40, noise_hz=2200, noise_width=900),
    "breath": Phoneme("t", 0.04, aspiration=0.5),
}
WORDS: tuple[tuple[str, ...], ...] = (
    ("z", "ih", "r", "ow", "uw-off"),
    ("w", "ah", "n", "n"),
    ("t", "breath", "uw", "uw-off"),
    ("th", "r", "iy", "iy-off"),
    ("f", "ao", "ao", "er-off"),
    ("f", "aa", "ih-off", "v"),
    ("s", "ih", "k-closed", "k", "s"),
    ("s", "eh", "v", "ax", "n"),
    ("ey", "iy-off", "t-closed", "t", "breath"),
    ("n", "aa", "ih-off", "n"),
)


@dataclass(frozen=True)
class Noise:
    """Noise at a constriction, as in `Phoneme`."""

    start: float  # seconds
    stop: float
    level: float
    hz: float
    width: float


@dataclass(frozen=True)
class Tracks:
    """A word laid out in time, in frames of FRAME_SECONDS."""

    formants: Floats  # (frames, 4), Hz
    voicing: Floats  # (frames,), 0..1, like the next two
    aspiration: Floats
    nasal: Floats
    noises: tuple[Noise, ...]


def smooth(track: Floats, seconds: float) -> Floats:
    """Average `track`, (frames,), over a Hann window of `seconds`; its ends are extended."""
    half = round(seconds / FRAME_SECONDS / 2)
    window = np.hanning(2 * half + 3)[1:-1]  # (2 * half + 1,), without the zeros at both ends
    return np.convolve(np.pad(track, half, mode="edge"), window / window.sum(), mode="valid")


def lay_out(word: tuple[str, ...], gender: str, stretch: float, shifts: Floats, noise_scale: float) -> Tracks:
    """The articulation of a word over time: constant targets, smoothed so that neighbours blend.

    `stretch` multiplies every duration, `shifts` (phonemes, 4) each phoneme's formants, `noise_scale` the centres and
    bandwidths of the noises.
    """
    phonemes = [PHONEMES[name] for name in word]
    frames = [max(1, round(phoneme.seconds * stretch / FRAME_SECONDS)) for phoneme in phonemes]
    held = np.array([PLACES[phoneme.place][gender == "female"] for phoneme in phonemes])  # (phonemes, 4)
    formants = np.repeat(held * shifts, frames, axis=0)  # (frames, 4)

    def track(values: list[float], seconds: float) -> Floats:
        return smooth(np.repeat(np.array(values), frames), seconds)

    return Tracks(
        formants=np.stack([smooth(formants[:, i], 0.07) for i in range(4)], axis=1),
        voicing=track([phoneme.voicing for phoneme in phonemes], 0.03),
        aspiration=track([phoneme.aspiration for phoneme in phonemes], 0.02),
        nasal=track([phoneme.nasal for phoneme in phonemes], 0.03),
        noises=_noises(phonemes, frames, noise_scale),
    )


def _noises(phonemes: list[Phoneme], frames: list[int], scale: float) -> tuple[Noise, ...]:
    stops = np.cumsum(frames) * FRAME_SECONDS
    starts = stops - np.array(frames) * FRAME_SECONDS
    return tuple(
        Noise(float(start), float(stop), phoneme.noise, phoneme.noise_hz * scale, phoneme.noise_width * scale)
        for phoneme, start, stop in zip(phonemes, starts, stops, strict=True)
        if phoneme.noise > 0
    )

"""The demo corpus: ten digit-like words in synthetic voices, in AudioMNIST's layout.

No person spoke any of it, so a score on it shows that the pipeline runs and says nothing about people.

Each voice is a source-filter synthesiser: glottal pulses and breath noise through a cascade of formant resonators,
noise for fricatives and bursts beside it, then a room and a microphone. The sources of the numbers:

    formants  per vowel and gender: Hillenbrand, Getty, Clark & Wheeler (1995), JASA 97(5), 3099-3111, Table V
    pitch     the same paper: 131 Hz (men) and 220 Hz (women), with a standard deviation between speakers near 16 % and
              10 %; here 15.5 % and 12 %, so that the groups overlap. Traunmueller & Eriksson (1995): 120 and 210 Hz
    tract     a factor per speaker and one per formant (4 % and 2.5 %); F3 of one vowel varies by 5 to 7 % there
    quality   Klatt & Klatt (1990), JASA 87(2), 820-857: women have the longer open phase, the steeper spectrum and more
              breath; the amounts were chosen here
    cascade   Klatt (1980), JASA 67(3), 971-995

Limits: traits are independent of each other apart from gender, every speaker pronounces alike, and the room has no
reverberation. Real recordings are harder.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import NormalDist

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from agr import __version__
from agr.common.files import write_atomic
from agr.errors import SettingsError
from agr.synth.phonemes import PHONEMES, Tracks, lay_out
from agr.synth.phonemes import WORDS as WORDS
from agr.synth.speaker import SAMPLE_RATE as SAMPLE_RATE
from agr.synth.speaker import Voice as Voice
from agr.synth.speaker import record, speak, tract_scale

Progress = Callable[[int, int], None]  # is called with the number of finished clips and of all clips
METADATA = "audioMNIST_meta.txt"
NOTE = "SYNTHETIC.txt"
MEAN_F0 = {"female": 220.0, "male": 131.0}  # Hz
LOG_F0_SD = {"female": 0.12, "male": 0.155}
SLOWDOWN = 1.15  # durations in the tables are those of fluent speech; single digits are read more slowly
SPEECH_SECONDS = (0.335, 0.84)
PAD_SECONDS = (0.02, 0.06)


def voices(speakers: int = 24, seed: int = 0) -> list[Voice]:
    """Draw speakers named "01", "02", ..., half women, half men, in random order; an odd number has one more man.

    Pitch is drawn from equally likely slices of its distribution, one per speaker, so that a small corpus also has
    low-pitched women and high-pitched men. Raises SettingsError for fewer than 2 speakers or a negative seed.
    """
    _require("speakers", speakers, 2)
    _require("seed", seed, 0)
    rng = np.random.default_rng([seed, speakers, 1])
    groups = {"female": speakers // 2, "male": speakers - speakers // 2}
    drawn = [(gender, z) for gender, count in groups.items() for z in _sliced_normal(count, rng)]
    people = [drawn[k] for k in rng.permutation(speakers)]
    return [_draw_voice(f"{i:02d}", gender, z, rng) for i, (gender, z) in enumerate(people, start=1)]


def _sliced_normal(count: int, rng: np.random.Generator) -> list[float]:
    """One standard normal value from each of `count` equally likely slices, cut off at 2.2 in magnitude."""
    chances = (np.arange(count) + rng.random(count)) / count
    return [NormalDist().inv_cdf(float(p)) for p in np.clip(chances, 0.014, 0.986)]


def _draw_voice(speaker: str, gender: str, z: float, rng: np.random.Generator) -> Voice:
    woman = gender == "female"

    def normal(mean: float, sd: float) -> float:
        return round(float(mean + sd * np.clip(rng.standard_normal(), -2.5, 2.5)), 4)

    return Voice(
        speaker=speaker,
        gender=gender,
        f0=round(MEAN_F0[gender] * float(np.exp(LOG_F0_SD[gender] * z)), 2),
        f0_range=normal(4.0, 1.0),
        tract=normal(1.0, 0.04),
        f1=normal(1.0, 0.025),
        f2=normal(1.0, 0.025),
        f3=normal(1.0, 0.025),
        f4=normal(1.0, 0.025),
        open_quotient=normal(0.65 if woman else 0.55, 0.05),
        tilt=normal(9.0 if woman else 5.5, 2.0),
        breathiness=round(float(np.exp(normal(np.log(0.03 if woman else 0.015), 0.4))), 4),
        jitter=normal(0.006, 0.0015),
        shimmer=normal(0.03, 0.008),
        tempo=normal(1.0, 0.09),
        loudness=normal(-9.0, 3.0),
        snr=round(float(rng.uniform(25, 50)), 2),
        room_tilt=normal(0.0, 1.0),
    )


def utterance(voice: Voice, word: int, repetition: int, seed: int) -> NDArray[np.float32]:
    """Synthesise `WORDS[word]`: (samples,) mono at SAMPLE_RATE, 0.35 to 0.98 s, within -1..1.

    The result depends on the arguments only. Raises SettingsError for a word outside 0 to 9 or a negative number.
    """
    if not 0 <= word < len(WORDS):
        raise SettingsError(f"word is {word}, expected 0 to {len(WORDS) - 1}")
    _require("repetition", repetition, 0)
    _require("seed", seed, 0)
    rng = np.random.default_rng([seed, zlib.crc32(voice.speaker.encode()), word, repetition, 2])
    speech = speak(voice, _articulate(voice, WORDS[word], rng), rng)
    before, after = (rng.uniform(*PAD_SECONDS, 2) * SAMPLE_RATE).astype(int)
    return record(voice, np.pad(speech, (before, after)), rng).astype(np.float32)


def _articulate(voice: Voice, word: tuple[str, ...], rng: np.random.Generator) -> Tracks:
    own = np.array([voice.f1, voice.f2, voice.f3, voice.f4]) * voice.tract  # (4,)
    shifts = own * (1 + 0.02 * rng.standard_normal((len(word), 4)))  # (phonemes, 4)
    plain = sum(PHONEMES[name].seconds for name in word)  # at tempo 1
    seconds = np.clip(SLOWDOWN * plain / voice.tempo * np.exp(0.05 * rng.standard_normal()), *SPEECH_SECONDS)
    return lay_out(word, voice.gender, float(seconds) / plain, shifts, tract_scale(voice))


def write_demo(
    out: Path, speakers: int = 24, repetitions: int = 5, seed: int = 0, progress: Progress | None = None
) -> None:
    """Write out/data/NN/DIGIT_NN_REP.wav, out/data/audioMNIST_meta.txt and out/SYNTHETIC.txt.

    WAV files are 16-bit PCM, mono, 16 kHz. The same settings, machine and versions give the same bytes. The same call
    completes a run that was stopped: finished files are kept, and the metadata is written last. Raises SettingsError
    for fewer than 2 speakers or 1 repetition, a negative seed, or an `out` with other settings.
    """
    _require("repetitions", repetitions, 1)
    people = voices(speakers, seed)
    _claim(out, f"agr {__version__}, {speakers} speakers, {repetitions} repetitions, seed {seed}")
    clips = [(v, w, r) for v in people for w in range(len(WORDS)) for r in range(repetitions)]
    for done, (voice, word, repetition) in enumerate(clips, start=1):
        path = out / "data" / voice.speaker / f"{word}_{voice.speaker}_{repetition}.wav"
        if not path.exists():
            buffer = io.BytesIO()
            samples = utterance(voice, word, repetition, seed)
            sf.write(buffer, samples, SAMPLE_RATE, subtype="PCM_16", format="WAV")
            write_atomic(path, buffer.getvalue())
        if progress is not None:
            progress(done, len(clips))
    metadata = json.dumps({voice.speaker: _describe(voice) for voice in people}, indent=1)
    write_atomic(out / "data" / METADATA, metadata.encode())


def _claim(out: Path, settings: str) -> None:
    """Write SYNTHETIC.txt, or check that the existing one names the same settings."""
    note = out / NOTE
    text = "Every voice in this folder is synthetic; results on it prove nothing about people.\n"
    text += f"Made by python -m agr.synth ({settings}).\n"
    if not note.exists():
        write_atomic(note, text.encode())
    elif (found := note.read_text(encoding="utf-8")) != text:
        made = found.strip().rpartition("(")[2].rstrip(").") or "nothing"
        raise SettingsError(f"{note}: found {made}, expected {settings}; name another folder")


def _describe(voice: Voice) -> dict[str, object]:
    """AudioMNIST's metadata of one speaker, and the settings of the voice."""
    unknown = dict.fromkeys(("age", "native speaker", "origin", "recordingdate", "recordingroom"), "-")
    known = {"accent": "synthetic", "gender": voice.gender, "synthetic": True, "voice": asdict(voice)}
    return dict(sorted((unknown | known).items()))


def _require(name: str, value: int, least: int) -> None:
    if value < least:
        raise SettingsError(f"{name} is {value}, expected {least} or more")

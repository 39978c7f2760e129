"""Speech detection on generated sounds, synthetic voices and, where they are installed, real recordings."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
from numpy.typing import NDArray

from agr.audio import read as audio
from agr.recipes import periodicity, speech, voice_features
from agr.recipes.speech import Cues
from agr.recipes.voice import VOICE

RATE = VOICE.sample_rate
Sound = NDArray[np.float64]

SPOKEN_WORD = Cues(30, 0.5, 0.85, 9, 3.0, 2.0, 2.5, 3.0, steadiness=0.05)


def seconds(y: Sound) -> float:
    return speech.speech_seconds(y.astype(np.float32), VOICE)


def times(length: float, rate: int = RATE) -> Sound:
    return np.arange(round(length * rate)) / rate


def noise(length: float, slope: float, seed: int) -> Sound:
    """Noise whose power falls as frequency to the power of `slope`: 0 white, 1 pink, 2 brown."""
    n = round(length * RATE)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(n))
    y = np.fft.irfft(spectrum * np.maximum(np.fft.rfftfreq(n, 1 / RATE), 20.0) ** (-slope / 2), n)
    return np.asarray(0.2 * y / np.abs(y).max())


def harmonics(hz: Sound | float, length: float, count: int = 20, tilt: float = 1.0) -> Sound:
    """Partials of a pitch, steady or of every sample, `tilt` the power by which they fall."""
    pitch = np.broadcast_to(hz, times(length).shape)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    parts = [np.sin(k * phase) / k**tilt for k in range(1, count + 1) if pitch.max() * k < RATE / 2]
    return np.asarray(0.2 * np.sum(parts, axis=0))


def clicks(every: float, length: float) -> Sound:
    y = np.zeros(round(length * RATE))
    y[:: round(every * RATE)] = 0.8
    return y


def sweep(low: float, high: float, length: float) -> Sound:
    return np.geomspace(low, high, round(length * RATE))


def swings(middle: float, octaves: float, per_second: float, length: float) -> Sound:
    return np.asarray(middle * 2 ** (octaves * np.sin(2 * np.pi * per_second * times(length))))


def bowed(hz: float, length: float, depth: float) -> Sound:
    """A string with or without vibrato that sets in and ends within 60 ms."""
    t = times(length)
    fade = np.minimum(1, np.minimum(t, length - t) / 0.06)
    return fade * harmonics(hz * (1 + depth * np.sin(2 * np.pi * 5.5 * t)), length)


def plucked(hz: float, length: float, seed: int = 0) -> Sound:
    """A string by Karplus and Strong (1983, Computer Music Journal 7(2), 43-55)."""
    n, period = round(length * RATE), round(RATE / hz)
    start = np.zeros(n)
    start[:period] = np.random.default_rng(seed).uniform(-1, 1, period)
    loop = np.r_[1, np.zeros(period - 1), -0.498, -0.498]
    return np.asarray(0.2 * scipy.signal.lfilter([1], loop, start))


def keys(pairs: list[tuple[float, float]], on: float, off: float) -> Sound:
    """Pairs of tones with pauses between them, as telephones make."""
    pause = np.zeros(round(off * RATE))
    return np.concatenate([part for a, b in pairs for part in (harmonics(a, on, 1) + harmonics(b, on, 1), pause)])


NOTES = (131.0, 165.0, 196.0, 262.0, 196.0)
CHORD = (1.0, 1.26, 1.5)
SOUNDS = {
    "a slow siren": harmonics(swings(600, 0.5, 0.4, 3), 3, 1),
    "a fast siren": harmonics(swings(500, 0.3, 3, 2), 2, 1),
    "a hooter that howls": harmonics(swings(300, 0.3, 0.5, 3), 3, 12),
    "a chirp up": harmonics(sweep(100, 1_900, 2), 2, 1),
    "a chirp down": harmonics(sweep(1_500, 200, 1), 1, 1),
    "a high and a low horn": np.concatenate([harmonics(hz, 0.5, 8) for hz in (450, 600, 450, 600)]),
    "a number that is dialled": keys([(697, 1_209), (770, 1_336), (852, 1_477), (941, 1_336)] * 2, 0.1, 0.08),
    "a dial tone": keys([(350, 440)], 2.0, 0.1),
    "a busy line": keys([(480, 620)] * 4, 0.25, 0.25),
    "beeps": keys([(1_000, 1_000)] * 6, 0.15, 0.2),
    "a metronome": np.convolve(clicks(0.5, 3), harmonics(1_200, 0.05, 1) * np.exp(-times(0.05) * 90))[: 3 * RATE],
    "an organ's melody": np.concatenate([harmonics(hz, 0.3, 8) for hz in NOTES]),
    "an organ's chords": np.concatenate([sum(harmonics(hz * k, 0.6, 8) for k in CHORD) for hz in NOTES]),
    "a guitar's melody": np.concatenate([plucked(hz, 0.3) for hz in NOTES]),
    "a guitar's chords": np.concatenate([sum(plucked(hz * k, 0.6, 3) for k in CHORD) for hz in NOTES]),
    "a violin's note": bowed(392, 1.5, 0.0),
    "a violin's note with vibrato": bowed(392, 1.5, 0.01),
    "a cello's melody": np.concatenate([bowed(hz, 0.5, 0.0) for hz in NOTES]),
    "a cello's melody with vibrato": np.concatenate([bowed(hz, 0.5, 0.006) for hz in NOTES]),
}


@pytest.mark.parametrize("hiss", [0.0, 0.01], ids=["clean", "hiss"])
@pytest.mark.parametrize("y", SOUNDS.values(), ids=SOUNDS.keys())
def test_signals_and_instruments_are_no_speech(y: Sound, hiss: float) -> None:
    level = hiss * np.sqrt(np.mean(y**2))
    assert seconds(y + level * np.random.default_rng(0).standard_normal(len(y))) == 0


@pytest.mark.parametrize("length", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("slope", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_noise_is_no_speech(slope: float, length: float, seed: int) -> None:
    assert seconds(noise(length, slope, seed)) == 0


@pytest.mark.parametrize("per_second", [2, 4, 6])
@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_noise_that_swells_as_syllables_do_is_no_speech(slope: float, per_second: float) -> None:
    swell = np.sin(np.pi * per_second * times(2)) ** 4
    assert seconds(noise(2, slope, 0) * swell) == 0


@pytest.mark.parametrize("hz", [50, 60, 100, 120])
@pytest.mark.parametrize("hiss", [0.0, 0.003])
def test_hum_is_no_speech(hz: float, hiss: float) -> None:
    y = harmonics(hz, 2.0)
    assert seconds(y + hiss * np.random.default_rng(0).standard_normal(len(y))) == 0


@pytest.mark.parametrize("hz", [80, 150, 220, 440, 1_000, 2_000])
@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize("pause", [0.0, 0.5])
def test_a_tone_is_no_speech(hz: float, count: int, pause: float) -> None:
    assert seconds(np.pad(harmonics(hz, 1.5, count), round(pause * RATE))) == 0


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_a_tone_recorded_at_another_rate_is_no_speech(rate: int) -> None:
    y = 0.3 * np.sin(2 * np.pi * 220 * times(1, rate))
    assert seconds(audio.resample(y.astype(np.float32), rate, RATE).astype(np.float64)) == 0


@pytest.mark.parametrize("every", [0.01, 0.1, 0.5])
def test_clicks_are_no_speech(every: float) -> None:
    assert seconds(clicks(every, 2.0)) == 0


@pytest.mark.parametrize("length", [0.1, 0.3, 2.0])
def test_dither_is_no_speech(length: float) -> None:
    y = np.round(np.random.default_rng(0).uniform(-1, 1, round(length * RATE))) / 32_768
    assert seconds(y) == 0


@pytest.mark.parametrize("frames", [1, 2, 5, 12, 13, 200])
def test_features_of_silence_hold_no_speech(frames: int) -> None:
    nothing = np.zeros((voice_features.ROWS, frames), dtype=np.uint8)
    assert not speech.is_speech(speech.measure_cues(nothing))
    assert speech.measure_cues(nothing).voiced_frames == 0


@pytest.fixture(scope="module")
def voices_8k(demo_root: Path) -> list[Sound]:
    return [audio.load(path, RATE).astype(np.float64) for path in audio.find(demo_root)]


def hiss_below(y: Sound, number: int) -> Sound:
    hiss = np.random.default_rng(number).standard_normal(len(y))
    return np.asarray(y + hiss * np.sqrt(np.mean(y**2) / 10))


def hum_below(y: Sound, number: int) -> Sound:
    hum = harmonics((50, 60)[number % 2], len(y) / RATE)[: len(y)]
    return np.asarray(y + hum * np.sqrt(np.mean(y**2) / np.mean(hum**2) / 100))


def telephone(y: Sound, number: int) -> Sound:
    return np.asarray(scipy.signal.sosfilt(scipy.signal.butter(4, [300, 3_400], "band", fs=RATE, output="sos"), y))


def in_a_pause(y: Sound, number: int) -> Sound:
    return hum_below(np.pad(y, (2 * RATE, RATE)), number)


@pytest.mark.parametrize("change", [hiss_below, hum_below, telephone, in_a_pause])
def test_voices_in_noise_hum_and_telephones_are_speech(
    voices_8k: list[Sound], change: Callable[[Sound, int], Sound]
) -> None:
    lost = [seconds(change(y, number)) == 0 for number, y in enumerate(voices_8k)]
    assert sum(lost) <= 0.03 * len(lost)


def test_voices_are_speech(voices_8k: list[Sound]) -> None:
    assert sum(seconds(y) == 0 for y in voices_8k) <= 0.02 * len(voices_8k)


def test_loudness_does_not_matter(voices_8k: list[Sound]) -> None:
    assert seconds(voices_8k[0]) == pytest.approx(seconds(voices_8k[0] / 50), abs=0.02) != 0


def test_a_pause_adds_no_speech(voices_8k: list[Sound]) -> None:
    assert seconds(np.pad(voices_8k[0], (RATE, 2 * RATE))) == pytest.approx(seconds(voices_8k[0]), abs=0.03)


def test_twice_the_words_are_twice_the_speech(voices_8k: list[Sound]) -> None:
    one, two = voices_8k[0], np.concatenate([voices_8k[0], np.zeros(RATE // 2), voices_8k[0]])
    assert seconds(two) == pytest.approx(2 * seconds(one), abs=0.04)


def real_voices(archive: Path, step: int) -> Iterator[Sound]:
    with tarfile.open(archive, "r|gz") as tar:
        for number, member in enumerate(member for member in tar if member.name.endswith(".wav")):
            file = tar.extractfile(member) if number % step == 0 else None
            if file is not None:
                yield audio.load(file.read(), RATE, member.name).astype(np.float64)


def test_real_recordings_are_speech(real_archive: Path) -> None:
    lost = [seconds(y) == 0 for y in real_voices(real_archive, 23)]
    assert len(lost) >= 90
    assert sum(lost) <= 1


@pytest.mark.parametrize(
    "change",
    [
        {"voiced_frames": 2},
        {"voiced_share": 0.05},
        {"periodicity": 0.60, "slow_spectral_change": 2.0},
        {"periodicity": 0.75, "steadiness": 0.5},
        {"bandwidth": 3},
        {"pitch_change": 0.4, "steadiness": 0.3},
        {"pitch_change": 1.0, "voiced_frames": 41},
        {"pitch_change": 2.0, "voiced_frames": 121},
        {"level_change": 0.5},
        {"spectral_change": 1.0, "slow_spectral_change": 0.5, "steadiness": 0.4},
    ],
    ids=lambda change: " ".join(change),
)
def test_each_rule_can_reject_a_spoken_word(change: dict[str, float]) -> None:
    assert speech.is_speech(SPOKEN_WORD)
    assert not speech.is_speech(replace(SPOKEN_WORD, **change))  # type: ignore[arg-type]


def test_rules_are_less_strict_for_a_short_word() -> None:
    flat = replace(SPOKEN_WORD, pitch_change=0.7, level_change=0.5)
    assert not speech.is_speech(flat)
    assert speech.is_speech(replace(flat, voiced_frames=20))


def test_cues_of_a_gliding_buzz_match_how_it_was_made() -> None:
    rise = 2 ** (times(1) * 0.5)  # half an octave a second
    y = harmonics(150 * rise, 1) * (0.2 + 0.8 * times(1))  # 14 dB louder in the end
    found = speech.measure_cues(voice_features.extract(y.astype(np.float32), VOICE, periodicity.yin_periodicity))
    # the quiet start counts as background
    assert found.voiced_frames * speech.FRAME_SECONDS == pytest.approx(1, abs=0.25)
    assert found.periodicity > 0.95
    assert found.pitch_change == pytest.approx(100 * 0.5 * np.log(2) * 0.04, rel=0.15)
    assert found.voiced_share == 1


@pytest.mark.parametrize("part", [3, 50, 98, 150])
def test_cues_measured_in_chunks_equal_those_measured_at_once(
    part: int, voices: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    y = np.concatenate([audio.load(path, VOICE.sample_rate) for path in voices[:4]])
    found = voice_features.extract(y, VOICE, periodicity.yin_periodicity)
    whole = speech.measure_cues(found)
    monkeypatch.setattr(speech, "CHUNK_FRAMES", part)
    assert asdict(speech.measure_cues(found)) == pytest.approx(asdict(whole), rel=1e-5)

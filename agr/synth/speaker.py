"""One synthetic speaker: glottal source, vocal tract and microphone; `agr.synth.demo` names the papers.

All random numbers are drawn from the generator that is passed in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter, sosfilt

from agr.synth.phonemes import FRAME_SECONDS, WOMEN_TO_MEN, Floats, Noise, Tracks

SAMPLE_RATE = 16_000
FRAME = round(FRAME_SECONDS * SAMPLE_RATE)


@dataclass(frozen=True)
class Voice:
    """One synthetic speaker with a microphone."""

    speaker: str
    gender: str
    f0: float  # mean pitch in Hz
    f0_range: float  # its fall through a word, in semitones
    tract: float  # factor on all formants
    f1: float  # factor on the first formant; f2 to f4 likewise
    f2: float
    f3: float
    f4: float
    open_quotient: float  # open share of a glottal period
    tilt: float  # loss of the source at 3 kHz, in dB
    breathiness: float  # breath noise relative to the pulses
    jitter: float  # mean relative change of period from one cycle to the next
    shimmer: float  # mean relative change of amplitude from one cycle to the next
    tempo: float  # factor on speed
    loudness: float  # peak in dB re full scale
    snr: float  # in dB
    room_tilt: float  # slope of the microphone, in dB per octave


def tract_scale(voice: Voice) -> float:
    """Resonance frequencies of this tract relative to the average man's; near 1.16 for a woman."""
    return voice.tract * (WOMEN_TO_MEN if voice.gender == "female" else 1.0)


def speak(voice: Voice, tracks: Tracks, rng: np.random.Generator) -> Floats:
    """The word at the lips, (samples,), with its voiced part near an RMS of 1."""
    speech = _vocal_tract(voice, tracks, _source(voice, tracks, rng))
    speech /= np.sqrt(np.mean(speech[_per_sample(tracks.voicing) > 0.5] ** 2))
    for noise in tracks.noises:
        _add_frication(speech, noise, rng)
    fade = np.minimum(np.arange(speech.size) / (0.02 * SAMPLE_RATE), 1.0)
    return speech * fade * fade[::-1]


def _source(voice: Voice, tracks: Tracks, rng: np.random.Generator) -> Floats:
    """Glottal pulses and breath, (samples,)."""
    phase = np.cumsum(_pitch(voice, tracks.voicing, rng)) / SAMPLE_RATE  # cycles since the start
    moved = voice.jitter / 1.95 * rng.standard_normal(int(phase[-1]) + 2)  # E|d0 - 2 d1 + d2| = 1.95 sd
    phase = np.maximum(phase + np.interp(phase, np.arange(moved.size), moved), 0.0)  # the ends of cycles are moved
    cycle = phase.astype(np.int64)
    x = (phase - cycle) / voice.open_quotient
    # KLGLOTT88 flow; differences between samples average its derivative, which aliases less
    loud = 1 + voice.shimmer / 1.13 * rng.standard_normal(int(cycle[-1]) + 1)  # E|a - b| = 1.13 sd
    flow = np.where(x < 1, x**2 - x**3, 0.0) * loud[cycle]
    gain = 10 ** (-max(voice.tilt, 1e-3) / 10)
    b = (1 - gain * np.cos(2 * np.pi * 3000 / SAMPLE_RATE)) / (1 - gain)
    keep = float(b - np.sqrt(b**2 - 1))  # the pole of a low-pass that loses `tilt` dB at 3 kHz
    pulses = lfilter([1 - keep], [1, -keep], np.diff(flow, prepend=0.0))
    pulses /= np.sqrt(np.mean(pulses**2))
    breath = rng.standard_normal(phase.size)
    voiced = _per_sample(tracks.voicing)
    return np.asarray(
        voiced * (pulses + voice.breathiness * breath * np.where(x < 1, 1.4, 0.5))
        + 0.25 * _per_sample(tracks.aspiration) * breath
    )


def _pitch(voice: Voice, voicing: Floats, rng: np.random.Generator) -> Floats:
    """Pitch in Hz, (samples,): a fall and a slow wave around the voice's own, slightly different each time."""
    u = np.linspace(0, 1, voicing.size)
    wave = 0.6 * rng.standard_normal() * np.sin(2 * np.pi * (u * rng.uniform(0.5, 1.5) + rng.random()))
    semitones = -voice.f0_range * u + wave
    semitones -= np.average(semitones, weights=voicing)
    semitones += 0.5 * rng.standard_normal()  # shifts this repetition as a whole
    return voice.f0 * np.exp2(_per_sample(semitones) / 12)


def _vocal_tract(voice: Voice, tracks: Tracks, source: Floats) -> Floats:
    """`source` (samples,) through the nose and a cascade of F7 to F1.

    Constant resonances are filtered at once; F4 to F1 get new coefficients in each frame. They come last, so that the
    residue of a step between frames passes no higher resonance.
    """
    scale = tract_scale(voice)
    out = _nose(source, tracks.nasal, scale)
    upper = np.minimum(np.array([6500.0, 5500.0, 4500.0]) * scale, 7700.0)
    out = np.asarray(sosfilt(_sections(upper, voice), out))
    return _moving(_sections(tracks.formants[:, ::-1], voice), out)  # F4 first


def _nose(source: Floats, nasal: Floats, scale: float) -> Floats:
    """A pole at 270 Hz and a zero that cancels it or, with the velum open, lies at 450 Hz (Klatt 1980)."""
    hz = 270 * scale
    pole = _resonators(np.array(hz), np.array(100.0))  # (3,)
    zero = _resonators(hz + 180 * scale * _per_sample(nasal), np.array(100.0))  # (samples, 3)
    zero *= pole.sum() / zero.sum(axis=1, keepdims=True)
    delayed = np.pad(source, (2, 0))
    dipped = zero[:, 0] * source + zero[:, 1] * delayed[1:-1] + zero[:, 2] * delayed[:-2]
    return np.asarray(lfilter([1.0], pole, dipped))


def _moving(sections: Floats, source: Floats) -> Floats:
    """`source` (samples,) through `sections` (frames, sections, 6) without zeros, a set for each frame.

    The state of `sosfilt` is past outputs times coefficients. It is rewritten at each new frame for the same past
    outputs and the new coefficients, because otherwise every step would click.
    """
    a1, a2 = sections[..., 4], sections[..., 5]
    ratio = a2[1:] / a2[:-1]  # (frames - 1, sections)
    mixed = (a1[1:] - ratio * a1[:-1]) / a2[:-1]
    state = np.zeros((sections.shape[1], 2))
    out = np.empty_like(source)
    for i, sos in enumerate(sections):
        block = slice(i * FRAME, (i + 1) * FRAME)
        if i:
            state[:, 0] = ratio[i - 1] * state[:, 0] + mixed[i - 1] * state[:, 1]
            state[:, 1] *= ratio[i - 1]
        out[block], state = sosfilt(sos, source[block], zi=state)
    return out


def _sections(hz: Floats, voice: Voice) -> Floats:
    """Resonators at `hz` as second-order sections (..., 6) with gain 1 at 0 Hz."""
    width = (1.5 if voice.gender == "female" else 1.2) * 50 * (1 + hz**2 / 6e6)  # 60 Hz at F1, 200 and more above F4
    poles = _resonators(hz, width)
    zeros = np.zeros_like(poles)
    zeros[..., 0] = poles.sum(axis=-1)
    return np.concatenate([zeros, poles], axis=-1)


def _resonators(hz: Floats, width: Floats) -> Floats:
    """Denominators (..., 3) of two-pole resonators at `hz`, `width` Hz wide; sum: 1 / gain at 0 Hz."""
    radius = np.exp(-np.pi * width / SAMPLE_RATE)
    middle = -2 * radius * np.cos(2 * np.pi * hz / SAMPLE_RATE)
    return np.stack([np.ones_like(middle), middle, np.broadcast_to(radius**2, middle.shape)], axis=-1)


def _add_frication(speech: Floats, noise: Noise, rng: np.random.Generator) -> None:
    """Add noise around one frequency to `speech` in place, faded in and out within 15 ms."""
    start, stop = round(noise.start * SAMPLE_RATE), round(noise.stop * SAMPLE_RATE)
    poles = _resonators(np.array(min(noise.hz, 7200.0)), np.array(noise.width))
    shaped = lfilter([1, -1], poles, rng.standard_normal(stop - start))
    edge = np.minimum(np.arange(stop - start), np.arange(stop - start)[::-1]) / (0.015 * SAMPLE_RATE)
    level = noise.level * float(np.exp(0.1 * rng.standard_normal())) / np.sqrt(np.mean(shaped**2))
    speech[start:stop] += level * np.minimum(edge, 1.0) * shaped


def record(voice: Voice, speech: Floats, rng: np.random.Generator) -> Floats:
    """Record `speech`, (samples,), with noise floor, slope and level of room and microphone; within -1..1."""
    power = np.mean(speech**2) * 10 ** (-voice.snr / 10)
    noisy = speech + np.sqrt(power) * rng.standard_normal(speech.size)
    hz = np.fft.rfftfreq(noisy.size, 1 / SAMPLE_RATE)
    octaves = np.log2(np.maximum(hz, 60.0) / 1000)
    slope = 10 ** (voice.room_tilt * octaves / 20) * np.minimum(hz / 60, 1.0)  # nothing at 0 Hz
    recorded = np.fft.irfft(np.fft.rfft(noisy) * slope, n=noisy.size)
    level = min(voice.loudness + 1.5 * rng.standard_normal(), -1.0)
    return np.asarray(recorded * (10 ** (level / 20) / np.abs(recorded).max()))


def _per_sample(track: Floats) -> Floats:
    """(frames,) to (frames * FRAME,), straight lines between the middles of frames."""
    middles = (np.arange(track.size) + 0.5) * FRAME
    return np.interp(np.arange(track.size * FRAME), middles, track)

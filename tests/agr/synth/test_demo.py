"""The demo corpus: determinism, published statistics, layout and metadata."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from numpy.typing import NDArray
from scipy.linalg import solve_toeplitz

from agr.errors import SettingsError
from agr.synth import __main__ as synth_main
from agr.synth.demo import SAMPLE_RATE, WORDS, Voice, utterance, voices, write_demo
from agr.synth.phonemes import MEN, WOMEN

Samples = NDArray[np.float64]


def pitch_by_autocorrelation(samples: NDArray[np.float32]) -> float:
    """Median pitch in Hz of the clearly periodic 40 ms frames; knows nothing of how the clip was made."""
    size, low, high = 640, 60, 400
    found = []
    for start in range(0, len(samples) - size, 320):
        frame = samples[start : start + size].astype(float) - samples[start : start + size].mean()
        # each lag is compared over its own overlap, so long lags are not at a disadvantage
        lags = np.arange(SAMPLE_RATE // high, SAMPLE_RATE // low)
        match = np.array([np.corrcoef(frame[:-lag], frame[lag:])[0, 1] for lag in lags])
        if match.max() > 0.9 and frame.std() > 0.2 * samples.std():
            first = int(np.argmax(match > 0.95 * match.max()))  # the shortest of equally good lags
            peak = first + int(np.argmax(match[first : first + 8]))
            found.append(SAMPLE_RATE / lags[peak])
    return float(np.median(found))


def formants_by_prediction(samples: Samples) -> Samples:
    """F1 to F4 in Hz of one steady stretch, by linear prediction of order 18 (autocorrelation method)."""
    flat = np.append(samples[0], samples[1:] - 0.97 * samples[:-1]) * np.hamming(len(samples))
    lagged = np.correlate(flat, flat, mode="full")[len(flat) - 1 :]
    roots = np.roots(np.append(1.0, -solve_toeplitz(lagged[:18], lagged[1:19])))
    hz = np.angle(roots) * SAMPLE_RATE / (2 * np.pi)
    width = -np.log(np.abs(roots)) * SAMPLE_RATE / np.pi
    return np.sort(hz[(hz > 150) & (width < 500)])[:4]


def average_speaker(gender: str) -> Voice:
    """A low, steady, quiet voice with exactly the published formants of its gender."""
    voice = next(voice for voice in voices(2) if voice.gender == gender)
    plain = {"f0": 110.0, "f0_range": 0.5, "tract": 1.0, "f1": 1.0, "f2": 1.0, "f3": 1.0, "f4": 1.0}
    return replace(voice, **plain, snr=50.0, room_tilt=0.0)  # type: ignore[arg-type]


def tree(folder: Path) -> dict[str, bytes]:
    """Every finished file's bytes; temporary files have names that start with a dot."""
    files = [path for path in folder.rglob("[!.]*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


# --- one utterance


@pytest.mark.parametrize("word", range(10))
def test_every_word_keeps_its_length_range_and_type(word: int) -> None:
    for voice in voices(6, seed=1):
        samples = utterance(voice, word, 0, 0)
        assert samples.ndim == 1
        assert samples.dtype == np.float32
        assert 0.35 <= len(samples) / SAMPLE_RATE <= 0.98
        assert np.isfinite(samples).all()
        assert 0.02 < np.abs(samples).max() <= 1.0


@pytest.mark.parametrize("tempo", [0.5, 2.0])
def test_an_extreme_tempo_stays_within_the_promised_length(tempo: float) -> None:
    for word in range(10):
        seconds = len(utterance(replace(voices(2)[0], tempo=tempo), word, 0, 0)) / SAMPLE_RATE
        assert 0.35 <= seconds <= 0.98


def test_a_clip_depends_on_its_arguments_and_not_on_what_was_made_before() -> None:
    first, second = voices(4)[:2]
    alone = utterance(first, 3, 1, 7)
    np.random.default_rng(0).random()
    utterance(second, 5, 0, 7)
    np.testing.assert_array_equal(utterance(first, 3, 1, 7), alone)


@pytest.mark.parametrize("other", [(4, 1, 7), (3, 2, 7), (3, 1, 8)])
def test_another_word_repetition_or_seed_gives_another_clip(other: tuple[int, int, int]) -> None:
    voice = voices(2)[0]
    assert not np.array_equal(utterance(voice, *other), utterance(voice, 3, 1, 7))


def test_the_same_traits_under_another_name_give_another_clip() -> None:
    voice = voices(2)[0]
    assert not np.array_equal(utterance(replace(voice, speaker="99"), 1, 0, 0), utterance(voice, 1, 0, 0))


@pytest.mark.parametrize(("word", "repetition", "seed"), [(-1, 0, 0), (10, 0, 0), (0, -1, 0), (0, 0, -1)])
def test_numbers_out_of_range_are_refused(word: int, repetition: int, seed: int) -> None:
    with pytest.raises(SettingsError, match="expected"):
        utterance(voices(2)[0], word, repetition, seed)


def test_the_pitch_heard_is_the_pitch_asked_for() -> None:
    errors = []
    for voice in voices(6, seed=2):
        heard = [pitch_by_autocorrelation(utterance(voice, word, 0, 0)) for word in (1, 4, 9)]
        errors.append(12 * np.log2(np.mean(heard) / voice.f0))
    assert abs(np.median(errors)) < 0.7  # semitones
    assert np.abs(errors).max() < 2.0


@pytest.mark.parametrize(("gender", "table"), [("male", MEN), ("female", WOMEN)])
@pytest.mark.parametrize(("word", "vowel", "where"), [(3, "iy", 0.80), (0, "ih", 0.28), (7, "eh", 0.40)])
def test_vowels_carry_the_published_formants(
    gender: str, table: dict[str, tuple[float, ...]], word: int, vowel: str, where: float
) -> None:
    found = []
    for repetition in range(9):
        samples = utterance(average_speaker(gender), word, repetition, 0).astype(float)
        middle = int(where * len(samples))
        found.append(formants_by_prediction(samples[middle - 320 : middle + 320]))
    measured = np.median([hz for hz in found if len(hz) == 4], axis=0)
    np.testing.assert_allclose(measured, table[vowel], rtol=0.05)


# --- the speakers


@pytest.mark.parametrize("speakers", [2, 3, 24, 25])
def test_half_the_speakers_are_women(speakers: int) -> None:
    people = voices(speakers)
    assert [voice.speaker for voice in people] == [f"{i:02d}" for i in range(1, speakers + 1)]
    assert sum(voice.gender == "female" for voice in people) == speakers // 2
    assert {voice.gender for voice in people} == {"female", "male"}


def test_voices_are_individual_reproducible_and_json_able() -> None:
    people = voices(24, seed=3)
    assert people == voices(24, seed=3)
    assert people != voices(24, seed=4)
    for trait in ("f0", "tract", "breathiness", "snr", "tempo", "room_tilt"):
        assert len({getattr(voice, trait) for voice in people}) > 20
    assert [Voice(**json.loads(json.dumps(asdict(voice)))) for voice in people] == people


@pytest.mark.parametrize(("gender", "mean", "least_sd", "most_sd"), [("female", 220, 20, 30), ("male", 131, 16, 24)])
def test_group_pitch_agrees_with_hillenbrand_1995(gender: str, mean: float, least_sd: float, most_sd: float) -> None:
    f0 = np.array([voice.f0 for voice in voices(400, seed=5) if voice.gender == gender])
    assert f0.mean() == pytest.approx(mean, rel=0.03)
    assert least_sd < f0.std() < most_sd


@pytest.mark.parametrize("seed", range(5))
def test_pitch_alone_does_not_part_the_genders(seed: int) -> None:
    people = voices(24, seed)
    assert any(voice.gender == "female" and 160 < voice.f0 < 190 for voice in people)
    assert any(voice.gender == "male" and 150 < voice.f0 < 190 for voice in people)


def test_women_are_breathier_and_no_recording_trait_gives_gender_away() -> None:
    people = voices(400, seed=6)

    def mean(trait: str, gender: str) -> float:
        return float(np.mean([getattr(voice, trait) for voice in people if voice.gender == gender]))

    assert mean("breathiness", "female") > 1.5 * mean("breathiness", "male")
    for trait, tolerance in {"snr": 3.0, "loudness": 1.2, "room_tilt": 0.4, "tempo": 0.04}.items():
        assert mean(trait, "female") == pytest.approx(mean(trait, "male"), abs=tolerance)


@pytest.mark.parametrize("speakers", [-1, 0, 1])
def test_too_few_speakers_are_refused(speakers: int, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"speakers is {speakers}, expected 2 or more"):
        voices(speakers)
    with pytest.raises(SettingsError):
        write_demo(tmp_path / "demo", speakers=speakers)
    assert not (tmp_path / "demo").exists()


# --- the corpus on disk


def test_layout_and_metadata_are_audiomnists(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_demo(tmp_path, speakers=2, repetitions=2, progress=lambda done, total: seen.append((done, total)))
    wavs = sorted(path.relative_to(tmp_path / "data").as_posix() for path in tmp_path.rglob("*.wav"))
    names = [f"{nn}/{digit}_{nn}_{rep}.wav" for nn in ("01", "02") for digit in range(10) for rep in range(2)]
    assert wavs == sorted(names)
    assert seen == [(done, 40) for done in range(1, 41)]
    info = sf.info(tmp_path / "data" / "01" / "7_01_1.wav")
    assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")
    metadata = json.loads((tmp_path / "data" / "audioMNIST_meta.txt").read_text())
    assert sorted(metadata) == ["01", "02"]
    assert {entry["gender"] for entry in metadata.values()} == {"female", "male"}
    assert all(entry["synthetic"] is True and entry["accent"] == "synthetic" for entry in metadata.values())
    assert "synthetic" in (tmp_path / "SYNTHETIC.txt").read_text()


def test_a_file_holds_the_utterance_to_16_bits(tmp_path: Path) -> None:
    write_demo(tmp_path, speakers=2, repetitions=1, seed=4)
    samples, _ = sf.read(tmp_path / "data" / "02" / "5_02_0.wav", dtype="float32")
    np.testing.assert_allclose(samples, utterance(voices(2, 4)[1], 5, 0, 4), atol=1 / 2**15)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_demo(tmp_path / name, speakers=2, repetitions=1, seed=seed)
    a, b, c = (tree(tmp_path / name) for name in "abc")
    assert a == b
    assert a.keys() == c.keys()
    assert not any(a[name] == c[name] for name in a)


def test_an_interrupted_run_is_completed_and_finished_files_are_kept(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    write_demo(whole, speakers=2, repetitions=1)
    with pytest.raises(KeyboardInterrupt):
        write_demo(cut, speakers=2, repetitions=1, progress=stop)
    kept = {path: path.stat().st_mtime_ns for path in cut.rglob("*.wav")}
    assert len(kept) == 7
    assert not (cut / "data" / "audioMNIST_meta.txt").exists()
    (cut / "data" / "01" / ".7_01_0.wav.1.tmp").write_bytes(b"RIFF, and then the power went")
    write_demo(cut, speakers=2, repetitions=1)
    assert tree(cut) == tree(whole)
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())


@pytest.mark.parametrize(("speakers", "repetitions", "seed"), [(2, 1, 1), (4, 1, 0), (2, 2, 0)])
def test_a_folder_made_with_other_settings_is_refused(
    speakers: int, repetitions: int, seed: int, tmp_path: Path
) -> None:
    write_demo(tmp_path, speakers=2, repetitions=1, seed=0)
    before = tree(tmp_path)
    with pytest.raises(SettingsError, match=r"SYNTHETIC.txt: found .*2 speakers, 1 repetitions, seed 0.*expected"):
        write_demo(tmp_path, speakers, repetitions, seed)
    assert tree(tmp_path) == before


def test_command_writes_a_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert synth_main.main([str(tmp_path), "--speakers", "2", "--repetitions", "1"]) == 0
    assert "20 synthetic clips" in capsys.readouterr().out
    assert len(list(tmp_path.rglob("*.wav"))) == 20


def test_command_exits_2_for_a_value_out_of_range_with_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "agr.synth", str(tmp_path), "--repetitions", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "agr: repetitions is 0, expected 1 or more\n"


def test_there_are_ten_words_no_two_alike() -> None:
    assert len(set(WORDS)) == len(WORDS) == 10

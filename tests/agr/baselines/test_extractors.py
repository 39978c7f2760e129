"""Filtering, the feature cache, and the real libraries where they are installed."""

from __future__ import annotations

import pickle
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from agr.baselines import extractors
from agr.baselines.extractors import (
    EXTRACTORS,
    SAMPLE_RATE,
    Extract,
    Extractor,
    Recording,
    cleaned,
    extract_features,
    missing_modules,
)
from agr.baselines.ina import share_of_women
from agr.errors import AudioError

OFFSET = 0.084  # of full scale, as some phones record


class Counter:
    """A fake library that counts how often it is loaded and called."""

    def __init__(self) -> None:
        self.loaded = self.calls = 0

    def __call__(self) -> Extract:
        self.loaded += 1

        def extract(y: NDArray[np.float32]) -> NDArray[np.float64]:
            self.calls += 1
            return np.array([len(y), np.nan, np.ptp(y)])

        return extract


def extractor(load: Counter, name: str = "counter") -> Extractor:
    return Extractor(name, "Counter", "numpy", ("numpy",), load)


def tone(hz: float, seconds: float = 0.5, harmonics: int = 12) -> NDArray[np.float32]:
    """A buzz of falling harmonics on the offset, full scale 1."""
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    buzz = np.sum([np.sin(2 * np.pi * hz * k * t) / k for k in range(1, harmonics + 1)], axis=0)
    return np.asarray(0.2 * buzz + OFFSET, dtype=np.float32)


@pytest.fixture
def recordings(tmp_path: Path) -> list[Recording]:
    """Five buzzes of 0.2 to 0.6 s at 16 kHz."""
    made = []
    for k in range(5):
        path = tmp_path / "sounds" / f"{k}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, tone(150, 0.2 + 0.1 * k), SAMPLE_RATE)
        made.append(Recording(path, f"{k:032x}"))
    return made


@pytest.mark.parametrize(("hz", "kept"), [(0.0, 0.0), (15.0, 0.01), (60.0, 0.5), (120.0, 0.94), (1_000.0, 1.0)])
def test_frequencies_below_60_hz_are_removed(hz: float, kept: float) -> None:
    t = np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE
    y = np.cos(2 * np.pi * hz * t).astype(np.float32) + np.float32(OFFSET)
    out = cleaned(y)
    middle = out[SAMPLE_RATE:-SAMPLE_RATE]
    assert (out.shape, out.dtype) == (y.shape, np.dtype(np.float32))
    assert np.sqrt(2 * np.mean(middle**2, dtype=np.float64)) == pytest.approx(kept, abs=0.01)
    assert abs(middle.mean(dtype=np.float64)) < 1e-4


def test_cached_features_are_not_computed_again(recordings: list[Recording], tmp_path: Path) -> None:
    first, second = Counter(), Counter()
    vectors = extract_features(extractor(first), recordings, tmp_path / "cache")
    assert (first.loaded, first.calls) == (1, 5)
    assert vectors[:, 0].tolist() == [3_200, 4_800, 6_400, 8_000, 9_600]
    again = extract_features(extractor(second), recordings[::-1], tmp_path / "cache")
    assert (second.loaded, second.calls) == (0, 0)
    np.testing.assert_array_equal(again, vectors[::-1])  # the NaN too
    assert vectors.dtype == again.dtype == np.float64


def test_only_new_recordings_are_computed(recordings: list[Recording], tmp_path: Path) -> None:
    load = Counter()
    extract_features(extractor(load), recordings[:3], tmp_path / "cache")
    copy = Recording(recordings[4].path, recordings[0].digest)  # the same bytes somewhere else
    vectors = extract_features(extractor(load), [copy, *recordings, recordings[3]], tmp_path / "cache")
    assert load.calls == 5
    assert vectors[:, 0].tolist() == [3_200, 3_200, 4_800, 6_400, 8_000, 9_600, 8_000]


def test_another_version_extractor_or_revision_is_computed_anew(
    recordings: list[Recording], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Counter()
    extract_features(extractor(load), recordings, tmp_path)
    extract_features(extractor(load, "other"), recordings, tmp_path)
    assert load.calls == 10
    monkeypatch.setattr(metadata, "version", lambda name: {"numpy": "99.1"}[name])
    extract_features(extractor(load), recordings, tmp_path)
    assert load.calls == 15
    monkeypatch.setattr(extractors, "REVISION", -1)
    extract_features(extractor(load), recordings, tmp_path)
    assert load.calls == 20


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"not a vector at all"])
def test_damaged_cache_file_is_computed_again(recordings: list[Recording], tmp_path: Path, damage: bytes) -> None:
    load, cache = Counter(), tmp_path / "cache"
    vectors = extract_features(extractor(load), recordings, cache)
    kept = sorted(path for path in cache.rglob("*") if path.is_file())
    assert [path.name for path in kept] == [f"{recording.digest}.npy" for recording in recordings]
    kept[2].write_bytes(damage)
    np.testing.assert_array_equal(extract_features(extractor(load), recordings, cache), vectors)
    assert load.calls == 6
    extract_features(extractor(load), recordings, cache)
    assert load.calls == 6


def test_features_computed_before_a_failure_stay_cached(recordings: list[Recording], tmp_path: Path) -> None:
    load = Counter()
    recordings[3].path.unlink()
    with pytest.raises(AudioError, match=r"3\.wav"):
        extract_features(extractor(load), recordings, tmp_path / "cache")
    extract_features(extractor(load), recordings[:3], tmp_path / "cache")
    assert load.calls == 3


def test_a_missing_library_is_one_line() -> None:
    lacking = Extractor("ghost", "Ghost", "ghost-voice", ("ghost_a", "numpy", "ghost_b"), Counter())
    assert missing_modules(lacking) == "ghost_a, ghost_b: not installed; pip install 'agr[baselines]'"
    assert missing_modules(extractor(Counter())) is None


def test_extractors_name_their_modules_and_can_be_pickled() -> None:
    assert missing_modules(EXTRACTORS["pyin"]) is None, "librosa is a requirement of AGR itself"
    assert list(EXTRACTORS) == ["praat", "pyin", "egemaps", "resemblyzer", "ina"]
    for name, one in EXTRACTORS.items():
        assert (one.name, one.hz) == (name, 0.5 if name == "ina" else None)
        assert one.pitch or "sklearn" in one.needs
        assert pickle.loads(pickle.dumps(one)) == one  # worker processes are sent it


@pytest.mark.parametrize("hz", [70.0, 110.0, 155.0, 210.0, 330.0])
def test_praat_finds_the_pitch_despite_an_offset(hz: float) -> None:
    pytest.importorskip("parselmouth")
    (pitch,) = EXTRACTORS["praat"].load()(cleaned(tone(hz)))
    assert pitch == pytest.approx(hz, rel=0.01)


@pytest.mark.parametrize("seconds", [0.1, 1.0])
def test_praat_finds_no_pitch_in_near_silence_and_in_noise(seconds: float) -> None:
    pytest.importorskip("parselmouth")
    click = np.zeros(int(seconds * SAMPLE_RATE), dtype=np.float32)
    click[len(click) // 2] = 1e-4
    hiss = np.random.default_rng(0).normal(0, 0.1, len(click)).astype(np.float32)
    extract = EXTRACTORS["praat"].load()
    for y in (click, hiss):
        assert np.isnan(extract(cleaned(y))).tolist() == [True]


def test_the_share_of_women_is_of_the_speech_alone() -> None:
    heard = [("noEnergy", 0.0, 1.0), ("female", 1.0, 2.5), ("music", 2.5, 9.0), ("male", 9.0, 9.5)]
    assert share_of_women(heard) == 0.75
    assert np.isnan(share_of_women(heard[:1]))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Resemblyzer imports scipy by an old path
@pytest.mark.parametrize(("name", "length"), [("praat", 1), ("egemaps", 88), ("resemblyzer", 256)])
@pytest.mark.parametrize("seconds", [0.1, 1.0])
def test_vector_length_does_not_depend_on_duration(name: str, length: int, seconds: float) -> None:
    for module in EXTRACTORS[name].needs:
        pytest.importorskip(module)
    vector = EXTRACTORS[name].load()(cleaned(tone(120, seconds)))
    assert (vector.shape, vector.dtype) == ((length,), np.dtype(np.float64))

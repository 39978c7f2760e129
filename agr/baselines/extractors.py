"""Public tools that AGR is compared with: each turns a recording into a vector of features.

    vectors = measure(EXTRACTORS["praat"], recordings, Path("data/rivals"), workers=4)

All tools get the same samples: mono at 16 kHz, without their mean and what lies below 60 Hz, because a constant offset
drives pitch trackers to their upper limit. Features are kept, one file for each recording.
"""

from __future__ import annotations

import functools
import importlib.util
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agr.audio import read as audio
from agr.common.files import write_atomic
from agr.common.processes import map_unordered
from agr.common.progress import Progress, silent_progress

SAMPLE_RATE = 16_000  # Hz
HIGH_PASS = 60.0  # Hz
PITCH_RANGE = (65.0, 500.0)  # Hz
PYIN_FRAME = 1_024  # samples; holds four periods of the lowest pitch
REVISION = 1  # of this file's settings; with another number all features are computed again
INSTALL = "pip install 'agr[baselines]'"
Vector = NDArray[np.float64]
Extract = Callable[[NDArray[np.float32]], Vector]


@dataclass(frozen=True)
class Extractor:
    """One tool.

    Attributes:
        name: for flags and folders.
        title: for tables.
        library: the package whose version is part of the folder that keeps the features.
        needs: modules that must be installed.
        load: imports the library and returns a function from samples, (n,) float32 at SAMPLE_RATE, to features, (d,)
            float64, NaN where it has no answer.
        pitch: whether its only feature is a pitch in Hz, compared with a threshold; others get logistic regression.
        hz: a given threshold; None trains one.
        install: the command that installs the library.
    """

    name: str
    title: str
    library: str
    needs: tuple[str, ...]
    load: Callable[[], Extract]
    pitch: bool = False
    hz: float | None = None
    install: str = INSTALL


@dataclass(frozen=True)
class Recording:
    """A sound file and the digest of its bytes."""

    path: Path
    digest: str


@dataclass(frozen=True)
class _Measure:
    """Computes the features of one recording and keeps them; picklable, for worker processes."""

    rival: Extractor
    kept: Path

    def __call__(self, recording: Recording) -> tuple[str, Vector]:
        y = cleaned(audio.load(recording.path, SAMPLE_RATE))
        vector = np.asarray(_extractor(self.rival)(y), dtype=np.float64)
        buffer = io.BytesIO()
        np.save(buffer, vector, allow_pickle=False)
        write_atomic(_place(self.kept, recording.digest), buffer.getvalue())
        return recording.digest, vector


def measure(
    rival: Extractor,
    recordings: Sequence[Recording],
    cache: Path,
    workers: int = 1,
    progress: Progress = silent_progress,
) -> Vector:
    """A tool's features of n recordings, (n, d) float64; those in `cache` are read, the others computed and kept.

    Raises: AudioError if a recording cannot be decoded.
    """
    kept = cache / f"{rival.name}-{metadata.version(rival.library)}-r{REVISION}"
    by_digest = {recording.digest: recording for recording in recordings}
    found = {digest: _read(_place(kept, digest)) for digest in by_digest}
    known = {digest: vector for digest, vector in found.items() if vector is not None}
    todo = [recording for digest, recording in by_digest.items() if digest not in known]
    if todo:
        with progress(f"{rival.name} listens", len(todo), unit="clips") as advance:
            for digest, vector in map_unordered(_Measure(rival, kept), todo, workers):
                known[digest] = vector
                advance(1)
    return np.stack([known[recording.digest] for recording in recordings])


def missing(rival: Extractor) -> str | None:
    """A line that names the missing modules of a tool, None if it can run."""
    lacking = [name for name in rival.needs if importlib.util.find_spec(name) is None]
    return f"{', '.join(lacking)}: not installed; {rival.install}" if lacking else None


def cleaned(y: NDArray[np.float32]) -> NDArray[np.float32]:
    """Remove the mean of samples, (n,) at SAMPLE_RATE, and what lies below HIGH_PASS.

    A Butterworth filter of second order, run forwards and backwards: no delay, 24 dB an octave.
    """
    from scipy.signal import butter, sosfiltfilt

    sections = butter(2, HIGH_PASS, "highpass", fs=SAMPLE_RATE, output="sos")
    return np.asarray(sosfiltfilt(sections, y - y.mean(dtype=np.float64)), dtype=np.float32)


def _place(kept: Path, digest: str) -> Path:
    return kept / digest[:2] / f"{digest}.npy"


def _read(path: Path) -> Vector | None:
    """The features in a file, None if it is absent or damaged."""
    try:
        return np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)
    except (OSError, ValueError, EOFError):
        return None


@functools.cache
def _extractor(rival: Extractor) -> Extract:
    return rival.load()


def _median(pitch: NDArray[np.floating]) -> Vector:
    """The median of voiced frames, (1,) in Hz; NaN if there are none."""
    return np.array([np.median(pitch) if len(pitch) else np.nan], dtype=np.float64)


def load_praat() -> Extract:
    """Median pitch by Praat's autocorrelation method (Boersma, IFA Proceedings 17, 1993), of voiced frames."""
    import parselmouth

    def extract(y: NDArray[np.float32]) -> Vector:
        sound = parselmouth.Sound(y.astype(np.float64), SAMPLE_RATE)
        pitch = sound.to_pitch_ac(pitch_floor=PITCH_RANGE[0], pitch_ceiling=PITCH_RANGE[1])
        track = pitch.selected_array["frequency"]  # (frames,), 0 where unvoiced
        return _median(track[track > 0])

    return extract


def load_pyin() -> Extract:
    """Median pitch by librosa's pYIN (Mauch & Dixon, ICASSP 2014), of voiced frames."""
    import librosa

    def extract(y: NDArray[np.float32]) -> Vector:
        low, high = PITCH_RANGE
        track, voiced, _ = librosa.pyin(y, fmin=low, fmax=high, sr=SAMPLE_RATE, frame_length=PYIN_FRAME)
        return _median(track[voiced])  # (frames,), NaN where unvoiced

    return extract


def load_egemaps() -> Extract:
    """The 88 functionals of eGeMAPS (Eyben et al., IEEE Transactions on Affective Computing 7, 2016) by openSMILE."""
    import opensmile

    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
    return lambda y: np.asarray(smile(y, SAMPLE_RATE), dtype=np.float64).reshape(-1)  # (1, 88, 1) to (88,)


def load_resemblyzer() -> Extract:
    """Resemblyzer's ready speaker embedding, 256 numbers (Wan et al., ICASSP 2018); its own silence trimming first.

    Where that leaves nothing of a clip there is no answer.
    """
    import resemblyzer
    import torch

    torch.set_num_threads(1)  # on short clips two threads take longer than one
    encoder = resemblyzer.VoiceEncoder("cpu", verbose=False)

    def extract(y: NDArray[np.float32]) -> Vector:
        voice = resemblyzer.preprocess_wav(np.clip(y, -1, 1))
        if not len(voice):
            return np.full(resemblyzer.hparams.model_embedding_size, np.nan)
        return np.asarray(encoder.embed_utterance(voice), dtype=np.float64)

    return extract


_RESEMBLYZER_NEEDS = ("resemblyzer", "webrtcvad", "librosa", "torch", "sklearn")
_APART = "pip install --no-deps resemblyzer"  # its own requirements name a package that needs a C compiler
EXTRACTORS = {
    rival.name: rival
    for rival in (
        Extractor("praat", "Praat, threshold trained", "praat-parselmouth", ("parselmouth",), load_praat, pitch=True),
        Extractor("pyin", "pYIN, threshold trained", "librosa", ("librosa",), load_pyin, pitch=True),
        Extractor("egemaps", "openSMILE eGeMAPS", "opensmile", ("opensmile", "sklearn"), load_egemaps),
        Extractor(
            "resemblyzer",
            "Resemblyzer",
            "resemblyzer",
            _RESEMBLYZER_NEEDS,
            load_resemblyzer,
            install=f"{INSTALL}, then {_APART}",
        ),
    )
}

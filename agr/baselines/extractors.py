"""Public tools that AGR is compared with: each turns a recording into a feature vector.

    vectors = extract_features(EXTRACTORS["praat"], recordings, Path("data/baselines"), workers=4)

All tools get mono samples at 16 kHz, high-passed at 60 Hz, because a constant offset drives pitch trackers to their
upper limit. Features are cached, one file for each recording.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import tempfile
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
PYIN_FRAME = 1_024  # samples: four periods of the lowest pitch
REVISION = 1  # raise it when the settings change: all features are then computed again
INSTALL = "pip install 'agr[baselines]'"
Vector = NDArray[np.float64]
Extract = Callable[[NDArray[np.float32]], Vector]


@dataclass(frozen=True)
class Extractor:
    """One tool."""

    name: str
    title: str
    library: str  # the package whose version names the cache folder
    needs: tuple[str, ...]  # optional modules that must be installed
    # imports the library and returns a function from samples, (n,) float32 at SAMPLE_RATE, to features, (d,) float64,
    # NaN without an answer
    load: Callable[[], Extract]
    pitch: bool = False  # whether the only feature is a pitch in Hz, or another number that is higher for women
    unit: bool = False  # whether a vector has length 1 and is classified as it is
    hz: float | None = None  # a fixed threshold, women above; None trains one
    install: str = INSTALL  # how to install the tool


@dataclass(frozen=True)
class Recording:
    """A sound file and the digest of its bytes."""

    path: Path
    digest: str


@dataclass(frozen=True)
class _FeatureJob:
    """Extracts and caches the features of one recording; picklable, for worker processes."""

    extractor: Extractor
    folder: Path

    def __call__(self, recording: Recording) -> tuple[str, Vector]:
        y = cleaned(audio.load(recording.path, SAMPLE_RATE))
        vector = np.asarray(_loaded(self.extractor)(y), dtype=np.float64)
        buffer = io.BytesIO()
        np.save(buffer, vector, allow_pickle=False)
        write_atomic(_place(self.folder, recording.digest), buffer.getvalue())
        return recording.digest, vector


def extract_features(
    extractor: Extractor,
    recordings: Sequence[Recording],
    cache: Path,
    workers: int = 1,
    progress: Progress = silent_progress,
) -> Vector:
    """The features of n recordings, (n, d) float64, from `cache` where it has them.

    Raises: AudioError if a recording cannot be decoded.
    """
    folder = cache / f"{extractor.name}-{metadata.version(extractor.library)}-r{REVISION}"
    by_digest = {recording.digest: recording for recording in recordings}
    found = {digest: _read(_place(folder, digest)) for digest in by_digest}
    known = {digest: vector for digest, vector in found.items() if vector is not None}
    todo = [recording for digest, recording in by_digest.items() if digest not in known]
    if todo:
        with progress(f"extracting {extractor.name} features", len(todo), unit="clips") as advance:
            for digest, vector in map_unordered(_FeatureJob(extractor, folder), todo, workers):
                known[digest] = vector
                advance(1)
    return np.stack([known[recording.digest] for recording in recordings])


def missing_modules(extractor: Extractor) -> str | None:
    """A one-line message that names the missing modules of a tool; None if it can run."""
    lacking = [name for name in extractor.needs if importlib.util.find_spec(name) is None]
    return f"{', '.join(lacking)}: not installed; {extractor.install}" if lacking else None


def cleaned(y: NDArray[np.float32]) -> NDArray[np.float32]:
    """Samples, (n,) at SAMPLE_RATE, without their mean and below HIGH_PASS: second-order Butterworth, zero phase."""
    from scipy.signal import butter, sosfiltfilt

    sections = butter(2, HIGH_PASS, "highpass", fs=SAMPLE_RATE, output="sos")
    return np.asarray(sosfiltfilt(sections, y - y.mean(dtype=np.float64)), dtype=np.float32)


def _place(folder: Path, digest: str) -> Path:
    return folder / digest[:2] / f"{digest}.npy"


def _read(path: Path) -> Vector | None:
    """The features in a file, None if it is absent or damaged."""
    try:
        return np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)
    except (OSError, ValueError, EOFError):
        return None


@functools.cache
def _loaded(extractor: Extractor) -> Extract:
    return extractor.load()


def _median(pitch: NDArray[np.floating]) -> Vector:
    """The median of the pitch of voiced frames, (1,) in Hz; NaN without any."""
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
    """Resemblyzer's speaker embedding, (256,) (Wan et al., ICASSP 2018); no answer if its trimming removes all."""
    import resemblyzer
    import torch

    torch.set_num_threads(1)  # on short clips two threads take longer than one
    encoder = resemblyzer.VoiceEncoder("cpu", verbose=False)

    def extract(y: NDArray[np.float32]) -> Vector:
        trimmed = resemblyzer.preprocess_wav(np.clip(y, -1, 1))
        if not len(trimmed):
            return np.full(resemblyzer.hparams.model_embedding_size, np.nan)
        return np.asarray(encoder.embed_utterance(trimmed), dtype=np.float64)

    return extract


def load_ina() -> Extract:
    """The share of women's speech that inaSpeechSegmenter answers, 0..1; nothing is trained."""
    from scipy.io import wavfile

    from agr.baselines.ina import segmenter, share_of_women

    segments = segmenter()

    def extract(y: NDArray[np.float32]) -> Vector:
        with tempfile.NamedTemporaryFile(suffix=".wav") as file:
            wavfile.write(file, SAMPLE_RATE, (np.clip(y, -1, 1) * 32767).astype(np.int16))
            file.flush()
            with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(ValueError):  # Keras draws progress
                return np.array([share_of_women(segments(file.name))])
        return np.array([np.nan])  # it refuses a clip that is all noise

    return extract


_INA = f"{INSTALL}, then pip install inaSpeechSegmenter==0.6.8 tf_keras imageio-ffmpeg"  # it brings TensorFlow
_INA_NEEDS = ("inaSpeechSegmenter", "tf_keras", "imageio_ffmpeg")
_APART = f"{INSTALL}, then pip install --no-deps resemblyzer"  # it requires a package that needs a C compiler
_NEEDS = ("resemblyzer", "webrtcvad", "sklearn")
_TOOLS = (
    Extractor("praat", "Praat, threshold trained", "praat-parselmouth", ("parselmouth",), load_praat, pitch=True),
    Extractor("pyin", "pYIN, threshold trained", "librosa", (), load_pyin, pitch=True),
    Extractor("egemaps", "openSMILE eGeMAPS", "opensmile", ("opensmile", "sklearn"), load_egemaps),
    Extractor("resemblyzer", "Resemblyzer", "resemblyzer", _NEEDS, load_resemblyzer, unit=True, install=_APART),
    Extractor("ina", "inaSpeechSegmenter", "inaSpeechSegmenter", _INA_NEEDS, load_ina, True, hz=0.5, install=_INA),
)
EXTRACTORS = {extractor.name: extractor for extractor in _TOOLS}

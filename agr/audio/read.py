"""Recordings in, samples out: decoding through libsndfile, checking, resampling.

    y = load(Path("clip.flac"), 16_000)               # mono float32 at 16 kHz
    y, sample_rate = decode(Path("clip.flac"))        # at the file's own rate

WAV, FLAC, OGG and MP3; 8 to 32 bit and float; any number of channels (their mean is taken); 4 to 192 kHz; up to
MAX_SECONDS. A long file is read and decoded in blocks, so that `load` takes little more memory than the samples it
returns; what a header promises takes none.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import soundfile

from agr.audio.structure import SoundStream, check_structure
from agr.errors import AudioError, EmptyAudio, NonFiniteAudio, ShortAudio, SilentAudio, TruncatedAudio, UnreadableAudio

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXTENSIONS = frozenset({".wav", ".flac", ".ogg", ".mp3"})
MIN_SECONDS, MAX_SECONDS = 0.1, 1200
MIN_RATE, MAX_RATE = 4_000, 192_000
MAX_SAMPLES = 2**28  # over all channels: 20 minutes of 96 kHz in stereo are 2.3e8
MAX_BYTES = 2**27  # of what is read at once: a pipe, a device, bytes
EXACT = frozenset({"WAV", "WAVEX", "FLAC", "OGG"})  # libsndfile's formats that know how many frames they hold
LOUDEST = 1e9  # full scale is 1; the square of what is louder leaves float32
BLOCK = 2**20  # samples over all channels that are decoded in one go: 4 MiB
AT_ONCE_BYTES = 2**20  # a file up to this size is read at once


def read_bytes(path: Path) -> bytes:
    """The file's bytes. Raises: UnreadableAudio if it cannot be opened; EmptyAudio; AudioError if over MAX_BYTES."""
    with _file(path, str(path)) as file:
        return read_stream(file, str(path))


def read_stream(file: BinaryIO, name: str) -> bytes:
    """What is left of an open file, pipe or device. Raises: EmptyAudio; AudioError where it is over MAX_BYTES."""
    size = _size(file)
    data = file.read((size or MAX_BYTES) + 1) if size <= MAX_BYTES else b""
    if max(size, len(data)) > MAX_BYTES:
        raise AudioError(f"{name}: {size or 'endless'} bytes; expected at most {MAX_BYTES}")
    if not data:
        raise EmptyAudio(f"{name}: 0 bytes; expected a sound file")
    return data


def decode(source: Path | bytes, name: str | None = None) -> tuple[NDArray[np.float32], int]:
    """Decode a file, or a file's bytes, which messages call `name`, to mono.

    Returns: samples, shape (n,), float32, full scale -1..1; and their rate in Hz.
    Raises: a subclass of AudioError that names the file, what was found and what was expected.
    """
    name = _name(source, name)
    with _sound(source, name) as sound:
        return _joined(_blocks(sound, name)), int(sound.samplerate)


def resample(y: NDArray[np.float32], rate: int, target_rate: int) -> NDArray[np.float32]:
    """Resample by soxr's high-quality band-limited filter; shape (n,) to about (n * target_rate / rate,)."""
    if rate == target_rate:
        return y
    import soxr

    return np.asarray(soxr.resample(y, rate, target_rate, quality="HQ"), dtype=np.float32)


def load(
    source: Path | bytes, sample_rate: int, name: str | None = None, alive: Callable[[], object] | None = None
) -> NDArray[np.float32]:
    """Decode and resample, block by block: mono float32 at `sample_rate` Hz. Raises as `decode` does.

    alive: called after every block.
    """
    name = _name(source, name)
    with _sound(source, name) as sound:
        return _joined(_resampled(_blocks(sound, name), int(sound.samplerate), sample_rate), alive)


def find(folder: Path) -> list[Path]:
    """Every sound file below a folder, by extension, in sorted order."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS and path.is_file())


def _name(source: Path | bytes, name: str | None) -> str:
    return name or (str(source) if isinstance(source, Path) else "standard input")


@contextmanager
def _file(path: Path, name: str) -> Iterator[BinaryIO]:
    try:
        with path.open("rb", buffering=2**16) as file:
            yield file
    except OSError as error:
        raise UnreadableAudio(f"{name}: {error.strerror}; expected a sound file") from error


def _size(file: BinaryIO) -> int:
    """Bytes of a file; 0 of what has no size, as a pipe."""
    try:
        return os.fstat(file.fileno()).st_size
    except OSError:
        return 0


@contextmanager
def _sound(source: Path | bytes, name: str) -> Iterator[soundfile.SoundFile]:
    """An open sound file whose header and structure hold; errors of libsndfile inside become UnreadableAudio."""
    with _file(source, name) if isinstance(source, Path) else io.BytesIO(source) as file:
        size = _size(file) if isinstance(source, Path) else len(source)
        if isinstance(source, Path) and size <= AT_ONCE_BYTES:  # or a pipe
            data = read_stream(file, name)
            file, size = io.BytesIO(data), len(data)
        if not size:
            raise EmptyAudio(f"{name}: 0 bytes; expected a sound file")
        stream = SoundStream(file, size)
        check_structure(stream, name)
        try:
            with _Forwards(stream) as sound:
                _check_header(sound, name)
                yield sound
        except (soundfile.LibsndfileError, RuntimeError, ValueError, MemoryError) as error:
            reason = str(error).split(": ", 1)[-1].rstrip(".") or "no memory left"
            raise UnreadableAudio(f"{name}: {reason}; expected WAV, FLAC, OGG or MP3") from error


class _Forwards(soundfile.SoundFile):  # type: ignore[misc]
    """Reads on and on: soundfile would seek after every block, which loses time, and of MP3 the last bits."""

    def seekable(self) -> bool:
        return False


def _check_header(sound: soundfile.SoundFile, name: str) -> None:
    """What the header claims, before any sample is read; the length of an MP3 is an estimate, and is let off."""
    if not MIN_RATE <= sound.samplerate <= MAX_RATE:
        raise AudioError(f"{name}: sampled at {sound.samplerate} Hz; expected {MIN_RATE} to {MAX_RATE} Hz")
    if sound.format != "MP3":
        _check_length(sound.frames, sound.channels, sound.samplerate, name)


def _check_length(frames: int, channels: int, rate: int, name: str) -> None:
    if frames * channels > MAX_SAMPLES:
        raise AudioError(f"{name}: {frames} frames x {channels} channels; expected at most {MAX_SAMPLES}")
    if frames > MAX_SECONDS * rate:
        raise AudioError(f"{name}: {frames / rate:.0f} s; expected at most {MAX_SECONDS} s")


def _blocks(sound: soundfile.SoundFile, name: str) -> Iterator[NDArray[np.float32]]:
    """The mean over channels, block by block, each (n,), float32; in the end the error that says why it is no clip."""
    promised, channels, rate = sound.frames, sound.channels, sound.samplerate
    size = max(min(BLOCK // channels, promised), 1024)
    frames, bad, low, high = 0, 0, np.inf, -np.inf
    while len(block := sound.read(frames=size, dtype="float32", always_2d=True)):  # (n, channels)
        frames += len(block)
        _check_length(frames, channels, rate, name)
        with np.errstate(all="ignore"):
            mono = block[:, 0] if channels == 1 else block.mean(axis=1, dtype=np.float32)
            bad += len(mono) - int((np.abs(mono) <= LOUDEST).sum())  # NaN is not
        low, high = min(low, float(mono.min())), max(high, float(mono.max()))
        yield mono
    if frames < promised and sound.format in EXACT:
        raise TruncatedAudio(f"{name}: {frames} frames; expected the {promised} that its header promises")
    _check_samples(frames, bad, (low, high), rate, name)


def _check_samples(frames: int, bad: int, bounds: tuple[float, float], rate: int, name: str) -> None:
    """Whether these samples are a clip; bad: frames that are no sound, bounds: the lowest and highest sample."""
    if not frames:
        raise EmptyAudio(f"{name}: no samples; expected at least {MIN_SECONDS} s")
    if bad:
        found = f"NaN or infinity or over {LOUDEST:g} in {bad} of {frames} frames"
        raise NonFiniteAudio(f"{name}: {found}; expected samples of -1 to 1")
    if frames < MIN_SECONDS * rate:
        raise ShortAudio(f"{name}: {frames / rate:.3f} s; expected at least {MIN_SECONDS} s")
    if bounds[0] == bounds[1]:
        raise SilentAudio(f"{name}: pure silence, every sample is {bounds[0]:g}; expected a voice")


def _resampled(blocks: Iterator[NDArray[np.float32]], rate: int, target: int) -> Iterator[NDArray[np.float32]]:
    """What `resample` gives of the whole, to the bit, block by block."""
    if rate == target:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(rate, target, 1, dtype="float32", quality="HQ")
    held = next(blocks)
    for block in blocks:
        yield stream.resample_chunk(held)
        held = block
    yield stream.resample_chunk(held, last=True)


def _joined(blocks: Iterator[NDArray[np.float32]], alive: Callable[[], object] | None = None) -> NDArray[np.float32]:
    """All blocks in one array, (n,), float32, without holding them twice."""
    whole = bytearray()
    for block in blocks:
        if alive is not None:
            alive()
        whole += block.tobytes()
    return np.frombuffer(whole, dtype=np.float32)

"""Recordings in, samples out: decoding through libsndfile, checking, resampling.

    y, sample_rate = decode(Path("clip.flac"))        # mono float32
    y = resample(y, sample_rate, 16_000)

WAV, FLAC, OGG and MP3; 8 to 32 bit and float; any number of channels (their mean is taken); 4 to 192 kHz.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from agr.errors import (
    AudioError,
    EmptyAudio,
    NonFiniteAudio,
    ShortAudio,
    SilentAudio,
    TruncatedAudio,
    UnreadableAudio,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXTENSIONS = frozenset({".wav", ".flac", ".ogg", ".mp3"})
MIN_SECONDS = 0.1
MIN_RATE, MAX_RATE = 4_000, 192_000
MAX_SAMPLES = 2**28  # over all channels: 1 GiB as float32, 93 minutes of 48 kHz mono
PIPED_BYTES = 0x7FFFF000  # a WAV written to a pipe promises 0 bytes of samples, or this many (sox), or more


def read_bytes(path: Path) -> bytes:
    """The file's bytes.

    Raises: EmptyAudio for a file of no bytes, UnreadableAudio for one that cannot be opened.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableAudio(f"{path}: {error.strerror}; expected a sound file") from error
    if not data:
        raise EmptyAudio(f"{path}: 0 bytes; expected a sound file")
    return data


def decode(source: Path | bytes, name: str | None = None) -> tuple[NDArray[np.float32], int]:
    """Decode one recording to mono.

    Args: source: a file, or a file's bytes; name: what messages call it (the path by default).
    Returns: samples, shape (n,), float32, full scale -1..1; and their rate in Hz.
    Raises: a subclass of AudioError that names the file, what was found and what was expected.
    """
    name = name or (str(source) if isinstance(source, Path) else "standard input")
    data = read_bytes(source) if isinstance(source, Path) else source
    if not data:
        raise EmptyAudio(f"{name}: 0 bytes; expected a sound file")
    samples, rate = _samples(_whole(data, name), name)
    return _checked(samples, rate, name), rate


def resample(y: NDArray[np.float32], rate: int, target_rate: int) -> NDArray[np.float32]:
    """Resample by soxr's high-quality band-limited filter; shape (n,) to about (n * target_rate / rate,)."""
    if rate == target_rate:
        return y
    import soxr

    return np.asarray(soxr.resample(y, rate, target_rate, quality="HQ"), dtype=np.float32)


def load(source: Path | bytes, sample_rate: int, name: str | None = None) -> NDArray[np.float32]:
    """Decode and resample: mono float32 at `sample_rate` Hz. Raises as `decode` does."""
    return resample(*decode(source, name), sample_rate)


def find(folder: Path) -> list[Path]:
    """Every sound file below a folder, by extension, in sorted order."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS and path.is_file())


def _samples(data: bytes, name: str) -> tuple[NDArray[np.float32], int]:
    """Decode to (frames, channels), float32, and the rate; what the header claims is checked first."""
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as sound:
            rate, promised, channels = sound.samplerate, sound.frames, sound.channels
            if not MIN_RATE <= rate <= MAX_RATE:
                raise AudioError(f"{name}: sampled at {rate} Hz; expected {MIN_RATE} to {MAX_RATE} Hz")
            if promised * channels > MAX_SAMPLES and sound.format != "MP3":
                raise AudioError(f"{name}: {promised} frames x {channels} channels; expected at most {MAX_SAMPLES}")
            samples = sound.read(frames=MAX_SAMPLES // channels, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, ValueError, MemoryError) as error:
        reason = str(error).split(": ", 1)[-1].rstrip(".")
        raise UnreadableAudio(f"{name}: {reason}; expected WAV, FLAC, OGG or MP3") from error
    if sound_ended_early(data, promised, len(samples)):
        raise TruncatedAudio(f"{name}: {len(samples)} frames; expected the {promised} that its header promises")
    return samples, rate


def sound_ended_early(data: bytes, promised: int, decoded: int) -> bool:
    """Whether fewer frames came than promised; MP3 is let off, its frame count is an estimate."""
    return decoded < promised and data[:4] in (b"fLaC", b"RIFF", b"OggS")


def _checked(samples: NDArray[np.float32], rate: int, name: str) -> NDArray[np.float32]:
    """The mean over channels, shape (n,), or the error that says why these samples are no clip."""
    if not len(samples):
        raise EmptyAudio(f"{name}: no samples; expected at least {MIN_SECONDS} s")
    if not np.isfinite(samples).all():
        bad = int((~np.isfinite(samples)).any(axis=1).sum())
        raise NonFiniteAudio(f"{name}: NaN or infinity in {bad} of {len(samples)} frames; expected finite samples")
    if len(samples) < MIN_SECONDS * rate:
        raise ShortAudio(f"{name}: {len(samples) / rate:.3f} s; expected at least {MIN_SECONDS} s")
    one = samples.shape[1] == 1
    mono: NDArray[np.float32] = samples[:, 0] if one else samples.mean(axis=1, dtype=np.float32)  # (frames,)
    if np.ptp(mono) == 0:
        raise SilentAudio(f"{name}: pure silence, every sample is {mono[0]:g}; expected a voice")
    return mono


def _whole(data: bytes, name: str) -> bytes:
    """libsndfile reads a cut-off WAV or OGG without a word, so their own structure is asked.

    Returns: the bytes; of a WAV written to a pipe, with its true length filled in. Raises: TruncatedAudio.
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        start, promised = _wav_data_chunk(data)
        found = len(data) - start
        if _was_piped(data, start, promised):
            return data[: start - 4] + struct.pack("<I", found) + data[start:]
        if found < promised:
            raise TruncatedAudio(f"{name}: {found} bytes of samples; expected the {promised} its header promises")
    elif data[:4] == b"OggS" and not _ogg_has_end(data):
        raise TruncatedAudio(f"{name}: the last page is missing; expected a page marked as the end of the stream")
    return data


def _wav_data_chunk(data: bytes) -> tuple[int, int]:
    """Where the `data` chunk's samples start, and the bytes it promises; (len(data), 0) without such a chunk."""
    at = 12
    while at + 8 <= len(data):
        chunk, size = struct.unpack_from("<4sI", data, at)
        if chunk == b"data":
            return at + 8, size
        at += 8 + size + size % 2
    return len(data), 0


def _was_piped(data: bytes, start: int, promised: int) -> bool:
    """Whether the program that wrote this WAV could not go back to its header; samples start at byte `start`."""
    file_size = int.from_bytes(data[4:8], "little")  # of what follows these 8 bytes
    nothing_after = file_size + 8 <= start or file_size >= PIPED_BYTES
    return start < len(data) and (promised >= PIPED_BYTES or (promised == 0 and nothing_after))


def _ogg_has_end(data: bytes) -> bool:
    """Whether the last Ogg page is whole and carries the end-of-stream flag (RFC 3533, section 6)."""
    at = data.rfind(b"OggS")
    if at + 27 > len(data):
        return False
    segments = data[at + 26]
    table = data[at + 27 : at + 27 + segments]
    return bool(data[at + 5] & 4) and at + 27 + segments + sum(table) <= len(data)

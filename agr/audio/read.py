"""Recordings in, samples out: decoding, checking, mixing to one channel, resampling.

    y = load(Path("clip.flac"), 16_000)               # mono float32 at 16 kHz
    recording = read(Path("clip.flac"), 16_000)       # the same with what is to be known about it
    for y in stream(Path("hour.flac"), 16_000):       # of any length, block by block
        ...

8 to 32 bit and float; any number of channels; 4 to 192 kHz. What a header promises takes no memory, and is no more
than a hint: what decodes is the recording.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agr.audio.channels import mixed
from agr.audio.files import find, opened, read_bytes, read_stream, size_of
from agr.audio.opening import track_of
from agr.audio.recording import Recording, Stream, length_warning
from agr.audio.track import Track
from agr.errors import (
    AudioError,
    EmptyAudio,
    LongAudio,
    NoChannel,
    NonFiniteAudio,
    ShortAudio,
    SilentAudio,
    UnreadableAudio,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

__all__ = ["decode", "find", "load", "read", "read_bytes", "read_stream", "resample", "stream"]
MIN_SECONDS, MAX_SECONDS = 0.1, 1200  # MAX_SECONDS: of what is held as a whole
MAX_STREAM_SECONDS = 24 * 3600
MIN_RATE, MAX_RATE = 4_000, 192_000
LOUDEST = 1e9  # full scale is 1; the square of what is louder leaves float32
BLOCK_SECONDS = 30  # of a stream
AT_A_TIME = 2**16  # samples that are resampled, which takes many times their memory
AT_ONCE_BYTES = 2**20  # a file up to this size is read at once


def read(
    source: Path | bytes,
    sample_rate: int | None,
    name: str | None = None,
    alive: Callable[[], object] | None = None,
    channel: int | None = None,
) -> Recording:
    """Decode a file, or a file's bytes, which messages call `name`, and resample.

    sample_rate: Hz, None for the file's own; alive: called after every block; channel: which one, from 1.

    Raises: a subclass of AudioError that names the file, what was found and what was expected.
    """
    name = _name(source, name)
    with _track(source, name) as track:
        rate = sample_rate or track.sample_rate
        whole, limit = bytearray(), MAX_SECONDS * rate * 4
        for block in _resampled(_mono(track, name, channel), track.sample_rate, rate):
            whole += block.tobytes()
            if len(whole) > limit:
                raise LongAudio(f"{name}: over {MAX_SECONDS} s; expected at most {MAX_SECONDS} s")
            if alive is not None:
                alive()
        samples = np.frombuffer(whole, dtype=np.float32)
        return Recording(samples, rate, track.channels, length_warning(len(samples) / rate, track.promised))


def stream(
    source: Path | bytes,
    sample_rate: int,
    name: str | None = None,
    alive: Callable[[], object] | None = None,
    channel: int | None = None,
) -> Stream:
    """As `read`, but of up to MAX_STREAM_SECONDS, in blocks of BLOCK_SECONDS. Errors are raised by the iteration."""
    called = _name(source, name)

    def blocks(made: Stream) -> Iterator[Samples]:
        with _track(source, called) as track:
            made.channels, made.promised = track.channels, track.promised
            samples = 0
            mono = _resampled(_mono(track, called, channel), track.sample_rate, sample_rate)
            for block in _sliced(mono, BLOCK_SECONDS * sample_rate):
                samples += len(block)
                if alive is not None:
                    alive()
                yield block
            made.warning = length_warning(samples / sample_rate, track.promised)

    return Stream(sample_rate, blocks)


def load(
    source: Path | bytes, sample_rate: int, name: str | None = None, alive: Callable[[], object] | None = None
) -> Samples:
    """The samples that `read` gives: (n,), float32. Raises as `read` does."""
    return read(source, sample_rate, name, alive).samples


def decode(source: Path | bytes, name: str | None = None) -> tuple[Samples, int]:
    """Samples, (n,), float32, full scale -1..1, at the file's own rate, and that rate in Hz. Raises as `read` does."""
    found = read(source, None, name)
    return found.samples, found.sample_rate


def resample(y: Samples, rate: int, target_rate: int) -> Samples:
    """Resample by soxr's high-quality band-limited filter; shape (n,) to about (n * target_rate / rate,)."""
    if rate == target_rate:
        return y
    import soxr

    return np.asarray(soxr.resample(y, rate, target_rate, quality="HQ"), dtype=np.float32)


def _name(source: Path | bytes, name: str | None) -> str:
    return name or (str(source) if isinstance(source, Path) else "standard input")


@contextmanager
def _track(source: Path | bytes, name: str) -> Iterator[Track]:
    """The sound of a file, with a rate that is allowed."""
    with opened(source, name) if isinstance(source, Path) else io.BytesIO(source) as file:
        size = size_of(file) if isinstance(source, Path) else len(source)
        if isinstance(source, Path) and size <= AT_ONCE_BYTES:  # or a pipe
            data = read_stream(file, name)
            file, size = io.BytesIO(data), len(data)
        if not size:
            raise EmptyAudio(f"{name}: 0 bytes; expected a sound file")
        with track_of(file, size, name) as track:
            if not MIN_RATE <= track.sample_rate <= MAX_RATE:
                found = f"sampled at {track.sample_rate} Hz"
                raise AudioError(f"{name}: {found}; expected {MIN_RATE} to {MAX_RATE} Hz")
            yield track


def _mono(track: Track, name: str, channel: int | None) -> Iterator[Samples]:
    """One channel, block by block, each (n,), float32; in the end the error that says why it is no clip."""
    if channel is not None and not 1 <= channel <= track.channels:
        found = f"{track.channels} channel{'s' if track.channels > 1 else ''}"
        raise NoChannel(f"{name}: {found}; expected a channel {channel}")
    frames, low, high = 0, np.inf, -np.inf
    try:
        for block in track.blocks:
            frames += len(block)
            if frames > MAX_STREAM_SECONDS * track.sample_rate:
                hours = MAX_STREAM_SECONDS // 3600
                raise LongAudio(f"{name}: over {hours} hours; expected at most {hours} hours")
            with np.errstate(all="ignore"):
                mono = (
                    mixed(block, track.sample_rate) if channel is None else np.ascontiguousarray(block[:, channel - 1])
                )
                least, most = float(mono.min()), float(mono.max())  # NaN if one is
            if not -LOUDEST <= least <= most <= LOUDEST:
                bad = len(mono) - int((np.abs(mono) <= LOUDEST).sum())
                found = f"NaN or infinity or over {LOUDEST:g} in {bad} of {frames} frames"
                raise NonFiniteAudio(f"{name}: {found}; expected samples of -1 to 1")
            low, high = min(low, least), max(high, most)
            yield mono
    except UnreadableAudio:
        if not frames:
            raise
    if not frames:
        raise EmptyAudio(f"{name}: no samples; expected at least {MIN_SECONDS} s")
    if frames < MIN_SECONDS * track.sample_rate:
        raise ShortAudio(f"{name}: {frames / track.sample_rate:.3f} s; expected at least {MIN_SECONDS} s")
    if low == high:
        reason = f"{name}: pure silence, every sample is {low:g}; expected a voice"
        raise SilentAudio(reason, frames / track.sample_rate)


def _resampled(blocks: Iterator[Samples], rate: int, target: int) -> Iterator[Samples]:
    """What `resample` gives of the whole, to the bit, block by block."""
    if rate == target:
        yield from blocks
        return
    import soxr

    resampler = soxr.ResampleStream(rate, target, 1, dtype="float32", quality="HQ")
    parts = (block[at : at + AT_A_TIME] for block in blocks for at in range(0, len(block), AT_A_TIME))
    held = next(parts)
    for part in parts:
        yield resampler.resample_chunk(held)
        held = part
    yield resampler.resample_chunk(held, last=True)


def _sliced(blocks: Iterator[Samples], size: int) -> Iterator[Samples]:
    """The same samples in blocks of `size`, the last of which may be shorter."""
    held: list[Samples] = []
    count = 0
    for block in blocks:
        held.append(block)
        count += len(block)
        if count >= size:
            whole = np.concatenate(held)
            for at in range(0, count - count % size, size):
                yield whole[at : at + size]
            held = [whole[count - count % size :].copy()]
            count %= size
    if count:
        yield np.concatenate(held)

"""Sound files as FFmpeg reads them, through PyAV: the first sound track of what libsndfile does not read.

The demuxer is the one that the content calls for, and it may open nothing but the file it is given.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from agr.audio import track
from agr.audio.structure import SoundStream
from agr.audio.track import Track
from agr.errors import UnreadableAudio

if TYPE_CHECKING:
    from av import AudioFrame, AudioResampler
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from numpy.typing import NDArray

OPTIONS = {"protocol_whitelist": "none", "enable_drefs": "0"}
FULL_SCALE = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "flt": 1.0, "dbl": 1.0}  # of what NumPy can take
MOST_PLANES = 7  # of a frame with a plane for each channel: PyAV reads beyond the list of 8
MOST_BROKEN = 1000  # packets in a row that cannot be decoded, before the rest is given up


@contextmanager
def opened(file: BinaryIO, size: int, demuxer: str, name: str, like: Track | None = None) -> Iterator[Track]:
    """The first sound track of a file of `size` bytes, read by that demuxer of FFmpeg. Raises: UnreadableAudio.

    like: what the samples' rate and channels are to be those of; the file's own unless given.
    """
    import av

    with (
        _explained(name),
        av.open(
            SoundStream(file, size), format=demuxer, options=OPTIONS, metadata_errors="replace", io_open=_refused
        ) as container,
    ):
        if not container.streams.audio:
            found = "a video without sound" if container.streams.video else "no sound in it"
            raise UnreadableAudio(f"{name}: {found}; expected a recording")
        sound = container.streams.audio[0]
        frames = _frames(container, sound)
        first = next(frames, None)
        if first is None:
            raise UnreadableAudio(f"{name}: nothing in it can be decoded; expected a recording")
        rate, channels = (like or first).sample_rate, like.channels if like else len(first.layout.channels)
        blocks = _blocks(itertools.chain([first], frames), rate, channels, name)
        yield Track(rate, channels, _duration(container, sound), blocks)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Errors of FFmpeg inside become UnreadableAudio."""
    import av

    try:
        yield
    except (av.FFmpegError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or "no memory left"
        raise UnreadableAudio(f"{name}: {reason}; expected a sound file") from error


def _refused(url: str, *_: object) -> None:
    raise PermissionError(f"{url}: a recording may open no other file")


def _duration(container: InputContainer, sound: AudioStream) -> float | None:
    """Seconds that the track promises, or else the whole file."""
    if sound.duration and sound.time_base:
        samples = sound.frames / (sound.sample_rate or 1)  # of a CAF; elsewhere fewer, as packets are counted
        return max(float(sound.duration * sound.time_base), samples)
    return container.duration / 1e6 if container.duration else None


def _frames(container: InputContainer, sound: AudioStream) -> Iterator[AudioFrame]:
    """What decodes of a track, in order; packets that do not are left out."""
    import av

    if sound.codec_context is None:
        return
    sound.codec_context.thread_count = 1
    broken = 0
    try:
        for packet in container.demux(sound):
            try:
                decoded = packet.decode()
            except EOFError:
                return
            except av.FFmpegError:
                broken += 1
                if broken > MOST_BROKEN:
                    return
                continue
            broken = 0
            yield from (frame for frame in decoded if frame.samples)
    except (av.FFmpegError, IndexError):  # of the container, or a track that PyAV met late: what was decoded remains
        return


def _blocks(frames: Iterator[AudioFrame], rate: int, channels: int, name: str) -> Iterator[NDArray[np.float32]]:
    """Frames joined to blocks of (n, channels), float32."""
    held: list[NDArray[np.float32]] = []
    count = 0
    with _explained(name):
        for samples in _converted(frames, rate, channels):
            held.append(samples)
            count += samples.size
            if count >= track.BLOCK:
                yield np.concatenate(held)
                held, count = [], 0
    if held:
        yield np.concatenate(held)


def _converted(frames: Iterator[AudioFrame], rate: int, channels: int) -> Iterator[NDArray[np.float32]]:
    """The samples of frames, (n, channels), float32; FFmpeg resamples and mixes a frame that is unlike the first."""
    import av

    resamplers: dict[tuple[str, str, int], AudioResampler] = {}
    for frame in frames:
        kind = frame.format.name, frame.layout.name, frame.sample_rate
        width = len(frame.layout.channels)
        plain = frame.format.packed.name in FULL_SCALE and not (frame.format.is_planar and width > MOST_PLANES)
        if plain and frame.sample_rate == rate and width == channels:
            yield _samples(frame, channels)
            continue
        if kind not in resamplers:
            layout = frame.layout.name if width == channels else f"{channels}c"
            resamplers[kind] = av.AudioResampler("flt", layout, rate)
        for made in resamplers[kind].resample(frame):
            yield _samples(made, channels)


def _samples(frame: AudioFrame, channels: int) -> NDArray[np.float32]:
    """The samples of a frame, (n, channels), float32, full scale -1..1."""
    values = frame.to_ndarray()  # (channels, n), or (1, n * channels)
    kind = frame.format.packed.name
    y = values.T if frame.format.is_planar else values.reshape(-1, channels)
    if FULL_SCALE[kind] > 1:
        y = y / np.float32(FULL_SCALE[kind]) - np.float32(kind == "u8")
    with np.errstate(over="ignore", invalid="ignore"):  # infinity and NaN, which are no sound
        return np.asarray(y, dtype=np.float32)

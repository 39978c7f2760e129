"""The sound in a file, read by libsndfile where it can, and by FFmpeg where that fails."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

from agr.audio import libav, sndfile
from agr.audio.formats import HEAD, Format, described, recognised
from agr.audio.structure import SoundStream
from agr.audio.track import Track
from agr.errors import UnreadableAudio

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@contextmanager
def track_of(file: BinaryIO, size: int, name: str) -> Iterator[Track]:
    """The sound of an open file of `size` bytes, which messages call `name`. Raises: UnreadableAudio if it has none."""
    stream = SoundStream(file, size)
    kind = recognised(stream.part)
    if kind is None:
        raise UnreadableAudio(f"{name}: {described(stream.part(0, HEAD))}; expected a sound file")
    with ExitStack() as stack:
        if not kind.sndfile:
            yield stack.enter_context(_by_ffmpeg(file, size, kind, name))
            return
        try:
            track = stack.enter_context(sndfile.opened(file, size, name))
        except UnreadableAudio:
            if kind.demuxer is None:
                raise
            yield stack.enter_context(_by_ffmpeg(file, size, kind, name))
            return
        if kind.demuxer is not None:
            track = replace(track, blocks=_with_fallback(track, file, size, kind, name))
        yield track


@contextmanager
def _by_ffmpeg(file: BinaryIO, size: int, kind: Format, name: str, like: Track | None = None) -> Iterator[Track]:
    assert kind.demuxer is not None
    file.seek(0)
    with libav.opened(file, size, kind.demuxer, name, like) as track:
        yield track if kind.promises else replace(track, promised=None)


def _with_fallback(track: Track, file: BinaryIO, size: int, kind: Format, name: str) -> Iterator[NDArray[np.float32]]:
    """The blocks of a track; from where libsndfile fails, those of FFmpeg, if it gets any further."""
    frames, failure = 0, None
    try:
        for block in track.blocks:
            frames += len(block)
            yield block
    except UnreadableAudio as error:
        failure = error
    if failure or not (frames or kind.promises):  # libsndfile finds nothing in an Ogg that lacks its end
        try:
            with _by_ffmpeg(file, size, kind, name, track) as other:
                yield from _after(other.blocks, frames)
        except UnreadableAudio:
            if failure:
                raise failure from None


def _after(blocks: Iterator[NDArray[np.float32]], frames: int) -> Iterator[NDArray[np.float32]]:
    """The same blocks without so many frames at their beginning."""
    for block in blocks:
        if frames < len(block):
            yield from itertools.chain([block[frames:]], blocks)
        frames = max(frames - len(block), 0)

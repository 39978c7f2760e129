"""Sound files as libsndfile reads them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

import soundfile

from agr.audio import track
from agr.audio.structure import SoundStream, promised_share
from agr.audio.track import Track
from agr.errors import UnreadableAudio

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UNKNOWN_FRAMES = 2**40  # a header that promises as many or more does not know: at 192 kHz they are two months
ERRORS = (soundfile.LibsndfileError, RuntimeError, ValueError, MemoryError)


class _Forwards(soundfile.SoundFile):  # type: ignore[misc]
    """Reads on and on: soundfile would seek after every block, which loses time, and of MP3 the last bits."""

    def seekable(self) -> bool:
        return False


@contextmanager
def opened(file: BinaryIO, size: int, name: str) -> Iterator[Track]:
    """A file of `size` bytes, which messages call `name`. Raises: UnreadableAudio where libsndfile cannot open it."""
    stream = SoundStream(file, size)
    share = promised_share(stream)
    try:
        sound = _Forwards(stream)
    except ERRORS as error:
        raise _unreadable(error, name) from error
    with sound:
        known = 0 < sound.frames < UNKNOWN_FRAMES and (sound.format != "MP3" or has_length_tag(stream.part(0, 4096)))
        promised = sound.frames * share / sound.samplerate if known else None
        yield Track(int(sound.samplerate), int(sound.channels), promised, _blocks(sound, name))


def has_length_tag(head: bytes) -> bool:
    """Whether an MP3's first frame says how many follow; elsewhere its length is an estimate."""
    return b"Xing" in head or b"Info" in head


def _blocks(sound: soundfile.SoundFile, name: str) -> Iterator[NDArray[np.float32]]:
    size = max(min(track.BLOCK // sound.channels, sound.frames), 1024)
    try:
        while len(block := sound.read(frames=size, dtype="float32", always_2d=True)):  # (n, channels)
            yield block
    except ERRORS as error:
        raise _unreadable(error, name) from error


def _unreadable(error: Exception, name: str) -> UnreadableAudio:
    reason = str(error).split(": ", 1)[-1].rstrip(".") or "no memory left"
    return UnreadableAudio(f"{name}: {reason}; expected a sound file")

"""Opus decoded as it is spoken, in a process apart: pieces of a WebM, Ogg or MP4 recording in, samples out.

    with Decoding(8_000) as decoding:
        y = decoding.add(piece)                       # what could be decoded so far, (n,), float32, mono
        y = decoding.add(b"")                         # the end: what was left

Another thread of that process reads the recording as a file; wherever it has to wait for the next piece, the samples up
to there are the reply. Memory and processor time are limited as those of `agr.audio.decoder`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from agr.audio.decoder_process import MAX_MEMORY, limit_memory, restart_clock
from agr.audio.formats import described, recognised
from agr.common.worker import ONE_THREAD, WorkerDied, WorkerProcess, serve
from agr.errors import UnreadableAudio

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

DEMUXERS = ("matroska", "ogg", "mov")  # of what browsers record
OPUS_RATE = 48_000  # Hz, of all that is decoded
LEAST = 64  # bytes that tell which one it is
MOST_KEPT = 2**24  # bytes of a stream: ten minutes at 200 kbit/s
GOOD, BAD = b"\0", b"\1"  # the first byte of a reply
PROGRAM = "from agr.service import stream_process; stream_process.decode()"


class Decoding(WorkerProcess):
    """The process that decodes one stream. It is to be closed, or used as a context.

    If something else kills it, another one decodes what was said so far again, and goes on. Known limit: a stream of
    more than MOST_KEPT bytes ends with an error then.
    """

    def __init__(self, sample_rate: int) -> None:
        """Start it. sample_rate: of the samples, in Hz."""
        super().__init__("the decoder", PROGRAM, ONE_THREAD, quiet=True)
        self._rate = sample_rate
        self._heard, self._given = bytearray(), 0  # the bytes so far, and how many samples were made of them
        self.send(str(sample_rate).encode())

    def add(self, piece: bytes) -> Samples:
        """Decode the next piece, or after an empty one what is left: (n,), float32. Raises: UnreadableAudio."""
        if len(self._heard) <= MOST_KEPT:
            self._heard += piece
        try:
            try:
                y = self._decode(piece)
            except WorkerDied as death:
                if not death.killed or len(self._heard) > MOST_KEPT:
                    raise
                y = self._anew(ended=not piece)
        except WorkerDied as death:
            raise UnreadableAudio(f"the stream: {death}; expected Opus in WebM, Ogg or MP4") from death
        self._given += len(y)
        return y

    def _anew(self, ended: bool) -> Samples:
        """Begin again in another process: what was not given back yet. Raises: UnreadableAudio; WorkerDied."""
        import numpy as np

        self.restart()
        self.send(str(self._rate).encode())
        parts = [self._decode(bytes(self._heard)), *([self._decode(b"")] if ended else [])]
        return np.concatenate(parts)[self._given :]

    def _decode(self, piece: bytes) -> Samples:
        import numpy as np

        self.send(piece)
        reply = self.receive()
        if reply[:1] != GOOD:
            raise UnreadableAudio(reply[1:].decode(errors="replace"))
        return np.frombuffer(bytes(reply[1:]), dtype=np.float32)


class _Arriving:
    """A file that a thread reads while its pieces arrive."""

    def __init__(self) -> None:
        self._pieces, self._ended, self._hungry, self._done = bytearray(), False, False, False
        self._changed = threading.Condition()

    def read(self, size: int) -> bytes:
        """Up to so many bytes; waits for the next piece where there are none."""
        with self._changed:
            while not self._pieces and not self._ended:
                self._hungry = True
                self._changed.notify_all()
                self._changed.wait()
            taken = bytes(self._pieces[:size])
            del self._pieces[:size]
            return taken

    def add(self, piece: bytes) -> None:
        """Let the reader have a piece, the end if it is empty, and wait until it needs another one."""
        with self._changed:
            self._pieces += piece
            self._ended |= not piece
            self._hungry = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._hungry or self._done)

    def stop(self) -> None:
        """The reader needs nothing more."""
        with self._changed:
            self._done = True
            self._changed.notify_all()


def decode() -> None:
    """Be the process of a `Decoding`."""
    serve(_prepare)


def _prepare() -> Callable[[bytearray], Iterator[bytes]]:
    import av
    import numpy as np
    import soxr

    limit_memory(MAX_MEMORY)
    arriving, decoded, failed = _Arriving(), bytearray(), bytearray()
    head, rates = bytearray(), list[int]()

    def read_on(demuxer: str, rate: int) -> None:
        mono = av.AudioResampler("flt", "mono", OPUS_RATE)
        resampler = soxr.ResampleStream(OPUS_RATE, rate, 1, dtype="float32", quality="HQ")  # as that of files
        try:
            with av.open(arriving, format=demuxer, options={"protocol_whitelist": "none"}) as container:
                for frame in container.decode(audio=0):
                    for made in mono.resample(frame):
                        decoded.extend(resampler.resample_chunk(made.to_ndarray()[0]).tobytes())
            decoded.extend(resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True).tobytes())
        except (av.FFmpegError, IndexError, MemoryError) as error:
            failed.extend(f"the stream: {type(error).__name__}; expected Opus in WebM, Ogg or MP4".encode())
        finally:
            arriving.stop()

    def answer(request: bytearray) -> Iterator[bytes]:
        if not rates:
            rates.append(int(request))
            return
        restart_clock()
        if len(head) < LEAST:
            head.extend(request)
            if len(head) < LEAST and request:
                yield GOOD
                return
            kind = recognised(lambda start, size: bytes(head[start : start + size]))
            if kind is None or kind.demuxer not in DEMUXERS:
                failed.extend(f"the stream: {described(bytes(head))}; expected Opus in WebM, Ogg or MP4".encode())
            else:
                threading.Thread(target=read_on, args=(kind.demuxer, rates[0]), daemon=True).start()
                request = head
        if not failed:
            arriving.add(bytes(request))
        yield BAD + bytes(failed) if failed and not decoded else GOOD + bytes(decoded)
        decoded.clear()

    return answer

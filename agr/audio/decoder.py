"""Decoding in another process: a file that crashes libsndfile costs one line, and no other clip its answer.

    with Decoder() as decoder:                        # the process starts at once, and imports meanwhile
        for y in decoder.load_all([Clip("a.wav"), Clip("standard input", data)], 16_000):
            ...                                       # samples, or the AudioError that says why there are none

It works ahead, without torch, and replies in text and raw float32, which cannot run code in the caller. If it dies,
takes more than MAX_MEMORY beside its imports, or works SECONDS without a further block of samples, it is replaced, and
the clip it was at is refused. Where no process can be started, clips are decoded in the caller's.
Known limits: on macOS the memory, on Windows neither memory nor time is bounded.
"""

from __future__ import annotations

import json
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agr import errors
from agr.common import worker
from agr.common.worker import WorkerDied, WorkerProcess
from agr.errors import AudioError, UnreadableAudio

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

SECONDS = 5.0  # of work for one block of samples, which takes a hundredth of it
MAX_MEMORY = 384 * 2**20  # bytes of address space, beside what the imports take
AHEAD = 32  # clips that may be sent before the first is answered
AHEAD_BYTES = 2**13  # of requests: less than any system's pipe holds, so that neither side waits for the other
PROGRAM = "from agr.audio import decoder; decoder.serve()"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Clip:
    """What to decode: the file of that name, or `data`, a sound file's bytes, which messages call by the name."""

    name: str
    data: bytes | None = None

    @property
    def source(self) -> Path | bytes:
        """What `agr.audio.read.load` takes."""
        return Path(self.name) if self.data is None else self.data


def in_process(clips: Iterable[Clip | AudioError], sample_rate: int) -> Iterator[Samples | AudioError]:
    """Decode clips as `Decoder.load_all` does, in this process."""
    from agr.audio import read

    for clip in clips:
        if isinstance(clip, AudioError):
            yield clip
            continue
        try:
            yield read.load(clip.source, sample_rate, clip.name)
        except AudioError as error:
            yield error


class Decoder(WorkerProcess):
    """A process that decodes. It is to be closed, or used as a context."""

    def __init__(self, program: str | None = None) -> None:
        """Start it. program: Python source that ends in a call of `serve`, PROGRAM unless given."""
        super().__init__("the decoder", program or PROGRAM, ONE_THREAD, quiet=True)

    def load_all(self, clips: Iterable[Clip | AudioError], sample_rate: int) -> Iterator[Samples | AudioError]:
        """Decode clips in order, up to AHEAD of them before their turn; an error among them is passed on in its place.

        Yields: the samples at `sample_rate` Hz, (n,), float32, or the error that says why there are none.
        """
        waiting: deque[tuple[Clip | AudioError, bytes]] = deque()
        try:
            for clip in clips:
                request = _request(clip, sample_rate)
                alone = not isinstance(clip, AudioError) and clip.data is not None  # larger than a pipe
                while waiting and (
                    alone or len(waiting) == AHEAD or sum(len(r) for _, r in waiting) + len(request) > AHEAD_BYTES
                ):
                    yield self._answer(waiting, sample_rate)
                if not waiting and self.has_died:
                    self.restart()
                if request:
                    self.send(request)
                waiting.append((clip, request))
                if alone:
                    yield self._answer(waiting, sample_rate)
            while waiting:
                yield self._answer(waiting, sample_rate)
        finally:
            if waiting and self.pid is not None:  # the caller stopped early: nobody else may get these answers
                self.restart()

    def _answer(self, waiting: deque[tuple[Clip | AudioError, bytes]], sample_rate: int) -> Samples | AudioError:
        """Wait for the first answer; if its clip killed the process, send the other requests to a new one."""
        clip, _ = waiting[0]
        if isinstance(clip, AudioError):
            waiting.popleft()
            return clip
        try:
            found = self._receive()
            waiting.popleft()
            return found
        except WorkerDied as death:
            waiting.popleft()
            if not self.ready:  # it never came up: no use in trying again
                self.close()
                return next(in_process([clip], sample_rate))
            self.restart()
            for _, request in waiting:
                if request:
                    self.send(request)
            cause = f"the decoder found no further samples in {SECONDS:g} s" if death.timed_out else death
            return UnreadableAudio(f"{clip.name}: {cause}; expected WAV, FLAC, OGG or MP3")

    def _receive(self) -> Samples | AudioError:
        """The next answer, which is never more than text and numbers. Raises: WorkerDied."""
        header, body = self.receive(), self.receive()
        if header:
            known = getattr(errors, header.decode(errors="replace"), None)
            error = known if isinstance(known, type) and issubclass(known, AudioError) else AudioError
            return error(body.decode(errors="surrogatepass"))
        if not body or len(body) % 4:
            raise WorkerDied("the decoder's answer makes no sense")
        import numpy as np

        return np.frombuffer(body, dtype=np.float32)


def _request(clip: Clip | AudioError, sample_rate: int) -> bytes:
    """A line of JSON and the clip's bytes, if it has no file; nothing for an error."""
    if isinstance(clip, AudioError):
        return b""
    header = {"name": clip.name, "rate": sample_rate, "file": clip.data is None}
    return json.dumps(header).encode() + b"\n" + (clip.data or b"")


def serve() -> None:
    """Be the decoder process: answer requests until there are no more."""
    worker.serve(_prepare)


def _prepare() -> Callable[[bytearray], Iterator[bytes | memoryview]]:
    import soxr  # noqa: F401

    from agr.audio import read

    limit_memory(MAX_MEMORY)

    def answer(request: bytearray) -> Iterator[bytes | memoryview]:
        header, _, data = request.partition(b"\n")
        wanted = json.loads(header)
        name = wanted["name"]
        restart_clock()
        try:
            y = read.load(Path(name) if wanted["file"] else bytes(data), wanted["rate"], name, restart_clock)
        except AudioError as error:
            yield type(error).__name__.encode()
            yield str(error).encode(errors="surrogatepass")
        except MemoryError:
            yield AudioError.__name__.encode()
            yield f"{name}: too large to decode; expected a shorter clip".encode(errors="surrogatepass")
        else:
            yield b""
            yield y.data.cast("B")

    return answer


def restart_clock() -> None:
    """Give this process SECONDS of processor time from now on; then the system ends it, whatever it is doing."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, SECONDS)


def limit_memory(size: int) -> None:
    """Let this process take `size` bytes more than it has, and dump no core, as far as the system can."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + size, resource.RLIM_INFINITY))

"""Decoding in another process: a file that crashes libsndfile costs one line, and no other clip its answer.

    with Decoder() as decoder:                        # the process starts at once, and imports meanwhile
        for found in decoder.load_all([Source("a.wav"), Source("standard input", data)], 16_000):
            ...                                       # a Recording, or the AudioError that says why there is none
        for y in decoder.stream(Source("hour.m4a"), 16_000):
            ...                                       # its samples, block by block

It works ahead, without torch, and replies in text and raw float32, which cannot run code in the caller. If it dies,
takes more than MAX_MEMORY beside its imports, or works SECONDS without a further block of samples, it is replaced, and
the clip it was at is refused; if something else killed it, the clip is tried once more. Where no process can be
started, clips are decoded in the caller's.
Known limits: on macOS the memory, on Windows neither memory nor time is bounded.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agr import errors
from agr.audio.decoder_process import SECONDS
from agr.audio.recording import Recording, Stream
from agr.common.worker import ONE_THREAD, WorkerDied, WorkerProcess
from agr.errors import AudioError, LongAudio, SilentAudio, UnreadableAudio

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

AHEAD = 32  # clips that may be sent before the first is answered
AHEAD_BYTES = 2**13  # of requests: less than any system's pipe holds, so that neither side waits for the other
PROGRAM = "from agr.audio import decoder_process; decoder_process.serve()"


@dataclass(frozen=True)
class Source:
    """What to decode: the file of that name, or `data`, a sound file's bytes, which messages call by the name."""

    name: str
    data: bytes | None = None
    channel: int | None = None  # which channel, from 1; None for the mean, or what is better

    @property
    def file(self) -> Path | bytes:
        """What `agr.audio.read.read` takes."""
        return Path(self.name) if self.data is None else self.data


Found = Recording | Stream | AudioError


def in_process(sources: Iterable[Source | AudioError], sample_rate: int) -> Iterator[Found]:
    """Decode as `Decoder.load_all` does, in this process."""
    for source in sources:
        yield source if isinstance(source, AudioError) else _in_process(source, sample_rate)


def _in_process(source: Source, sample_rate: int) -> Found:
    from agr.audio import read

    try:
        return read.read(source.file, sample_rate, source.name, channel=source.channel)
    except LongAudio:
        return stream_in_process(source, sample_rate)
    except AudioError as error:
        return error


def stream_in_process(source: Source, sample_rate: int) -> Stream:
    """Decode as `Decoder.stream` does, in this process."""
    from agr.audio import read

    return read.stream(source.file, sample_rate, source.name, channel=source.channel)


class Decoder(WorkerProcess):
    """A process that decodes. It is to be closed, or used as a context."""

    def __init__(self, program: str | None = None) -> None:
        """Start it. program: Python source that ends in a call of `serve`, PROGRAM unless given."""
        super().__init__("the decoder", program or PROGRAM, ONE_THREAD, quiet=True)
        self._unread = False  # whether there are more blocks of a stream to come

    def stream(self, source: Source, sample_rate: int) -> Stream:
        """Decode a recording of any length, in blocks; what is not taken of it is lost with the next call."""

        def blocks(made: Stream) -> Iterator[Samples]:
            if self._unread or self.has_died:
                self.restart()
            self.send(_request(source, sample_rate, whole=False))
            try:
                first = self._receive()
            except WorkerDied as death:
                if self.ready:
                    self.restart()
                    raise self._refusal(source, death) from death
                self.close()  # it never came up
                yield from _passed_on(made, stream_in_process(source, sample_rate))
                return
            yield from self._blocks(made, first, source)

        return Stream(sample_rate, blocks)

    def load_all(self, sources: Iterable[Source | AudioError], sample_rate: int) -> Iterator[Found]:
        """Decode in order, up to AHEAD of them before their turn; an error among them is passed on in its place.

        Yields: the recording at `sample_rate` Hz; a Stream if it is longer than `read.MAX_SECONDS`, to be read before
        the next one is asked for; or the error that says why there is none.
        """
        waiting: deque[tuple[Source | AudioError, bytes]] = deque()
        try:
            for source in sources:
                request = b"" if isinstance(source, AudioError) else _request(source, sample_rate, whole=True)
                alone = not isinstance(source, AudioError) and source.data is not None  # larger than a pipe
                while waiting and (
                    alone or len(waiting) == AHEAD or sum(len(r) for _, r in waiting) + len(request) > AHEAD_BYTES
                ):
                    yield self._answer(waiting, sample_rate)
                if not waiting and (self._unread or self.has_died):
                    self.restart()
                if request:
                    self.send(request)
                waiting.append((source, request))
                if alone:
                    yield self._answer(waiting, sample_rate)
            while waiting:
                yield self._answer(waiting, sample_rate)
        finally:
            if waiting and self.pid is not None:  # the caller stopped early: nobody else may get these answers
                self.restart()

    def restart(self) -> None:
        """Replace the process, whatever it is doing; leave none if none can be started, or after `close`."""
        self._unread = False
        super().restart()

    def _answer(self, waiting: deque[tuple[Source | AudioError, bytes]], sample_rate: int, again: bool = True) -> Found:
        """Wait for the first answer; if its source ended the process, send the other requests to a new one.

        again: whether the source is sent again as well if something else killed the process.
        """
        source, _ = waiting[0]
        if isinstance(source, AudioError):
            waiting.popleft()
            return source
        try:
            while self._unread:  # of the recording before
                self._receive()
            found = self._receive()
        except WorkerDied as death:
            if death.killed and again:
                self._replace(waiting)
                return self._answer(waiting, sample_rate, again=False)
            waiting.popleft()
            if not self.ready:  # it never came up: no use in trying again
                self.close()
                return _in_process(source, sample_rate)
            self._replace(waiting)
            return self._refusal(source, death)
        waiting.popleft()
        if isinstance(found, AudioError) or not self._unread:
            return found
        return Stream(sample_rate, lambda made: self._blocks(made, found, source, waiting))

    def _replace(self, waiting: Iterable[tuple[Source | AudioError, bytes]]) -> None:
        """Start another process, and send it what was waiting."""
        self.restart()
        for _, request in waiting:
            if request:
                self.send(request)

    def _refusal(self, source: Source, death: WorkerDied) -> UnreadableAudio:
        cause = f"the decoder found no further samples in {SECONDS:g} s" if death.timed_out else death
        return UnreadableAudio(f"{source.name}: {cause}; expected a sound file")

    def _blocks(
        self,
        made: Stream,
        found: Recording | AudioError,
        source: Source,
        waiting: Iterable[tuple[Source | AudioError, bytes]] = (),
    ) -> Iterator[Samples]:
        """The blocks of a stream whose first answer is `found`; if it kills the process, `waiting` is sent again."""
        while True:
            if isinstance(found, AudioError):
                raise found
            made.channels, made.warning = found.channels, found.warning
            if len(found.samples):
                yield found.samples
            if not self._unread:
                return
            try:
                found = self._receive()
            except WorkerDied as death:
                self._replace(waiting)
                raise self._refusal(source, death) from death

    def _receive(self) -> Recording | AudioError:
        """The next answer, or the next block of one, which is never more than text and numbers. Raises: WorkerDied."""
        header, body = self.receive(), self.receive()
        try:
            fields = json.loads(header)
            self._unread = bool(fields.get("more"))
            if "error" in fields:
                known = getattr(errors, str(fields["error"]), None)
                error = known if isinstance(known, type) and issubclass(known, AudioError) else AudioError
                made = error(body.decode(errors="surrogatepass"))
                if isinstance(made, SilentAudio):
                    made.seconds = float(fields["seconds"])
                return made
            import numpy as np

            samples = np.frombuffer(body, dtype=np.float32)
            return Recording(samples, int(fields["rate"]), int(fields["channels"]), fields["warning"])
        except (ValueError, KeyError, TypeError, AttributeError):
            raise WorkerDied("the decoder's answer makes no sense") from None


def _passed_on(made: Stream, stream: Stream) -> Iterator[Samples]:
    for block in stream:
        made.channels = stream.channels
        yield block
    made.warning = stream.warning


def _request(source: Source, sample_rate: int, whole: bool) -> bytes:
    """A line of JSON and the recording's bytes, if it has no file."""
    header = {"name": source.name, "rate": sample_rate, "file": source.data is None, "channel": source.channel}
    return json.dumps(header | {"whole": whole}).encode() + b"\n" + (source.data or b"")

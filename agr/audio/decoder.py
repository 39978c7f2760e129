"""Decoding in a process of its own: a file that crashes libsndfile costs one line, and no other clip its answer.

    with Decoder() as decoder:                        # the process starts at once, and imports meanwhile
        for y in decoder.load_all([Clip("a.wav"), Clip("standard input", data)], 16_000):
            ...                                       # samples, or the AudioError that says why there are none

The process knows NumPy, soundfile, soxr and `agr.audio.read`, not torch. It is asked with one line of JSON a clip, and a
clip's bytes where it has no file; it answers with one line of JSON and raw float32. The answers to come are worked on
while the caller is busy with the last ones. A process that dies, takes more than MAX_MEMORY beside its imports, or
works SECONDS without a further block of samples is replaced, and the clip it was at is refused. It ends with its
caller. Where no process can be started, clips are decoded in the caller's.

Known limits: on macOS the memory, on Windows neither memory nor time is bounded.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from agr import errors
from agr.errors import AudioError, UnreadableAudio

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

SECONDS = 5.0  # of work for one block of samples, which takes a hundredth of it
MAX_MEMORY = 384 * 2**20  # bytes of address space, beside what the imports take
AHEAD = 32  # clips that may be asked for before the first is answered
AHEAD_BYTES = 2**13  # of requests: less than any system's pipe holds, so that neither side waits for the other
PIPE_BYTES = 2**20  # of answers, where the system lets a pipe hold so much
LINE_BYTES = 2**20  # the longest line of an answer
PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from agr.audio import decoder; decoder.serve()"
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


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
    """What `Decoder.load_all` gives, without another process."""
    from agr.audio import read as audio

    for clip in clips:
        if isinstance(clip, AudioError):
            yield clip
            continue
        try:
            yield audio.load(clip.source, sample_rate, clip.name)
        except AudioError as error:
            yield error


class Decoder:
    """A process that decodes; to be closed, or used as a context."""

    def __init__(self, program: str | None = None) -> None:
        """Start it. program: Python source that ends up in `serve`, PROGRAM unless given."""
        self._program = program or PROGRAM
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._start()

    @property
    def pid(self) -> int | None:
        """The process's number; None where there is no process."""
        return None if self._process is None else self._process.pid

    def load_all(self, clips: Iterable[Clip | AudioError], sample_rate: int) -> Iterator[Samples | AudioError]:
        """Samples of each clip, (n,), float32 at `sample_rate` Hz, or its error, in order; errors among the clips pass.

        Clips are taken up to AHEAD before their turn.
        """
        asked: deque[tuple[Clip | AudioError, bytes]] = deque()
        try:
            for clip in clips:
                request = _request(clip, sample_rate)
                own = not isinstance(clip, AudioError) and clip.data is not None  # such a clip is asked for by itself
                while asked and (
                    own or len(asked) == AHEAD or sum(len(r) for _, r in asked) + len(request) > AHEAD_BYTES
                ):
                    yield self._answer(asked, sample_rate)
                self._ask(request, first=not asked)
                asked.append((clip, request))
                if own:
                    yield self._answer(asked, sample_rate)
            while asked:
                yield self._answer(asked, sample_rate)
        finally:
            if asked and self._process is not None:  # given up on: its answers are for nobody else
                self._restart()

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):  # of what was not yet written
                _open(pipe).close()
        process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        self._ready = False
        command = [sys.executable, "-c", self._program, *sys.path]
        environment = os.environ | _ONE_THREAD
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
            )
        except (OSError, ValueError):
            self._process = None
            return
        _widen(_open(self._process.stdout))

    def _ask(self, request: bytes, first: bool) -> None:
        """Send a request; a process that died while it had nothing to do is replaced. first: nothing else is asked."""
        if first and self._ready and self._process is not None and self._process.poll() is not None:
            self._restart()
        if self._process is not None and request:
            with suppress(OSError):  # it died: noticed when its answer is waited for
                pipe = _open(self._process.stdin)
                pipe.write(request)
                pipe.flush()

    def _restart(self) -> None:
        self.close()
        self._start()

    def _answer(self, asked: deque[tuple[Clip | AudioError, bytes]], sample_rate: int) -> Samples | AudioError:
        """Wait for what was asked for first; if that killed the process, ask a new one for the others."""
        clip, _ = asked[0]
        if isinstance(clip, AudioError):
            asked.popleft()
            return clip
        found = self._read(clip)
        asked.popleft()
        if found is not None:
            return found
        if not self._ready:  # it never came up: no use in trying again
            self.close()
            return next(in_process([clip], sample_rate))
        cause = self._death()
        self._restart()
        for _, request in asked:
            self._ask(request, first=False)
        return UnreadableAudio(f"{clip.name}: {cause}; expected WAV, FLAC, OGG or MP3")

    def _read(self, clip: Clip) -> Samples | AudioError | None:
        """The next answer; None if there is none, or none that makes sense."""
        if self._process is None:
            return None
        pipe = _open(self._process.stdout)
        if not self._ready:
            self._ready = _line(pipe).get("ready") is True
            if not self._ready:
                return None
        said = _line(pipe)
        if "error" in said:
            return _error(str(said["error"]), str(said.get("kind")))
        return _samples(pipe, said.get("samples"))

    def _death(self) -> str:
        """What became of a process that does not answer."""
        assert self._process is not None
        with suppress(OSError):
            _open(self._process.stdin).close()
        try:
            status = self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return "the decoder's answer makes no sense"
        if hasattr(signal, "SIGPROF") and status == -signal.SIGPROF:
            return f"the decoder found no further samples in {SECONDS:g} s"
        return f"the decoder crashed ({f'signal {-status}' if status < 0 else f'exit status {status}'})"


def _request(clip: Clip | AudioError, sample_rate: int) -> bytes:
    """What the process is sent; nothing for an error."""
    if isinstance(clip, AudioError):
        return b""
    asked = {"name": clip.name, "rate": sample_rate, "bytes": None if clip.data is None else len(clip.data)}
    return json.dumps(asked).encode() + b"\n" + (clip.data or b"")


def _open(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def _widen(pipe: IO[bytes]) -> None:
    """Let a pipe hold PIPE_BYTES, where that can be set: the process can then work ahead."""
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _line(pipe: IO[bytes]) -> dict[str, Any]:
    """A line of JSON; empty at the end, and for anything else."""
    try:
        said = json.loads(pipe.readline(LINE_BYTES))
    except (ValueError, OSError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _error(says: str, kind: str) -> AudioError:
    known = getattr(errors, kind, None)
    made: AudioError = (known if isinstance(known, type) and issubclass(known, AudioError) else AudioError)(says)
    return made


def _samples(pipe: IO[bytes], count: object) -> Samples | None:
    """So many float32 from a pipe, or None where the number makes no sense or it ends before."""
    import numpy as np

    if not isinstance(count, int) or not 0 < count <= 2**29:
        return None
    y = np.empty(count, dtype=np.float32)
    read = pipe.readinto(y.data.cast("B"))  # type: ignore[attr-defined]
    return y if read == y.nbytes else None


def serve() -> None:
    """The process: answers requests on standard input until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches it too; its caller ends it
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # what a library prints is no answer
    import soxr  # noqa: F401

    from agr.audio import read as audio

    _limit()
    _say(answers, {"ready": True})
    with suppress(BrokenPipeError):
        while line := requests.readline():
            asked = json.loads(line)
            data = None if asked["bytes"] is None else requests.read(asked["bytes"])
            _alive()
            try:
                y = audio.load(Clip(asked["name"], data).source, asked["rate"], asked["name"], _alive)
            except AudioError as error:
                _say(answers, {"error": str(error), "kind": type(error).__name__})
                continue
            except MemoryError:
                _say(answers, {"error": f"{asked['name']}: too large to decode; expected a shorter clip"})
                continue
            _say(answers, {"samples": len(y)}, y.data.cast("B"))


def _say(answers: IO[bytes], line: dict[str, Any], data: bytes | memoryview = b"") -> None:
    answers.write(json.dumps(line).encode() + b"\n")
    answers.write(data)
    answers.flush()


def _alive() -> None:
    """Give this process SECONDS of processor time from now on; the system ends it then, whatever it is doing."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, SECONDS)


def _limit() -> None:
    """Bound this process's memory, and let it leave no core behind, as far as the system can."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + MAX_MEMORY, resource.RLIM_INFINITY))
    except (ImportError, OSError, ValueError):
        return

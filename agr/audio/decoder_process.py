"""The process behind `agr.audio.decoder`: requests in, samples out, with limits on its memory and time."""

from __future__ import annotations

import json
import signal
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from agr.audio.recording import Stream
from agr.common import worker
from agr.errors import AudioError

if TYPE_CHECKING:
    from agr.audio.recording import Samples

SECONDS = 5.0  # of work for one block of samples, which takes a hundredth of it
MAX_MEMORY = 384 * 2**20  # bytes of address space, beside what the imports take


def serve() -> None:
    """Be the decoder process: answer requests until there are no more."""
    worker.serve(_prepare)


def _prepare() -> Callable[[bytearray], Iterator[bytes | memoryview]]:
    import soxr  # noqa: F401

    from agr.audio import read  # noqa: F401

    limit_memory(MAX_MEMORY)

    return _answers


def _answers(request: bytearray) -> Iterator[bytes | memoryview]:
    """The answer to a request: pairs of a header in JSON and a body, samples or what an error says.

    A recording that neither is nor promises to be longer than `read.MAX_SECONDS` is one pair if it is wanted whole.
    Else each block is one, `more` in all but the last, which may be empty.
    """
    from agr.audio import read

    line, _, data = request.partition(b"\n")
    wanted = json.loads(line)
    name = wanted["name"]
    restart_clock()
    try:
        file = Path(name) if wanted["file"] else bytes(data)
        blocks = read.stream(file, wanted["rate"], name, restart_clock, wanted["channel"])
        held: deque[Samples] = deque()
        count = 0
        limit = read.MAX_SECONDS * wanted["rate"] if wanted["whole"] else 0
        for block in blocks:
            if blocks.promised is not None and blocks.promised > read.MAX_SECONDS:
                limit = 0  # nothing is held of what will be too long
            held.append(block)
            count += len(block)
            while count > limit and held:
                limit = 0
                yield _header(blocks, more=True)
                yield held.popleft().data.cast("B")
        yield _header(blocks, more=False)
        yield b"".join(block.data for block in held)
    except AudioError as error:
        yield json.dumps({"error": type(error).__name__, **vars(error)}).encode()
        yield str(error).encode(errors="surrogatepass")
    except MemoryError:
        yield json.dumps({"error": AudioError.__name__}).encode()
        yield f"{name}: too large to decode; expected a shorter clip".encode(errors="surrogatepass")


def _header(stream: Stream, more: bool) -> bytes:
    fields = {"rate": stream.sample_rate, "channels": stream.channels, "warning": stream.warning, "more": more}
    return json.dumps(fields).encode()


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

"""One process that works for this one, in order: it decodes, draws, or calls MLflow.

`WorkerProcess` exchanges bytes with a program that calls `serve`, so that a reply cannot run code in the caller;
`agr.common.function_worker` calls functions through it. The process ignores Ctrl-C and ends when its caller closes it
or is killed, at the latest after the request it is working on.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, Self

from agr.common.stuck import STUCK_SECONDS, watched
from agr.errors import AgrError

READY = b"ready"
PIPE_BYTES = 2**20  # of replies that the process may be ahead, where the system lets a pipe hold so much
MAX_BYTES = 2**32  # of one request or reply
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # in an environment


class WorkerDied(AgrError):
    """A process ended without a reply.

    timed_out: it used up the processor time that it had allowed itself; killed: another process ended it, or the system
    for want of memory.
    """

    def __init__(self, cause: str, timed_out: bool = False, killed: bool = False) -> None:
        """cause: a sentence, as in "the decoder crashed (signal 11)"."""
        super().__init__(cause)
        self.timed_out, self.killed = timed_out, killed


class WorkerProcess:
    """A process that answers bytes with bytes. It is to be closed, or used as a context.

    ready: whether it came up, as far as `receive` knows. patience: seconds without work after which it is ended, if
    `receive` waits for it.
    """

    patience = STUCK_SECONDS

    def __init__(
        self, name: str, program: str, environment: Mapping[str, str] | None = None, quiet: bool = False
    ) -> None:
        """Start the process, which messages call `name`. program: Python source that ends in a call of `serve`.

        environment: variables besides those of this process; quiet: whether what it writes to stderr is thrown away.
        """
        self._command = [sys.executable, "-c", f"import sys; sys.path[:] = sys.argv[1:]\n{program}", *sys.path]
        self._name, self._environment, self._quiet = name, dict(environment or {}), quiet
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = self.ready = False
        self._starting = threading.Lock()
        self.restart()

    @property
    def pid(self) -> int | None:
        """Its process id; None while there is no process."""
        return None if self._process is None else self._process.pid

    @property
    def has_died(self) -> bool:
        """Whether it came up and is gone."""
        return self.ready and self._process is not None and self._process.poll() is not None

    def restart(self) -> None:
        """Replace the process, whatever it is doing; leave none if none can be started, or after `close`."""
        with self._starting, ctrl_c_ignored():
            self._stop()
            if self._closed:
                return
            with suppress(OSError, ValueError):
                self._process = process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL if self._quiet else None,
                    env=os.environ | self._environment,
                )
                self._end = weakref.finalize(self, _end, process)
                with suppress(ImportError, AttributeError):
                    import fcntl

                    fcntl.fcntl(process.stdout.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)  # type: ignore[union-attr]

    def send(self, request: bytes) -> None:
        """Send a request. If the process is gone, `receive` says so."""
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError, ValueError):
                _write(self._process.stdin, request)
                self._process.stdin.flush()

    def receive(self) -> bytearray:
        """Wait for the next reply. Raises: WorkerDied if there is none; `restart` is up to the caller."""
        try:
            process = self._process
            if process is not None and process.stdout is not None:
                with watched(self._name, lambda: [process], self.patience):
                    self.ready = self.ready or _read(process.stdout) == READY
                    if self.ready:
                        return _read(process.stdout)
        except (EOFError, OSError, ValueError, MemoryError):
            pass
        raise self._death()

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._closed = True
        with self._starting:
            self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _stop(self) -> None:
        if self._process is not None:
            self._process, self.ready = None, False
            self._end()

    def _death(self) -> WorkerDied:
        process = self._process
        if process is None:
            return WorkerDied(f"{self._name} {'was closed' if self._closed else 'could not be started'}")
        with suppress(OSError, AttributeError):
            process.stdin.close()  # type: ignore[union-attr]
        try:
            status = process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return WorkerDied(f"{self._name}'s answer makes no sense")
        if hasattr(signal, "SIGPROF") and status == -signal.SIGPROF:
            return WorkerDied(f"{self._name} took too long", timed_out=True)
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        killed = status in (-signal.SIGTERM, -getattr(signal, "SIGKILL", signal.SIGTERM))
        return WorkerDied(f"{self._name} crashed ({how})", killed=killed)


def serve(prepare: Callable[[], Callable[[bytearray], Iterable[bytes | memoryview]]]) -> None:
    """Be a worker process: answer the requests on standard input until there are no more, then exit.

    prepare: makes the function that yields the replies to one request.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what a library prints is no reply
    answer = prepare()
    with suppress(EOFError, BrokenPipeError):
        _write(replies, READY)
        while True:
            replies.flush()
            for reply in answer(_read(requests)):
                _write(replies, reply)
    os._exit(0)  # without taking libraries down object by object


@contextmanager
def ctrl_c_ignored() -> Iterator[None]:
    """Processes started inside ignore Ctrl-C, which reaches every process, from the start: this one will end them."""
    if threading.current_thread() is not threading.main_thread():  # only there may it be set
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError, AttributeError):  # of what was not yet written
            pipe.close()  # type: ignore[union-attr]
    process.wait()


def _write(pipe: IO[bytes], message: bytes | memoryview) -> None:
    pipe.write(len(message).to_bytes(8, "big"))
    pipe.write(message)


def _read(pipe: IO[bytes]) -> bytearray:
    """The next message. Raises: EOFError at the end; ValueError for a length that makes no sense."""
    size = int.from_bytes(head := pipe.read(8), "big")
    if size > MAX_BYTES:
        raise ValueError(size)
    message = bytearray(size)
    if len(head) < 8 or pipe.readinto(message) != size:  # type: ignore[attr-defined]
        raise EOFError
    return message

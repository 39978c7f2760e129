"""Waiting that says for what and for how long, that Ctrl-C ends, and that gives up what is stuck.

with locked(folder / ".lock", "prepare this corpus"): ...
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from agr.common.cli import complain
from agr.common.processes import driver, is_dead
from agr.common.stuck import STUCK_SECONDS, work_done

SHOWN_AFTER, SHOWN_EVERY = 2.0, 15.0  # seconds until the first line about a wait, and between the next ones
POLL_SECONDS = 0.1
T = TypeVar("T")


class Wait:
    """One wait, which tells of itself when it takes long."""

    def __init__(self, tell: Callable[[str], None] = complain) -> None:
        """Begin to wait. tell: prints a line."""
        self._began, self._shown, self._tell = time.monotonic(), SHOWN_AFTER - SHOWN_EVERY, tell

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.monotonic() - self._began

    def tick(self, what: str) -> None:
        """Say for what is being waited, if it is time for a line."""
        if (seconds := self.seconds) >= self._shown + SHOWN_EVERY:
            self._shown = seconds
            self._tell(f"waiting for {what}, {seconds:.0f} s so far")


def result_of(future: Future[T], what: str) -> T:
    """Wait for a future, and in the main thread say for what, if it takes long. Raises: what the future raises."""
    wait = Wait() if threading.current_thread() is threading.main_thread() else Wait(lambda line: None)
    while True:
        try:
            return future.result(timeout=POLL_SECONDS)
        except TimeoutError:
            if future.done():
                raise
            wait.tick(what)


@contextmanager
def locked(
    path: Path, task: str, progress: Callable[[int], float] = work_done, cancelled: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    """Hold the lock of a file, which only one process has at a time.

    Whoever waits says which process it waits for. A holder that is stuck is named and passed by: its lock file is
    deleted, so that the next one is another. Stuck is a process that is gone, while one that it started still has the
    lock, or one of this machine without `progress` for STUCK_SECONDS. Known limits: a holder that was passed by and
    goes on after all does so beside its successor; two that pass by the same holder at the same instant may both go on.

    task: what the holder does, as in "start Ray". progress: of a process id, a number that changes as it gets on.
    cancelled: whether to stop waiting. Raises: KeyboardInterrupt if cancelled; OSError.
    """
    from filelock import FileLock, Timeout

    lock, holder, wait = FileLock(path, thread_local=False), _Holder(path, progress), Wait()
    while True:
        if cancelled():
            raise KeyboardInterrupt
        try:
            lock.acquire(timeout=0)
            break
        except Timeout:
            if why := holder.stuck():
                complain(f"{path}: {holder.name} was to {task} and {why}: going on without it")
                path.unlink(missing_ok=True)
                holder = _Holder(path, progress)
            wait.tick(f"{holder.name} to {task} ({path})")
            time.sleep(POLL_SECONDS)
    note = _note(path)
    try:
        note.write_text(driver(), encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            if note.read_text(encoding="utf-8") == driver():  # else this process was passed by
                note.unlink()
        lock.release()


class _Holder:
    """Who holds a lock, and since when it does not get on."""

    def __init__(self, path: Path, progress: Callable[[int], float]) -> None:
        self._note, self._progress = _note(path), progress
        self._seen: tuple[str, float] = "", 0.0
        self._since = time.monotonic()

    @property
    def name(self) -> str:
        pid = self._seen[0].split(":")[1:2]
        return f"process {pid[0]}" if pid else "another process"

    def stuck(self) -> str:
        """Why the holder counts as stuck; empty if it does not."""
        noted = ""
        with suppress(OSError, UnicodeDecodeError):
            noted = self._note.read_text(encoding="utf-8")
        host, pid, *_ = (*noted.split(":"), "", "")
        seen = noted, self._progress(int(pid)) if pid.isdecimal() and host == socket.gethostname() else 0.0
        if seen != self._seen:
            self._seen, self._since = seen, time.monotonic()
        seconds = time.monotonic() - self._since
        if noted and is_dead(noted):  # for a moment the note may be that of the holder before
            return "is gone" if seconds > SHOWN_AFTER else ""
        away = noted and host != socket.gethostname()
        return f"has not got on for {seconds:.0f} s" if seconds > STUCK_SECONDS and not away else ""


def _note(path: Path) -> Path:
    """The file that names the holder of a lock."""
    return path.with_name(f"{path.name}.holder")

"""Processes that do not get on: they were stopped, or wait for what does not come.

with watched("the decoder", lambda: [process]):
    reply = process.stdout.read(8)             # it ends at the latest when the process was given up, and ended
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from agr.common.cli import complain

if TYPE_CHECKING:
    import subprocess
    from multiprocessing.process import BaseProcess

    Processes = Callable[[], Sequence[subprocess.Popen[bytes] | BaseProcess]]

LOOK_SECONDS = 1.0  # between two looks
SHOWN_SECONDS = 2  # without work, after which a process that is waited for is named
STOPPED_SECONDS = 10  # after which a stopped process is given up: it does not go on by itself
STUCK_SECONDS = 60  # the same of another one
AGAIN_SECONDS = 60.0  # before the same process is named again: on a busy machine it may wait for its turn often


@contextmanager
def watched(name: str, processes: Processes, patience: int = STUCK_SECONDS) -> Iterator[None]:
    """Wait inside for processes: those that do nothing are named on stderr, and after a while ended.

    Seconds in which this process was stopped itself do not count. name: what messages call them; patience: seconds
    without work after which they are given up, sooner if they are stopped.
    """
    _thread()
    watch = _Watch(name, processes, patience)
    _WATCHES.add(watch)
    try:
        yield
    finally:
        _WATCHES.discard(watch)


class _Watch:
    def __init__(self, name: str, processes: Processes, patience: int) -> None:
        self._name, self._processes, self._patience = name, processes, patience
        self._work, self._still = -1.0, 0

    def look(self) -> None:
        """To be called every second."""
        processes = self._processes()
        pids = [process.pid for process in processes if process.pid]
        before, self._work = self._work, sum(map(work_done, pids))
        self._still = self._still + 1 if self._work == before else 0
        if self._still < SHOWN_SECONDS:
            return
        stopped = [pid for pid in pids if is_stopped(pid)]
        found = f"{self._name} (process {', '.join(map(str, stopped or pids))})"
        why = f"{'is stopped' if stopped else 'has done nothing'} for {self._still} s"
        if self._still >= (STOPPED_SECONDS if stopped else self._patience):
            complain(f"{found} {why}: going on without it")
            for process in processes:
                process.kill()
        elif self._still == SHOWN_SECONDS and time.monotonic() > _NAMED.get(found, 0.0):
            _NAMED[found] = time.monotonic() + AGAIN_SECONDS
            complain(f"waiting for {found}, which {why}")


_WATCHES: set[_Watch] = set()
_NAMED: dict[str, float] = {}  # until when it need not be named again


@functools.cache
def _thread() -> None:
    """One thread for all watches, from the first one on."""

    def look() -> None:
        while True:
            time.sleep(LOOK_SECONDS)
            for watch in tuple(_WATCHES):
                watch.look()

    threading.Thread(target=look, name="watch", daemon=True).start()


def work_done(pid: int) -> float:
    """Processor seconds of a process and its children: they stand still while it is stuck."""
    import psutil

    used = 0.0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                used += sum(each.cpu_times()[:2])
    return used


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped, as by SIGSTOP."""
    import psutil

    with suppress(psutil.Error):
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    return False

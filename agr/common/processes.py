"""Spreading work over processes of this machine."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TypeVar

import psutil

from agr.common.cli import complain
from agr.common.stuck import watched
from agr.common.worker import ONE_THREAD, ctrl_c_ignored
from agr.errors import AgrError

CLOCK_SECONDS = 60  # by which a clock that is set may change the start of a process that an earlier version noted
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # Linux has a new one after each start
SINCE_BOOT = 10**12  # starts from here on are ticks since a boot, smaller ones are seconds since 1970
Item = TypeVar("Item")
Result = TypeVar("Result")
CHUNK = 16
# What a process that works beside others should find in its environment when it starts. One BLAS thread, since the
# threads of several would fight over the cores. And a glibc that keeps freed memory: by default it hands every array
# of some size back to the system, and getting it again, page by page, costs a fifth of an epoch of training and more
# than half of an image.
WORKER_ENVIRONMENT = {
    **ONE_THREAD,
    "MALLOC_MMAP_THRESHOLD_": "1000000000",
    "MALLOC_TRIM_THRESHOLD_": "2000000000",
    "MALLOC_TOP_PAD_": "64000000",
}


def map_unordered(work: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    """Apply a picklable `work` to every item in `workers` processes; results come as they are ready.

    One worker, or little work, stays in this process. Workers end when this process is killed. If one of them dies or
    gets stuck, all are replaced, once. Raises: AgrError the second time.
    """
    if workers <= 1 or len(items) <= CHUNK:
        yield from map(work, items)
        return
    todo = {start: items[start : start + CHUNK] for start in range(0, len(items), CHUNK)}
    for again in (True, False):
        try:
            with closing(_in_pool(work, todo, workers)) as done:
                for start, results in done:
                    del todo[start]
                    yield from results
            return
        except BrokenProcessPool:
            cause = "a worker process was ended, by another one or for want of memory"
            if not again:
                raise AgrError(f"{cause}, a second time; expected fewer workers, or more memory") from None
            complain(f"{cause}: others go on with what is left")


def _in_pool(
    work: Callable[[Item], Result], chunks: Mapping[int, Sequence[Item]], workers: int
) -> Generator[tuple[int, list[Result]], None, None]:
    """The key and the results of each chunk. Raises: BrokenProcessPool if a process died or was given up."""
    count, context = min(workers, len(chunks)), multiprocessing.get_context("spawn")
    with worker_environment(), ProcessPoolExecutor(count, context, initializer=_end_with_parent) as pool:
        with ctrl_c_ignored():  # submitting starts the processes
            keys = {pool.submit(_each, work, chunk): key for key, chunk in chunks.items()}
        done = as_completed(tuple(keys))
        try:
            for _ in range(len(keys)):
                with watched("a worker process", multiprocessing.active_children):
                    future = next(done)
                yield keys.pop(future), future.result()
        finally:
            with watched("a worker process", multiprocessing.active_children):
                pool.shutdown(cancel_futures=True)


def _each(work: Callable[[Item], Result], chunk: Sequence[Item]) -> list[Result]:
    return [work(item) for item in chunk]


@contextmanager
def worker_environment() -> Iterator[None]:
    """Processes started inside find WORKER_ENVIRONMENT."""
    before = {name: os.environ[name] for name in WORKER_ENVIRONMENT if name in os.environ}
    os.environ.update(WORKER_ENVIRONMENT)
    try:
        yield
    finally:
        for name in WORKER_ENVIRONMENT:
            os.environ.pop(name, None)
        os.environ.update(before)


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever; this ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_after, args=(multiprocessing.parent_process(),), daemon=True).start()


def _exit_after(process: BaseProcess) -> None:
    process.join()
    os._exit(1)


@functools.cache
def driver() -> str:
    """The tag that names this process: host, pid, and when it was started, as `_started` has it."""
    return f"{socket.gethostname()}:{os.getpid()}:{_started(os.getpid())}"


def _started(pid: int) -> int:
    """When a process was started: on Linux boot and clock ticks since it, which no setting of the clock changes.

    Elsewhere seconds since 1970. Raises: psutil.Error.
    """
    with suppress(OSError, ValueError, IndexError):
        ticks = int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
        return (1 + int(BOOT_ID.read_text()[:8], 16)) * SINCE_BOOT + ticks
    return int(psutil.Process(pid).create_time())


def is_dead(process: str) -> bool:
    """Whether a process ran on this machine and is no more.

    A container that is restarted gives the same host and pid again, so the time of the start tells two processes
    apart. Tags of earlier versions lack it: they are never of this process.
    """
    host, pid, started, *_ = (*process.split(":"), "", "")
    if host != socket.gethostname() or not pid.isdecimal():
        return False
    if int(pid) == os.getpid():
        return process != driver()
    try:
        if started.isdecimal() and int(started) >= SINCE_BOOT:
            return int(started) != _started(int(pid))
        born = psutil.Process(int(pid)).create_time()
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:  # another user's
        return False
    return started.isdecimal() and abs(born - int(started)) > CLOCK_SECONDS

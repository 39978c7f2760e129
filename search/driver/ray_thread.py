"""A private Ray cluster, in a thread of its own that Ctrl-C need not wait for."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING

from agr.common.waiting import POLL_SECONDS, Wait
from agr.errors import SettingsError
from search.runtime.host import RayStart

if TYPE_CHECKING:
    from search.runtime.cluster import Allocation

START_SECONDS = 120.0  # for Ray to start, once it is this search's turn
END_SECONDS = 20.0  # for Ray to end
HURRY_SECONDS = 0.5  # for either, after Ctrl-C


class RayThread:
    """The thread that starts Ray, keeps it, and ends it.

    That thread must outlive Ray: Linux ends Ray's processes together with it. And the thread that closes it must wait
    while Ray shuts down: freeing one of Ray's objects meanwhile would end the process.
    """

    def __init__(self, cluster: Callable[[RayStart], AbstractContextManager[Allocation]]) -> None:
        """cluster: starts Ray when entered, and ends it when left."""
        self._cluster, self._start = cluster, RayStart()
        self._allocation: Future[Allocation] = Future()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._hold, name="ray", daemon=True)

    def start(self) -> None:
        """Start Ray in the background, unless that was done."""
        if self._thread.ident is None:
            from search.runtime import cluster, shared_storage  # noqa: F401  threads must not import Ray at once

            self._thread.start()

    def allocation(self) -> Allocation:
        """Wait until Ray has started. Raises: SettingsError if it does not start, or not in START_SECONDS."""
        self.start()
        wait = Wait(_say)
        while True:
            try:
                return self._allocation.result(timeout=POLL_SECONDS)
            except TimeoutError:
                if self._allocation.done():
                    raise
            if not self._start.began:  # `locked` tells of it
                wait = Wait(_say)
            if wait.seconds > START_SECONDS:
                self._start.cancelled.set()
                expected = "expected it to start; `ray stop --force` ends what earlier ones left"
                raise SettingsError(f"Ray: not started after {START_SECONDS:.0f} s; {expected}")
            wait.tick("Ray to start")

    def close(self, hurry: bool) -> None:
        """End Ray. hurry: after Ctrl-C, leave what does not end at once."""
        self._over.set()
        if self._thread.ident is None:
            return
        hurry |= self._start.cancelled.is_set()
        if hurry:
            self._start.cancelled.set()
        wait, limit = Wait(_say), HURRY_SECONDS if hurry else END_SECONDS
        if not hurry and not self._allocation.done():
            limit += START_SECONDS
        while self._thread.is_alive() and wait.seconds < limit:
            self._thread.join(POLL_SECONDS)
            wait.tick("Ray to end")
        if self._thread.is_alive():
            _abandon()

    def _hold(self) -> None:
        try:
            with self._cluster(self._start) as allocation:
                self._allocation.set_result(allocation)
                self._over.wait()
        except BaseException as error:  # raised where it is waited for
            if not self._allocation.done():
                self._allocation.set_exception(error)


def _abandon() -> None:
    """Kill what Ray has started, and do not let Python wait for Ray when it exits."""
    import ray

    from search.runtime.cluster import end_processes

    end_processes("/ray/")
    with suppress(AttributeError):
        atexit.unregister(ray.shutdown)


def _say(line: str) -> None:
    print(line, flush=True)

"""Shows how far a long task has come: a bar on a terminal, a line every ten seconds elsewhere, always on stderr.

    with terminal_progress("unpacking", 30_000, unit="clips") as advance:
        for clip in clips:
            advance(1)

A function that takes a while accepts a `Progress`: `terminal_progress` for a person, `silent_progress` for a program.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TextIO

from agr.common.printable import printable

LINE_SECONDS = 10.0  # between two lines
Show = Callable[[int, int | None], None]


class Meter:
    """Where a task stands. Calling it adds to what is done; `at` says where it stands outright."""

    def __init__(self, total: int | None, show: Show) -> None:
        """Stand at 0 of `total` units (None: not known yet) and report every change to `show`."""
        self.done, self.total = 0, total
        self._show = show

    def __call__(self, n: int = 1) -> None:
        """Add `n` units to what is done."""
        self.at(self.done + n, self.total)

    def at(self, done: int, total: int | None) -> None:
        """Stand at `done` of `total` units; `done` may fall back when a task starts over."""
        self.done, self.total = done, total
        self._show(done, total)


class Progress(Protocol):
    """Opens a display for one task of `total` units (None: not known yet)."""

    def __call__(self, description: str, total: int | None, unit: str = "bytes") -> AbstractContextManager[Meter]:
        """Return a context whose value is the task's `Meter`."""


@contextmanager
def silent_progress(description: str, total: int | None, unit: str = "bytes") -> Iterator[Meter]:
    """Show nothing."""
    yield Meter(total, lambda done, total: None)


def terminal_progress(
    description: str, total: int | None, unit: str = "bytes", stream: TextIO | None = None
) -> AbstractContextManager[Meter]:
    """Show a bar if `stream` (stderr unless given) is a terminal, else a line every LINE_SECONDS.

    `unit` is "bytes", shown as kB, MB or GB with a speed, or the plural of what is counted ("clips").
    """
    stream = sys.stderr if stream is None else stream
    show = _bar if stream.isatty() and os.environ.get("TERM") != "dumb" else _lines
    return show(printable(description), total, unit, stream)


def amount(n: int, unit: str) -> str:
    """In words: `amount(2_500_000, "bytes") == "2.5 MB"`, `amount(3, "clips") == "3 clips"`."""
    if unit != "bytes":
        return f"{n} {unit}"
    for scale, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if n >= scale:
            return f"{n / scale:.1f} {name}"
    return f"{n} bytes"


@contextmanager
def _lines(description: str, total: int | None, unit: str, stream: TextIO) -> Iterator[Meter]:
    """One line at the start, one every LINE_SECONDS, and one for where the task ended."""
    shown: tuple[int, int | None] | None = None
    since = 0.0

    def show(done: int, total: int | None, last: bool = False) -> None:
        nonlocal shown, since
        now = time.monotonic()
        if (last or shown is None or now - since >= LINE_SECONDS) and (done, total) != shown:
            since = now
            of = f" of {amount(total, unit)} ({100 * done // total} %)" if total else ""
            first = str(done) if total and unit != "bytes" else amount(done, unit)
            print(f"{description}: {first}{of}", file=stream, flush=True)
            shown = done, total

    meter = Meter(total, show)
    if total:
        show(0, total)
    try:
        yield meter
    finally:
        if meter.done:
            show(meter.done, meter.total, last=True)


@contextmanager
def _bar(description: str, total: int | None, unit: str, stream: TextIO) -> Iterator[Meter]:
    """A rich bar with the amount done, the speed (of bytes) and the time that remains."""
    from rich import progress as rich
    from rich.console import Console

    name = rich.TextColumn("{task.description}", markup=False)  # it may name a folder with brackets
    counts: list[rich.ProgressColumn] = [rich.DownloadColumn(), rich.TransferSpeedColumn()]
    if unit != "bytes":
        counts = [rich.MofNCompleteColumn(), rich.TextColumn(unit, markup=False)]
    columns = name, rich.BarColumn(), *counts, rich.TimeRemainingColumn()
    with rich.Progress(*columns, console=Console(file=stream)) as bar:
        task = bar.add_task(description, total=total)
        yield Meter(total, lambda done, total: bar.update(task, completed=done, total=total))

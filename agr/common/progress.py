"""Shows how far a long task has come: a bar on a terminal, a line every tenth elsewhere, always on stderr.

    with terminal_progress("unpacking", 30_000, unit="clips") as advance:
        for clip in clips:
            ...
            advance(1)

A function that takes a while accepts a :class:`Progress` and leaves the choice to its caller:
``terminal_progress`` for a person, ``silent_progress`` for a test or another program.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TextIO

STEP_OF_UNKNOWN_TOTAL = {"bytes": 100_000_000}
OTHER_STEP = 1_000
Show = Callable[[int, int | None], None]


class Meter:
    """Where a task stands. Calling it adds to what is done; ``at`` says where it stands outright."""

    def __init__(self, total: int | None, show: Show) -> None:
        """Stand at 0 of ``total`` units (``None``: not known yet) and report every change to ``show``."""
        self.done = 0
        self.total = total
        self._show = show

    def __call__(self, n: int = 1) -> None:
        """Add ``n`` units to what is done."""
        self.at(self.done + n, self.total)

    def at(self, done: int, total: int | None) -> None:
        """Stand at ``done`` of ``total`` units; ``done`` may fall back when a task starts over."""
        self.done, self.total = done, total
        self._show(done, total)


class Progress(Protocol):
    """Opens a display for one task of ``total`` units (``None``: not known yet)."""

    def __call__(self, description: str, total: int | None, unit: str = "bytes") -> AbstractContextManager[Meter]:
        """Return a context whose value is the task's :class:`Meter`."""


@contextmanager
def silent_progress(description: str, total: int | None, unit: str = "bytes") -> Iterator[Meter]:
    """Show nothing."""
    yield Meter(total, lambda done, total: None)


@contextmanager
def terminal_progress(
    description: str, total: int | None, unit: str = "bytes", stream: TextIO | None = None
) -> Iterator[Meter]:
    """Show a bar if ``stream`` (stderr unless given) is a terminal, else a line about every tenth of the way.

    ``unit`` is ``"bytes"``, shown as kB, MB or GB with a speed, or the plural of what is counted ("clips").
    Without a total a line comes every 100 MB, or every 1000 of another unit.
    """
    stream = sys.stderr if stream is None else stream
    with (_bar if _is_terminal(stream) else _lines)(description, total, unit, stream) as meter:
        yield meter


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def amount(n: int, unit: str) -> str:
    """In words: ``amount(2_500_000, "bytes") == "2.5 MB"``, ``amount(3, "clips") == "3 clips"``."""
    if unit != "bytes":
        return f"{n} {unit}"
    for scale, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if n >= scale:
            return f"{n / scale:.1f} {name}"
    return f"{n} bytes"


def _standing(done: int, total: int | None, unit: str) -> str:
    if not total:
        return amount(done, unit)
    first = amount(done, unit) if unit == "bytes" else str(done)
    return f"{first} of {amount(total, unit)} ({100 * done // total} %)"


@contextmanager
def _lines(description: str, total: int | None, unit: str, stream: TextIO) -> Iterator[Meter]:
    """One line at the start, one for every mark passed, and one for where the task ended."""
    shown: tuple[int, int | None] | None = None
    mark: tuple[bool, int] | None = None

    def write(done: int, total: int | None) -> None:
        nonlocal shown
        if (done, total) != shown:
            print(f"{description}: {_standing(done, total, unit)}", file=stream, flush=True)
        shown = done, total

    def show(done: int, total: int | None) -> None:
        nonlocal mark
        step = STEP_OF_UNKNOWN_TOTAL.get(unit, OTHER_STEP)
        now = (True, 10 * done // total) if total else (False, done // step)
        if now != mark:
            write(done, total)
        mark = now

    meter = Meter(total, show)
    if total:
        show(0, total)
    try:
        yield meter
    finally:
        if meter.done:
            write(meter.done, meter.total)


@contextmanager
def _bar(description: str, total: int | None, unit: str, stream: TextIO) -> Iterator[Meter]:
    """A rich bar with the amount done, the speed (of bytes) and the time that remains."""
    from rich import progress as rich_progress
    from rich.console import Console

    counts: list[rich_progress.ProgressColumn] = (
        [rich_progress.DownloadColumn(), rich_progress.TransferSpeedColumn()]
        if unit == "bytes"
        else [rich_progress.MofNCompleteColumn(), rich_progress.TextColumn(unit, markup=False)]
    )
    columns = [
        rich_progress.TextColumn("{task.description}", markup=False),  # it may name a folder with brackets
        rich_progress.BarColumn(),
        *counts,
        rich_progress.TimeRemainingColumn(),
    ]
    with rich_progress.Progress(*columns, console=Console(file=stream)) as bar:
        task = bar.add_task(description, total=total)
        yield Meter(total, lambda done, total: bar.update(task, completed=done, total=total))

"""What a search shows while it runs: a live table on a terminal, a line for each finished trial elsewhere."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.markup import escape as escape_markup
from rich.table import Table

from agr.common.printable import printable
from search.session.session import FAILED, FINISHED, RUNNING, Record, Session, ranked
from search.tasks.base import format_setting

STYLES = {RUNNING: "cyan", FINISHED: "green", FAILED: "red"}
WIDTHS = {"epochs": ">3", "lr": "<6", "gamma": "<4"}
ROWS_AROUND = 9  # title, header, borders and the line below the table


@contextmanager
def shown(session: Session, total_epochs: int | None, title: str) -> Iterator[None]:
    """Show a session's progress on stdout until the block ends."""
    console = Console(highlight=False)
    if not console.is_terminal:
        listener = functools.partial(_print_line, session)
        session.listeners.append(listener)
        try:
            yield
        finally:
            session.listeners.remove(listener)
        return

    def draw() -> Table:
        return table(session, total_epochs, title, max(5, console.height - ROWS_AROUND))

    with Live(get_renderable=draw, console=console, refresh_per_second=4, transient=True):
        yield


def table(session: Session, total_epochs: int | None, title: str, rows: int) -> Table:
    """Trials, epochs, validation scores and the time left; running ones first, then the best."""
    caption = _caption(session, total_epochs)
    drawn = Table(title=escape(title), caption=caption, title_justify="left", caption_justify="left")
    for name in (*session.schema.axes, "epoch", *session.schema.columns.values(), "trained", "status"):
        drawn.add_column(escape(name.replace("_", " ")), justify="left" if name == "status" else "right")
    records = list(session.records.values())
    running, failed, finished = ([r for r in records if r.status == kind] for kind in (RUNNING, FAILED, FINISHED))
    for record in [*running, *failed, *ranked(finished)][:rows]:
        drawn.add_row(*map(escape, _cells(record)), style=STYLES.get(record.status, ""))
    return drawn


def escape(text: str) -> str:
    """The text as it may stand in a cell: neither markup nor what would steer a terminal."""
    return escape_markup(printable(text))


def _cells(record: Record) -> tuple[str, ...]:
    config, last = record.settings.config(), record.last
    scores = (f"{getattr(last, name):.4f}" if last else "" for name in record.schema.columns)
    status = state(record) + (f": {record.reason[:40]}" if record.reason else "")
    done = f"{len(record.history)}/{record.settings.epochs}"
    return (*(format_setting(config[name]) for name in record.schema.axes), done, *scores, str(record.trained), status)


def state(record: Record) -> str:
    """How it stands with a trial, in one word."""
    return "pruned" if record.pruned else record.status.lower()


def _caption(session: Session, total_epochs: int | None) -> str:
    """Counts, and the time left if epochs go on as they went."""
    records = list(session.records.values())  # a copy: trials start while it is drawn
    ended = sum(1 for record in records if record.status != RUNNING)
    trained = sum(record.trained for record in records)
    elapsed = time.monotonic() - session.began
    ahead = max(0, total_epochs - trained) if total_epochs else 0
    left = f"about {clock(elapsed / trained * ahead)} left" if trained and total_epochs else "starting"
    epochs = f"{trained} of {total_epochs} epochs trained" if total_epochs else f"{trained} epochs trained"
    planned = f"{ended} of {session.planned}" if session.planned else str(ended)
    return f"{planned} trials ended, {epochs}, {clock(elapsed)}, {left}"


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _print_line(session: Session, record: Record) -> None:
    if record.status == RUNNING:
        return
    ended = sum(1 for other in list(session.records.values()) if other.status != RUNNING)
    config, last, aim = record.settings.config(), record.last, record.schema.objective
    axes = " ".join(f"{name} {format_setting(config[name]):{WIDTHS.get(name, '')}}" for name in record.schema.axes)
    score = f"{aim.label} {getattr(last, aim.metric):.4f}" if last else "no epoch finished"
    reason = f" ({printable(record.reason)})" if record.reason else ""
    count = f"{ended:3}/{session.planned}" if session.planned else f"{ended:3}"
    epochs = f"{record.trained} epochs trained, {len(record.history) - record.trained} read"
    print(f"[{count}] {axes} {state(record)}: {score}, {epochs}{reason}", flush=True)

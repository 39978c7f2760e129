"""What a search shows while it runs: a live table on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.cells import cell_len
from rich.console import Console
from rich.live import Live
from rich.markup import escape as escape_markup
from rich.table import Table

from agr.common.printable import printable
from agr.common.progress import LINE_SECONDS
from search.session.session import FAILED, FINISHED, RUNNING, Record, Session, ranked
from search.tasks.base import Point, TrialSchema, format_setting

STYLES = {RUNNING: "cyan", FINISHED: "green", FAILED: "red"}
STATUS = "status"  # the column whose words may stand on lines of their own
ROWS_AROUND = 9  # title, header, borders and the line below the table


@contextmanager
def shown(session: Session, total_epochs: int | None, title: str) -> Iterator[None]:
    """Show a session's progress on stdout until the block ends."""
    console = Console(highlight=False)
    if not console.is_terminal:
        with _lines(session, total_epochs):
            yield
        return

    def draw() -> Table:
        return table(session, total_epochs, title, max(5, console.height - ROWS_AROUND), console.width)

    with Live(get_renderable=draw, console=console, refresh_per_second=4, transient=True):
        yield


@contextmanager
def _lines(session: Session, total_epochs: int | None) -> Iterator[None]:
    """A line when the first trial starts, one every LINE_SECONDS, and one for where the search ended."""
    since = -LINE_SECONDS

    def show(_: Record) -> None:
        nonlocal since
        if time.monotonic() - since >= LINE_SECONDS:
            since = time.monotonic()
            print(_caption(session, total_epochs), flush=True)

    session.listeners.append(show)
    try:
        yield
    finally:
        session.listeners.remove(show)
        print(_caption(session, total_epochs), flush=True)


def table(session: Session, total_epochs: int | None, title: str, rows: int, width: int = 1000) -> Table:
    """Trials, epochs, validation scores and the time left; running ones first, then the best."""
    caption, records, schema = _caption(session, total_epochs), list(session.records.values()), session.schema
    running, failed, finished = ([r for r in records if r.status == kind] for kind in (RUNNING, FAILED, FINISHED))
    chosen = [*running, *failed, *ranked(finished)][:rows]
    names = (*schema.axes, "epoch", *schema.columns.values(), "trained", STATUS)
    drawn = fitting(
        names, [_cells(record) for record in chosen], schema, width, [STYLES.get(r.status, "") for r in chosen]
    )
    drawn.title = escape(title)
    drawn.caption = f"{drawn.caption}\n{caption}" if drawn.caption else caption
    return drawn


def fitting(
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    schema: TrialSchema[Point],
    width: int,
    styles: Sequence[str] = (),
) -> Table:
    """A table of the columns that fit into a width in characters with no heading broken; its caption names the others.

    First those go that are the same in every row, then further scores, the number of trained epochs, and further axes.
    """
    columns = {name: [row[at] for row in rows] for at, name in enumerate(names)}
    scores = [title for metric, title in schema.columns.items() if metric != schema.objective.metric]
    same = [name for name in schema.axes if len(rows) > 1 and len(set(columns[name])) == 1]
    left_out = list[str]()
    for name in dict.fromkeys((*same, *reversed(scores), "trained", *reversed(schema.axes))):
        if sum(3 + max(map(cell_len, _words(title, cells))) for title, cells in columns.items()) < width:
            break
        left_out += [name.replace("_", " ")] if columns.pop(name, None) is not None else []
    drawn = Table(title_justify="left", caption_justify="left")
    for name in columns:
        drawn.add_column(
            escape(name.replace("_", " ")), justify="left" if name == STATUS else "right", no_wrap=name != STATUS
        )
    for number, cells in enumerate(zip(*columns.values(), strict=True)):
        drawn.add_row(*map(escape, cells), style=styles[number] if styles else "")
    drawn.caption = escape(f"not shown, for want of room: {', '.join(left_out)}") if left_out else None
    return drawn


def _words(name: str, cells: Sequence[str]) -> list[str]:
    """What of a column may not be broken over lines: its heading and cells; of the status, each word."""
    return [name, *(" ".join(cells).split() if name == STATUS else cells)]


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
    """Counts, the best score, and the time left if epochs go on as they went."""
    records = list(session.records.values())  # a copy: trials start while it is drawn
    ended = sum(1 for record in records if record.status != RUNNING)
    failed = sum(1 for record in records if record.status == FAILED)
    trained, aim = sum(record.trained for record in records), session.schema.objective
    elapsed = time.monotonic() - session.began
    ahead = max(0, total_epochs - trained) if total_epochs else 0
    left = f"about {clock(elapsed / trained * ahead)} left" if trained and total_epochs else "starting"
    epochs = f"{trained} of {total_epochs} epochs trained" if total_epochs else f"{trained} epochs trained"
    planned = f"{ended} of {session.planned}" if session.planned else str(ended)
    best = f"best {aim.label} {aim.value(session.best[-1][1]):.4f}" if session.best else ""
    what = (f"{planned} trials ended", f"{failed} failed" if failed else "", epochs, clock(elapsed), left, best)
    return ", ".join(filter(None, what))


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"

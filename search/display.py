"""What a search shows while it runs: a live table on a terminal, a line for each finished trial elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table

from search.session import FAILED, FINISHED, RUNNING, Record, Session, ranked

STYLES = {RUNNING: "cyan", FINISHED: "green", FAILED: "red"}
ROWS_AROUND = 9  # title, header, borders and the line below the table


@contextmanager
def shown(session: Session, total_epochs: int, title: str) -> Iterator[None]:
    """Show a session's progress on stdout until the block ends."""
    console = Console(highlight=False)
    if not console.is_terminal:
        session.listeners.append(lambda record: _print_line(session, record))
        yield
        return

    def draw() -> Table:
        return table(session, total_epochs, title, max(5, console.height - ROWS_AROUND))

    with Live(get_renderable=draw, console=console, refresh_per_second=4, transient=True):
        yield


def table(session: Session, total_epochs: int, title: str, rows: int) -> Table:
    """Trials, epochs, validation scores and the time left; running ones first, then the best."""
    drawn = Table(title=title, caption=_caption(session, total_epochs), title_justify="left", caption_justify="left")
    for name in ("epochs", "lr", "gamma", "epoch", "val loss", "val bal. acc.", "trained", "status"):
        drawn.add_column(name, justify="left" if name == "status" else "right")
    records = list(session.records.values())
    running = [record for record in records if record.status == RUNNING]
    failed = [record for record in records if record.status == FAILED]
    for record in [*running, *failed, *ranked(session.finished())][:rows]:
        drawn.add_row(*_cells(record), style=STYLES.get(record.status, ""))
    return drawn


def _cells(record: Record) -> tuple[str, ...]:
    s, last = record.settings, record.last
    scores = (f"{last.val_loss:.4f}", f"{last.val_balanced_accuracy:.4f}") if last else ("", "")
    status = record.status.lower() if not record.reason else f"{record.status.lower()}: {record.reason[:40]}"
    done = f"{len(record.history)}/{s.epochs}"
    return (str(s.epochs), f"{s.lr:g}", f"{s.gamma:g}", done, *scores, str(record.trained), status)


def _caption(session: Session, total_epochs: int) -> str:
    """Counts, and the time left if epochs go on as they went."""
    records = session.records.values()
    ended = sum(1 for record in records if record.status != RUNNING)
    trained = sum(record.trained for record in records)
    elapsed = time.monotonic() - session.began
    left = f"about {clock(elapsed / trained * max(0, total_epochs - trained))} left" if trained else "starting"
    epochs = f"{trained} of {total_epochs} epochs trained"
    return f"{ended} of {session.planned} trials ended, {epochs}, {clock(elapsed)}, {left}"


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _print_line(session: Session, record: Record) -> None:
    if record.status == RUNNING:
        return
    ended = sum(1 for other in session.records.values() if other.status != RUNNING)
    s, last = record.settings, record.last
    score = f"val balanced accuracy {last.val_balanced_accuracy:.4f}" if last else "no epoch finished"
    reason = f" ({record.reason})" if record.reason else ""
    print(
        f"[{ended:3}/{session.planned}] epochs {s.epochs:3} lr {s.lr:<6g} gamma {s.gamma:<4g} {record.status.lower()}: "
        f"{score}, {record.trained} epochs trained, {len(record.history) - record.trained} read{reason}",
        file=sys.stdout,
        flush=True,
    )

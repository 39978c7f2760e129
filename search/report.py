"""What a search says when it is over: ranking, champion, test result, and the next commands to type."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from agr.registry import SQLITE
from agr.scoring import by_corpus
from search.champion import Ending
from search.display import clock
from search.session import FAILED, Record, Session

TOP = 10
CHANCE = 0.5
ENV_FILE = "mlflow_store/env"


def say(ending: Ending, session: Session, seconds: float, leaky: bool, synthetic: bool) -> None:
    """Print it all to stdout."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(_ranking(ending.ranking, leaky))
    failed = [record for record in session.records.values() if record.status == FAILED]
    for record in failed:
        s = record.settings
        console.print(f"[red]failed[/red]  epochs {s.epochs} lr {s.lr:g} gamma {s.gamma:g}: {record.reason}")
    console.print(f"{session.summary()}, {clock(seconds)} min")
    best, last = ending.ranking[0].settings, ending.ranking[0].history[-1]
    mark = " (leaky)" if leaky else ""
    console.print(f"\nchampion    epochs {best.epochs}, lr {best.lr:g}, gamma {best.gamma:g}")
    console.print(f"validation  balanced accuracy {last.val_balanced_accuracy:.4f}{mark}")
    if ending.scores is not None:
        low, high = ending.scores.balanced_accuracy_ci95
        console.print(
            f"test        balanced accuracy {ending.scores.balanced_accuracy:.4f} on {ending.scores.speakers} speakers "
            f"it never heard (95 % interval over speakers {low:.4f} to {high:.4f})"
        )
        parts = by_corpus(ending.scores.per_speaker)
        if len(parts) > 1:
            console.print("            " + ", ".join(f"{name} {value:.4f}" for name, value in parts.items()))
        if low <= CHANCE:
            console.print("CHANCE      the interval reaches 0.5: not shown to be better than a coin")
    if leaky:
        console.print("LEAKY       the same people train and validate: these numbers say nothing about the next person")
    if synthetic:
        console.print("SYNTHETIC   made-up voices: these numbers prove nothing about people")
    if ending.version is None:
        console.print(f"registered  nothing: {ending.reason}")
    else:
        console.print(f"registered  agr version {ending.version} as {ending.alias}: {ending.reason}")
    console.print("\nnext:")
    for command in _next_commands(session.tracker.uri, ending):
        console.print(f"  {command}")


def _ranking(records: Sequence[Record], leaky: bool) -> Table:
    table = Table(title=f"best {min(TOP, len(records))} of {len(records)} trials" + (", LEAKY split" if leaky else ""))
    for name in ("rank", "epochs", "lr", "gamma", "val bal. acc.", "val acc.", "val loss"):
        table.add_column(name, justify="right")
    for rank, record in enumerate(records[:TOP], start=1):
        s, last = record.settings, record.history[-1]
        scores = (f"{last.val_balanced_accuracy:.4f}", f"{last.val_accuracy:.4f}", f"{last.val_loss:.4f}")
        table.add_row(str(rank), str(s.epochs), f"{s.lr:g}", f"{s.gamma:g}", *scores)
    return table


def _next_commands(uri: str, ending: Ending) -> list[str]:
    if uri == f"{SQLITE}{os.path.abspath('mlflow_store/mlflow.db')}":
        show = f"mlflow --env-file {ENV_FILE} ui"
    else:
        show = f"mlflow ui --backend-store-uri {uri}" if uri.startswith(SQLITE) else f"open {uri}"
    if ending.version is None:
        return [show]
    return [show, f"python -m agr.predict --model-uri models:/agr/{ending.alias} clip.wav"]


def interrupted(session: Session, kept: bool) -> None:
    """What Ctrl-C leaves."""
    what = "what the others trained is kept, and the same command goes on" if kept else "the others start anew"
    print(f"interrupted: {len(session.finished())} of {session.planned} trials finished; {what}")

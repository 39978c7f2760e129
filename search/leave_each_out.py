"""`--leave-out each`: one search for every corpus of people, tested on it and trained on the others.

The table says how well a model does on people and recordings of a kind that it never met.
"""

from __future__ import annotations

import argparse
import copy
import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

from agr.common.cli import complain
from agr.common.files import write_atomic
from agr.common.places import store_folder
from agr.common.printable import printable
from agr.data import combine
from agr.errors import AgrError, SettingsError
from agr.labels import CLASSES
from search.driver.run import conduct
from search.grid_search import build_search, grid_plan
from search.problems import agr_models
from search.results.champion import SearchResult

if TYPE_CHECKING:
    from search.outbox.mlflow_process import MlflowProcess

EACH = "each"
COLUMNS = ("left out", "clips", "speakers", *CLASSES, "balanced accuracy", "ece")
FILE = "leave-each-out.csv"


@dataclass(frozen=True)
class Row:
    """What the champion of the other corpora answers on one corpus."""

    corpus: str
    clips: int
    speakers: int
    recall: tuple[float | None, ...]  # of each class; None if the corpus has none of it
    value: float  # balanced accuracy, or the recall of the only class
    ece: float  # expected calibration error

    @classmethod
    def of(cls, corpus: str, result: SearchResult) -> Row:
        """The row of a search that left out `corpus`."""
        assert result.scores is not None
        recall = tuple(result.scores.recall[name] for name in CLASSES)
        value, ece = result.scores.balanced_accuracy, result.tested["test_ece"]
        return cls(corpus, result.scores.clips, result.scores.speakers, recall, value, ece)

    @property
    def cells(self) -> tuple[str, ...]:
        """As text, in the order of COLUMNS."""
        recall = ("" if each is None else f"{each:.4f}" for each in self.recall)
        return (self.corpus, str(self.clips), str(self.speakers), *recall, f"{self.value:.4f}", f"{self.ece:.4f}")


def run(options: argparse.Namespace, script: str, mlflow_process: Callable[[], MlflowProcess]) -> int:
    """Search once for every corpus, and print and write the table; returns the exit status.

    Raises: SettingsError with a trainable, or if there are fewer than two corpora of people.
    """
    if options.trainable:
        raise SettingsError("--leave-out each: found --trainable; expected AGR's own models")
    names = _corpora(options, script)
    rows: list[Row] = []
    for count, name in enumerate(names, start=1):
        print(f"\nleft out: {printable(name)}, {count} of {len(names)}", flush=True)
        asked = copy.copy(options)
        asked.leave_out, asked.name = name, options.name and f"{options.name}-{name}"
        with mlflow_process() as process:
            code, ending = conduct(*build_search(asked, script), process)
        if isinstance(ending, AgrError) or ending is None:
            complain(f"{name}: no result; the table has the {len(rows)} before it")
            break
        rows.append(Row.of(name, ending))
    if rows:
        _print(rows)
        path = store_folder() / FILE
        _write(rows, path)
        complain(f"{path}: the same table")
    return 0 if len(rows) == len(names) else code


def _corpora(options: argparse.Namespace, script: str) -> list[str]:
    """The names of the corpora of people."""
    sets = agr_models.image_sets(grid_plan(options, script))
    names = [name for data in sets if not data.synthetic for name in np.unique(combine.corpora(data)).tolist()]
    if len(names) < 2:
        found = ", ".join(names) or "none"
        raise SettingsError(f"--leave-out each: corpora of people: {found}; expected two or more with --data")
    return names


def _print(rows: Sequence[Row]) -> None:
    table = Table(title="people and corpora that the model never met")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == COLUMNS[0] else "right")
    for row in rows:
        table.add_row(*map(printable, row.cells))
    console = Console()
    console.print(table)
    values = [row.value for row in rows]
    worst = min(rows, key=lambda row: row.value)
    console.print(f"mean {np.mean(values):.4f}, worst {worst.value:.4f} ({printable(worst.corpus)})")


def _write(rows: Sequence[Row], path: Path) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(row.cells for row in rows)
    write_atomic(path, text.getvalue().encode())

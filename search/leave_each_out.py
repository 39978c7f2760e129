"""`--leave-out each`: one search for every corpus of people, tested on it and trained on the others.

The table says how well a model does on people and recordings of a kind that it never met, and how far its
probabilities can be believed there: with the temperature that suits the other corpora when they are left out.
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
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from agr.common.cli import complain
from agr.common.files import write_atomic
from agr.common.places import store_folder
from agr.common.printable import printable
from agr.data import combine
from agr.errors import AgrError, SettingsError
from agr.labels import CLASSES
from agr.metrics import calibration
from search.driver.earlier import EarlierSearch
from search.driver.run import conduct
from search.grid_search import build_search, grid_plan
from search.problems import agr_models
from search.results.champion import SearchResult

if TYPE_CHECKING:
    from search.outbox.mlflow_process import MlflowProcess

EACH = "each"
COLUMNS = ("left out", "clips", "speakers", *CLASSES, "balanced accuracy", "temperature", "ece")
FILE = "leave-each-out.csv"


@dataclass(frozen=True)
class Row:
    """What the champion of the other corpora answers on one corpus."""

    corpus: str
    clips: int
    speakers: int
    recall: tuple[float | None, ...]  # of each class; None if the corpus has none of it
    value: float  # balanced accuracy, or the recall of the only class
    logits: NDArray[np.float64]  # of its clips, (n, 2), as trained
    labels: NDArray[np.int64]  # of the same clips, (n,)

    @classmethod
    def of(cls, corpus: str, result: SearchResult) -> Row:
        """The row of a search that left out `corpus`."""
        assert result.scores is not None
        recall = tuple(result.scores.recall[name] for name in CLASSES)
        size = (result.scores.clips, result.scores.speakers)
        return cls(corpus, *size, recall, result.scores.balanced_accuracy, result.logits, result.labels)

    def cells(self, others: Sequence[Row]) -> tuple[str, ...]:
        """As text, in the order of COLUMNS. others: The other rows, which choose the temperature."""
        recall = ("" if each is None else f"{each:.4f}" for each in self.recall)
        found = temperature(others)
        ece = calibration.metrics(self.logits / found, self.labels, "test")["ece_test"]
        numbers = (f"{self.value:.4f}", f"{found:.2f}", f"{ece:.4f}")
        return (self.corpus, str(self.clips), str(self.speakers), *recall, *numbers)


def temperature(rows: Sequence[Row]) -> float:
    """The temperature that suits these corpora when they are left out, each counted once; 1 without any."""
    return calibration.fit_across([(row.logits, row.labels) for row in rows]) if rows else 1.0


def _cells(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    return [row.cells([other for other in rows if other is not row]) for row in rows]


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
        if isinstance(ending, EarlierSearch):
            ending = ending.result()
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
    for cells in _cells(rows):
        table.add_row(*map(printable, cells))
    console = Console()
    console.print(table)
    values = [row.value for row in rows]
    worst = min(rows, key=lambda row: row.value)
    console.print(f"mean {np.mean(values):.4f}, worst {worst.value:.4f} ({printable(worst.corpus)})")
    console.print(f"temperature of a corpus: that of the others, left out in turn; of all: {temperature(rows):.2f}")


def _write(rows: Sequence[Row], path: Path) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_cells(rows))
    write_atomic(path, text.getvalue().encode())

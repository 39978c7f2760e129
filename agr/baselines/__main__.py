"""Compares public tools on the folds that the search uses.

    python -m agr.baselines --data SOURCE [SOURCE ...] [--folds 4] [--fold K] [--rivals praat egemaps] [--json]
    python -m agr.baselines --data SOURCE --test OTHER          # train on all of one corpus, test on another

No speaker both trains and tests. A clip to which a tool has no answer counts as wrong. The libraries come with
`pip install 'agr[baselines]'`; their features are kept in data/rivals.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from agr.baselines import classify, extractors
from agr.baselines.compare import WORKSPACE, Voices, across, listen, rows
from agr.common.cli import complain
from agr.data import splits
from agr.data.splits import Split
from agr.labels import CLASSES

if TYPE_CHECKING:
    from rich.table import Table

WIDTH = 150  # columns of a table that is not printed to a terminal


def table(results: Sequence[classify.Result], title: str) -> Table:
    """One row for each tool; interval and recalls are of the test clips of all folds together."""
    from rich.table import Table

    shown = Table(title=title)
    shown.add_column("rival", no_wrap=True)
    folds = [f"fold {k}" for k in range(len(results[0].folds))] if len(results[0].folds) > 1 else []
    for name in (*folds, "bal. acc.", "95 % interval", *CLASSES, "no answer", "threshold, Hz"):
        shown.add_column(name, justify="right")
    for result in results:
        low, high = result.together.balanced_accuracy_ci95
        recall = [f"{value:.3f}" if value is not None else "-" for value in result.together.recall.values()]
        each = [f"{fold.balanced_accuracy:.3f}" for fold in result.folds[: len(folds)]]
        hz = " to ".join(f"{value:.0f}" for value in sorted({min(result.hz), max(result.hz)})) if result.hz else "-"
        mean, span, silent = f"{result.balanced_accuracy:.3f}", f"{low:.3f} to {high:.3f}", f"{result.unanswered:.1%}"
        shown.add_row(result.rival.title, *each, mean, span, *recall, silent, hz)
    return shown


def as_dict(results: Sequence[classify.Result], voices: Voices, sides: Sequence[Split]) -> dict[str, Any]:
    """The object that --json prints, without the missing tools."""
    return {
        "data": voices.name,
        "clips": len(voices),
        "speakers": len(np.unique(voices.speakers)),
        "synthetic": voices.synthetic,
        "splits": [{"name": split.name, "digest": split.digest} for split in sides],
        "rivals": [_row(result) for result in results],
    }


def _row(result: classify.Result) -> dict[str, Any]:
    rival, together = result.rival, result.together
    return {
        "rival": rival.name,
        "title": rival.title,
        "library": f"{rival.library} {metadata.version(rival.library)}",
        "balanced_accuracy": result.balanced_accuracy,
        "balanced_accuracy_ci95": together.balanced_accuracy_ci95,
        "recall": together.recall,
        "unanswered": result.unanswered,
        "threshold_hz": result.hz,
        "folds": [fold.as_dict() for fold in result.folds],
    }


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m agr.baselines", description="Compare public tools on AGR's folds.")
    source = "demo, audiomnist, a corpus folder or a CSV manifest"
    parser.add_argument("--data", nargs="+", required=True, metavar="SOURCE", help=source)
    parser.add_argument("--test", nargs="+", metavar="SOURCE", help="train on all of --data, test on these")
    parser.add_argument("--split", choices=("folds", "audiomnist-4fold"), default="folds", help="default: folds")
    parser.add_argument("--folds", type=int, default=4, help="groups of speakers, each tests once (default: 4)")
    parser.add_argument("--fold", type=int, help="compare only where this group tests (default: all, in turn)")
    parser.add_argument("--seed", type=int, default=0, help="of the folds, as in the search (default: 0)")
    names = tuple(extractors.EXTRACTORS)
    parser.add_argument("--rivals", nargs="+", choices=names, default=names, help="the tools (default: all)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    if options.test and options.fold is not None:
        parser.error("--fold and --test: expected one of them")
    return options


def _sides(options: argparse.Namespace) -> tuple[Voices, list[Split]]:
    """The voices, and every split of them to compare on."""
    voices = listen(options.data, WORKSPACE)
    if options.test:
        voices, split = across(voices, listen(options.test, WORKSPACE))
        return voices, [split]
    count = 4 if options.split == "audiomnist-4fold" else options.folds
    wanted = range(count) if options.fold is None else [options.fold]
    return voices, [splits.make(voices, options.split, options.seed, count, fold) for fold in wanted]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 1 if the library of a tool is missing."""
    options = _parse(arguments)
    wanted = [extractors.EXTRACTORS[name] for name in dict.fromkeys(options.rivals)]
    absent = {rival.name: line for rival in wanted if (line := extractors.missing(rival))}
    for line in absent.values():
        complain(line)
    chosen = [rival for rival in wanted if rival.name not in absent]
    if chosen:
        voices, sides = _sides(options)
        results = rows(chosen, voices, sides, options.workers)
        if options.json:
            print(json.dumps(as_dict(results, voices, sides) | {"missing": absent}))
        else:
            _show(results, voices, sides)
    return int(bool(absent))


def _show(results: Sequence[classify.Result], voices: Voices, sides: Sequence[Split]) -> None:
    from rich.console import Console

    console = Console(highlight=False, markup=False)  # brackets in the name of a corpus are no markup
    console.width = console.width if console.is_terminal else WIDTH
    tested, how = results[0].together, sides[0].name if len(sides) == 1 else f"{len(sides)} folds"
    console.print(table(results, f"{voices.name}, {how}: {tested.clips} test clips of {tested.speakers} speakers"))
    console.print("Balanced accuracy and its 95 % interval over speakers; no answer counts as wrong.")
    if None in tested.recall.values():
        console.print("The test clips are of one gender only: its recall stands for the balanced accuracy.")
    if voices.synthetic:
        console.print("These voices are synthetic: the result proves nothing about people.")


if __name__ == "__main__":
    from agr.common.cli import run

    run(main)

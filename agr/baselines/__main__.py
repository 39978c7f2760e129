"""Compare public tools with AGR on the folds that the search uses.

    python -m agr.baselines --data SOURCE [SOURCE ...] [--folds 4] [--fold K] [--extractors praat egemaps] [--json]
    python -m agr.baselines --data SOURCE --test OTHER          # train on one corpus, test on another
    python -m agr.baselines --data SOURCE SOURCE --split corpora          # test on each corpus, train on the others

No speaker is in both training and test. A clip without an answer counts as wrong. `pip install 'agr[baselines]'`
installs the tools; their features are cached in data/baselines.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import numpy as np

from agr.baselines import classify, extractors
from agr.baselines.compare import (
    Recordings,
    compare,
    join_train_and_test,
    leave_out_each,
    name_of,
    read_recordings,
)
from agr.common.cli import ArgumentParser, complain
from agr.common.places import workspace
from agr.common.printable import printable
from agr.data import splits
from agr.data.splits import Split
from agr.labels import CLASSES

WIDTH = 150  # columns, if the output is not a terminal


def as_dict(results: Sequence[classify.Result], recordings: Recordings, folds: Sequence[Split]) -> dict[str, Any]:
    """The JSON object that --json prints, without `missing`."""
    return {
        "data": recordings.name,
        "clips": len(recordings),
        "speakers": len(np.unique(recordings.speakers)),
        "synthetic": recordings.synthetic,
        "splits": [{"name": split.name, "digest": split.digest} for split in folds],
        "extractors": [_row(result) for result in results],
    }


def _row(result: classify.Result) -> dict[str, Any]:
    extractor, pooled = result.extractor, result.pooled
    return {
        "extractor": extractor.name,
        "title": extractor.title,
        "library": f"{extractor.library} {metadata.version(extractor.library)}",
        "balanced_accuracy": result.balanced_accuracy,
        "balanced_accuracy_ci95": pooled.balanced_accuracy_ci95,
        "recall": pooled.recall,
        "unanswered": result.unanswered,
        "threshold_hz": result.hz,
        "folds": [fold.as_dict() for fold in result.folds],
    }


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(prog="python -m agr.baselines", description="Compare public tools on AGR's folds.")
    source = "demo, audiomnist, a corpus folder or a CSV manifest"
    parser.add_argument("--data", nargs="+", required=True, metavar="SOURCE", help=source)
    parser.add_argument("--test", nargs="+", metavar="SOURCE", help="train on all of --data, test on these")
    ways = "folds of speakers, those of AudioMNIST, or each corpus in turn (default: folds)"
    parser.add_argument("--split", choices=("folds", "audiomnist-4fold", "corpora"), default="folds", help=ways)
    parser.add_argument("--folds", type=int, default=4, help="groups of speakers; each is tested once (default: 4)")
    parser.add_argument("--fold", type=int, help="test only this group, from 0 (default: all, in turn)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the folds, as in the search (default: 0)")
    names = tuple(extractors.EXTRACTORS)
    tools = "the tools (default: all); --rivals is the former name"
    parser.add_argument("--extractors", "--rivals", nargs="+", choices=names, default=names, help=tools)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    if options.split == "corpora" and (options.test or options.fold is not None):
        parser.error("--split corpora: found --test or --fold; expected neither, as each corpus is tested once")
    if options.test and options.fold is not None:
        parser.error("--fold and --test: expected one of them")
    return options


def _recordings_and_splits(options: argparse.Namespace) -> tuple[Recordings, list[Split]]:
    """The recordings, and every split of them to compare on."""
    recordings = read_recordings(options.data, workspace())
    if options.test:
        recordings, split = join_train_and_test(recordings, read_recordings(options.test, workspace()))
        return recordings, [split]
    if options.split == "corpora":
        return recordings, leave_out_each(recordings)
    count = 4 if options.split == "audiomnist-4fold" else options.folds
    wanted = range(count) if options.fold is None else [options.fold]
    return recordings, [splits.make(recordings, options.split, options.seed, count, fold) for fold in wanted]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status, 1 if a tool is not installed."""
    options = _parse(arguments)
    wanted = [extractors.EXTRACTORS[name] for name in dict.fromkeys(options.extractors)]
    absent = {extractor.name: line for extractor in wanted if (line := extractors.missing_modules(extractor))}
    for line in absent.values():
        complain(line)
    chosen = [extractor for extractor in wanted if extractor.name not in absent]
    if chosen:
        recordings, chosen_splits = _recordings_and_splits(options)
        results = compare(chosen, recordings, chosen_splits, options.workers)
        if options.json:
            print(json.dumps(as_dict(results, recordings, chosen_splits) | {"missing": absent}))
        else:
            _show(results, recordings, chosen_splits)
    return int(bool(absent))


def _show(results: Sequence[classify.Result], recordings: Recordings, folds: Sequence[Split]) -> None:
    """One row for each tool; interval and recalls are over the test clips of all folds pooled."""
    from rich.console import Console
    from rich.table import Table

    tested, how = results[0].pooled, folds[0].name if len(folds) == 1 else f"{len(folds)} folds"
    shown = Table(title=f"{printable(recordings.name)}, {how}: {tested.clips} test clips of {tested.speakers} speakers")
    shown.add_column("extractor", no_wrap=True)
    columns = [name_of(split, k) for k, split in enumerate(folds)] if len(folds) > 1 else []
    for column in (*columns, "bal. acc.", "95 % interval", *CLASSES, "no answer", "threshold"):
        shown.add_column(column, justify="right")
    for result in results:
        low, high = result.pooled.balanced_accuracy_ci95
        recall = [f"{value:.3f}" if value is not None else "-" for value in result.pooled.recall.values()]
        each = [f"{fold.balanced_accuracy:.3f}" for fold in result.folds[: len(columns)]]
        hz = " to ".join(f"{value:.3g}" for value in sorted({min(result.hz), max(result.hz)})) if result.hz else "-"
        mean, span, silent = f"{result.balanced_accuracy:.3f}", f"{low:.3f} to {high:.3f}", f"{result.unanswered:.1%}"
        shown.add_row(result.extractor.title, *each, mean, span, *recall, silent, hz)
    console = Console(highlight=False, markup=False)  # a corpus name may hold brackets
    console.width = console.width if console.is_terminal else WIDTH
    console.print(shown)
    console.print("Balanced accuracy with its 95 % interval over speakers; no answer counts as wrong.")
    if None in tested.recall.values():
        console.print("The test clips are of one gender only: its recall stands for the balanced accuracy.")
    if recordings.synthetic:
        console.print("These voices are synthetic: the result proves nothing about people.")


if __name__ == "__main__":
    from agr.common.cli import run

    run(main)

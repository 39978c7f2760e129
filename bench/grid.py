"""The 27-point grid on the same images and split: by plain Ray Tune, and by this search in three states.

    python bench/grid.py IMAGES --workers 2 [--split KIND] [--folds N --fold K] [--only 1,3,5] [--seed 0] [--quick]
    python bench/grid.py demo --growth --workers 2

IMAGES is a folder that `python -m agr.prepare` made, or any SOURCE that it takes. Each case is a command of its own
in a temporary folder; its wall time counts everything from starting Python to its end. The goals are stated for 1,000
training images or more and two cores. Exit status: 0 if they hold, 1 if not. Case 5, only when asked for, is case 1
with this project's model in place of the script's own: what of the difference is the model's.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from _grid_tools import (
    Case,
    flops_per_image,
    lay_out,
    matmul_rate,
    prepared,
    read_trials,
    some_of_each,
    timed,
    write_subset,
)
from rich.console import Console
from rich.table import Table

from agr.common.cli import run
from agr.data import image_set, splits
from agr.data.image_set import ImageSet
from agr.data.splits import Split
from agr.errors import SettingsError
from search.grid_search import EPOCHS, GAMMA, LR, grid
from search.tasks.base import distinct_epochs

ROOT = Path(__file__).resolve().parents[1]
TITLES = {
    1: "plain Ray Tune",
    2: "search, no stage store",
    3: "search, empty store",
    4: "search, warm store",
    5: "plain Ray Tune, AGR's model",
}
FOLDERS = {1: "plain", 2: "unshared", 3: "shared", 4: "shared", 5: "plain-model"}
PLAIN: dict[int, list[str]] = {1: [], 5: ["--agr-model"]}  # what the plain script is told
GOALS = {3: 7.0, 4: 100.0}  # times faster than case 1
GOAL_IMAGES = 1000
QUICK_EPOCHS, QUICK_EACH = (1, 2, 6), 4
GROWTH_IMAGES = 64
GROWTH = {9: (3, 1), 27: (3, 3), 108: (6, 6), 432: (12, 12)}  # points: how many lr, how many gamma


@dataclass(frozen=True)
class Bench:
    """What all cases share: the images, their split, and what the commands are told."""

    options: argparse.Namespace
    folder: Path
    data: ImageSet
    split: Split
    scratch: Path
    epochs: tuple[int, ...] = EPOCHS

    def run(self, number: int) -> Case:
        """Run one case in its folder."""
        cwd = self.scratch / FOLDERS[number]
        axes = ["--epochs", *map(str, self.epochs), "--seed", str(self.options.seed)]
        if number in PLAIN:
            layout = self.scratch / "layout"
            if not layout.exists():
                lay_out(self.data, self.split, layout)
            command = [str(ROOT / "bench/plain_tune.py"), str(layout), "--workers", str(self.options.workers)]
            started, wall = timed([sys.executable, *command, *axes, *PLAIN[number]], cwd)
            return Case(number, wall, started, read_trials(cwd / "mlflow.db", "plain"))
        command = search_command(self.options, self.folder, f"case{number}") + axes
        started, wall = timed(command + ["--no-stage-store"] * (number == 2), cwd)
        return Case(number, wall, started, read_trials(cwd / "mlflow_store/mlflow.db", "agr", f"case{number}"))

    def gflops(self, case: Case) -> float:
        """1e9 FLOP/s of one thread inside the epochs that a case trained: training and validation, JPEGs included."""
        both, forward = flops_per_image()
        flops = both * len(self.split.train) + forward * len(self.split.val)
        return case.epochs * flops / case.training / 1e9


def search_command(options: argparse.Namespace, folder: Path, name: str) -> list[str]:
    """The command line of this project's search on a prepared folder."""
    command = [sys.executable, str(ROOT / "search/run_grid.py"), "--data", str(folder), "--name", name]
    command += ["--num-workers", str(options.workers), "--split", options.split, "--no-cuda", "--no-mps"]
    if options.folds is not None:
        command += ["--folds", str(options.folds)]
    return command + (["--fold", str(options.fold)] if options.fold is not None else [])


def make_split(options: argparse.Namespace, data: ImageSet) -> Split:
    """The split that run_grid.py makes of these flags."""
    kind = "folds" if options.folds is not None else options.split
    return splits.make(data, kind, options.seed, options.folds, options.fold)


def compare(options: argparse.Namespace, scratch: Path) -> int:
    """Run the cases and print what came of them; returns the exit status."""
    folder = prepared(options.source, scratch)
    data = image_set.load(folder)
    if options.quick:
        folder = write_subset(data, some_of_each(data, QUICK_EACH), scratch / "quick")
        data = image_set.load(folder)
    bench = Bench(options, folder, data, make_split(options, data), scratch, QUICK_EPOCHS if options.quick else EPOCHS)
    sides = f"{len(bench.split.train)} training and {len(bench.split.val)} validation images"
    print(f"{data.name}: {sides}, {options.workers} workers of one thread, {os.cpu_count()} cores", end="")
    print(f", load before {os.getloadavg()[0]:.1f}", flush=True)
    rate = matmul_rate() / 1e9
    cases = {}
    for number in sorted(options.only | ({3} if 4 in options.only else set())):
        cases[number] = bench.run(number)
        print(f"case {number}, {TITLES[number]}: {cases[number].wall:.1f} s", flush=True)
    Console(width=120, markup=False).print(table(bench, cases))
    print(f"one thread reaches {rate:.1f} GFLOP/s in a float32 matrix product")
    same = agreement(cases)
    return int(not judge(cases, len(bench.split.train)) or not same)


def table(bench: Bench, cases: dict[int, Case]) -> Table:
    """A row for each case: ratios against the plain script, times before the first and after the last trained epoch.

    training %: the share of workers x wall in which an epoch was being trained.
    """
    drawn = Table(title="27 points of epochs x lr x gamma", title_justify="left")
    for name in (
        "case",
        "wall s",
        "faster",
        "epochs trained",
        "fewer",
        "first batch s",
        "tail s",
        "training %",
        "GFLOP/s",
    ):
        drawn.add_column(name, justify="left" if name == "case" else "right")
    plain = cases.get(1)
    for number, case in cases.items():
        faster = f"{plain.wall / case.wall:.1f} x" if plain else ""
        fewer = f"{plain.epochs / case.epochs:.2f} x" if plain and case.epochs else ""
        first = f"{case.first_batch:.1f}" if case.first_batch is not None else ""
        tail = f"{case.tail:.1f}" if case.tail is not None else ""
        share = f"{100 * case.training / (bench.options.workers * case.wall):.0f}"
        rate = f"{bench.gflops(case):.1f}" if case.epochs else ""
        name = f"{number} {TITLES[number]}"
        drawn.add_row(name, f"{case.wall:.1f}", faster, str(case.epochs), fewer, first, tail, share, rate)
    return drawn


def agreement(cases: dict[int, Case]) -> bool:
    """Say whether cases 2, 3 and 4 validated alike, to the last bit, at every epoch of every point."""
    known = [cases[number] for number in (2, 3, 4) if number in cases]
    good = True
    for one, other in itertools.pairwise(known):
        pairs = [(one.trials.get(p), other.trials.get(p)) for p in one.trials.keys() | other.trials.keys()]
        same = sum(1 for a, b in pairs if a is not None and b is not None and a.scores == b.scores)
        verdict = "agree exactly" if same == len(pairs) else "DIFFER"
        print(f"validation metrics of cases {one.number} and {other.number} {verdict}: {same} of {len(pairs)} points")
        good = good and same == len(pairs)
    return good


def judge(cases: dict[int, Case], train: int) -> bool:
    """Say whether the goals hold, on the last line."""
    judged = [number for number in GOALS if {1, number} <= cases.keys()]
    if not judged:
        print("no verdict: it needs case 1 and case 3 or 4")
        return True
    parts, held = [], True
    for number in judged:
        ratio = cases[1].wall / cases[number].wall
        held = held and ratio >= GOALS[number]
        parts.append(f"case {number} is {ratio:.1f} x faster than plain Ray Tune (goal {GOALS[number]:g} x)")
    small = f"; the goals are stated for {GOAL_IMAGES} training images, here are {train}" if train < GOAL_IMAGES else ""
    print(f"{'HELD' if held else 'NOT HELD'}: {', '.join(parts)}{small}")
    return held


def growth(options: argparse.Namespace, scratch: Path) -> int:
    """Grow the grid on few images and print what it costs."""
    folder = prepared(options.source, scratch)
    data = image_set.load(folder)
    people = len(set(data.speakers[make_split(options, data).train].tolist()))
    folder = write_subset(data, some_of_each(data, max(1, GROWTH_IMAGES // people)), scratch / "few")
    train = len(make_split(options, image_set.load(folder)).train)
    title = f"{data.name}, {train} training images, {options.workers} workers"
    drawn = Table(title=title, title_justify="left")
    for name in ("points", "epochs, plain Ray Tune", "epochs trained here", "fewer", "wall s", "wall s a point"):
        drawn.add_column(name, justify="right")
    for points, (rates, factors) in list(GROWTH.items())[: 2 if options.quick else None]:
        lr = LR if rates == len(LR) else tuple(round(0.1 * 0.01 ** (k / (rates - 1)), 6) for k in range(rates))
        gamma = GAMMA[:factors] if factors <= len(GAMMA) else tuple(round((k + 1) / factors, 4) for k in range(factors))
        axes = ["--epochs", *map(str, EPOCHS), "--lr", *map(str, lr), "--gamma", *map(str, gamma)]
        command = search_command(options, folder, f"growth{points}") + axes + ["--seed", str(options.seed)]
        started, wall = timed(command, scratch / f"growth{points}")
        database = scratch / f"growth{points}/mlflow_store/mlflow.db"
        case = Case(3, wall, started, read_trials(database, "agr", f"growth{points}"))
        every = grid(EPOCHS, lr, gamma)
        plain, least = sum(point.epochs for point in every), distinct_epochs(every)
        trained = f"{case.epochs}" + ("" if case.epochs == least else f" (distinct: {least})")
        drawn.add_row(
            str(points), str(plain), trained, f"{plain / case.epochs:.2f} x", f"{wall:.1f}", f"{wall / points:.2f}"
        )
        print(f"{points} points: {wall:.1f} s", flush=True)
    Console(width=120, markup=False).print(drawn)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python bench/grid.py", description="Measure the search against plain Tune.")
    parser.add_argument("source", metavar="IMAGES", help="a prepared folder, or any SOURCE of agr.prepare")
    parser.add_argument("--workers", type=int, default=2, help="trials at a time (default: 2)")
    parser.add_argument("--only", default="1,2,3,4", help="cases, for instance 1,3; 4 runs 3 too (default: 1 to 4)")
    parser.add_argument("--split", choices=("speakers", "audiomnist-4fold", "random"), default="speakers")
    parser.add_argument("--folds", type=int)
    parser.add_argument("--fold", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="few images and short trials: does it run at all")
    parser.add_argument("--growth", action="store_true", help="9 to 432 points on few images instead")
    options = parser.parse_args(arguments)
    try:
        options.only = {int(part) for part in options.only.split(",")}
    except ValueError as error:
        raise SettingsError(f"--only {options.only}: expected numbers of cases, for instance 1,3") from error
    if not options.only <= TITLES.keys():
        raise SettingsError(f"--only {sorted(options.only)}: expected cases of 1 to 5")
    with tempfile.TemporaryDirectory(prefix="agr-bench-") as scratch:
        return (growth if options.growth else compare)(options, Path(scratch))


if __name__ == "__main__":
    run(main)

"""What search.py does: run every contender on every seed, compare, draw, judge.

DATA is any SOURCE of `python -m agr.prepare`. Every contender is a command of its own on the same images, split and
seed: `search/run_grid.py` with an empty stage store, `bench/plain_optuna.py` without and with Optuna's own sampler and
pruner, `search/run_optuna.py --no-warm-start`. All but the grid may choose anything within the grid's ranges, train no
more than --budget epochs, and let a trial stand for its best epoch; the grid's stand for their last, as the paper has
it. Test speakers are read once, by the champion of each. Results are kept in --out, so that the same command goes on
after an interruption; another version of the code wants another --out.

The last line is the verdict, and the exit status 0 if it holds, 1 if not: the search reaches the grid's best
validation score within a third of the epochs that the grid trains, in the median over the seeds; and after its budget
its best is, in the median, no lower than that of Optuna alone.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from _search_tools import CLOSE, CONTENDERS, Axes, Match, Result
from rich.console import Console
from rich.table import Table

from agr.common.progress import terminal_progress
from agr.data import combine, preparation
from agr.data.image_set import ImageSet
from agr.errors import SettingsError
from agr.plots import search as plots_search
from search.grid_search import EPOCHS, GAMMA, LR
from search.optuna_search.space import DEFAULT

Results = Mapping[str, Sequence[Result]]  # of each contender one a seed, in the order of the seeds

SHARE = 3  # the search may train one of so many epochs of the grid
STUDY = Axes(EPOCHS, LR, GAMMA)
QUICK = Axes((2, 4), (0.01, 0.001), (0.3,))
QUICK_BUDGET = 5


def compare(options: argparse.Namespace) -> int:
    """Run what has not been run, then table, picture and verdict; returns the exit status."""
    match, synthetic = _match(options)
    results: dict[str, list[Result]] = {name: [] for name in CONTENDERS}
    with terminal_progress("searches", len(CONTENDERS) * options.seeds, unit="searches") as advance:
        for seed in range(options.seeds):
            for name in CONTENDERS:
                found = match.result(name, seed)
                results[name].append(found)
                figures = f"validation {found.val:.4f}, test {found.test:.4f}"
                print(
                    f"seed {seed}, {CONTENDERS[name]}: {figures}, {found.epochs} epochs, {found.wall:.0f} s", flush=True
                )
                advance(1)
    note = "synthetic voices; " if synthetic else ""
    title = f"{' + '.join(Path(source).name for source in options.data)}: {note}seeds 0 to {options.seeds - 1}"
    Console(width=120, markup=False).print(table(results, title))
    path = match.out / "search.png"
    picture(results, path, title, match.budget)
    print(f"picture: {path}")
    return verdict(results, judged=not options.quick)


def _match(options: argparse.Namespace) -> tuple[Match, bool]:
    """What the contenders are given, the images prepared; and whether these are of synthetic voices."""
    options.out.mkdir(parents=True, exist_ok=True)
    out = options.out.resolve()
    data = tuple(str(Path(source).resolve()) if Path(source).exists() else source for source in options.data)
    cores = os.cpu_count() or 1
    images = combine.join([preparation.ensure(source, out / "data", options.recipe, cores) for source in data])
    axes = QUICK if options.quick else STUDY
    space = _default_space(images) if options.wide else axes.space
    return Match(
        data, options.recipe, axes, space, options.budget, options.workers, out / "data", out
    ), images.synthetic


def _default_space(images: ImageSet) -> str:
    """The default space, less the strengths of augmentation where images cannot be varied."""
    return "".join(
        line for line in DEFAULT.splitlines(keepends=True) if images.features is not None or line[:8] != "augment_"
    )


def table(results: Results, title: str) -> Table:
    """A row a contender, over the seeds; all medians but the test's mean. Last but one: how many seeds got there."""
    drawn = Table(title=title, title_justify="left")
    for name in ("contender", "epochs", "best val", "lowest, highest", "mean test", "lowest, highest"):
        drawn.add_column(name, justify="left" if name == "contender" else "right")
    drawn.add_column("to the grid's best", justify="right")
    drawn.add_column("wall s", justify="right")
    for name, found in results.items():
        reached = _reached(results, name)
        val, test = [each.val for each in found], [each.test for each in found]
        drawn.add_row(
            CONTENDERS[name],
            f"{statistics.median(each.epochs for each in found):g}",
            f"{statistics.median(val):.4f}",
            f"{min(val):.4f}, {max(val):.4f}",
            f"{statistics.fmean(test):.4f}",
            f"{min(test):.4f}, {max(test):.4f}",
            f"{_epochs(statistics.median(reached))}, {sum(map(math.isfinite, reached))} of {len(found)}",
            f"{statistics.median(each.wall for each in found):.0f}",
        )
    return drawn


def _reached(results: Results, name: str) -> list[float]:
    """Epochs that a contender trained until it had the grid's best validation score, seed by seed."""
    return [each.reached(grid.val) for each, grid in zip(results[name], results["grid"], strict=True)]


def _epochs(count: float) -> str:
    return f"{count:g} epochs" if math.isfinite(count) else "not reached"


def picture(results: Results, path: Path, title: str, budget: int) -> None:
    """The best validation score against epochs trained: median over the seeds, and from the worst to the best."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.2), layout="constrained")
    panel = figure.subplots()
    for index, (name, found) in enumerate(results.items()):
        steps = np.arange(1, max(each.epochs for each in found) + 1)
        scores = np.array([[each.at(int(step)) for step in steps] for each in found])
        seen = ~np.isnan(scores).any(axis=0)  # from where on every seed has a score
        steps, scores = steps[seen], scores[:, seen]
        colour, style = plots_search.COLOURS[index], plots_search.STYLES[index]
        panel.fill_between(steps, scores.min(axis=0), scores.max(axis=0), step="post", color=colour, alpha=0.12)
        label = CONTENDERS[name]
        panel.step(steps, np.median(scores, axis=0), where="post", color=colour, linestyle=style, label=label)
    early = [np.median([each.at(max(1, budget // 5)) for each in found]) for found in results.values()]
    if np.isfinite(early).any():  # the first epochs, near 0.5, would leave no room for the rest
        low, high = float(np.nanmin(early)), max(each.val for found in results.values() for each in found)
        panel.set_ylim(low - 0.05 * (high - low) - 0.002, high + 0.05 * (high - low) + 0.002)
    panel.axvline(budget, color="#999999", linewidth=1)
    panel.text(budget, panel.get_ylim()[0], f" budget of {budget}", va="bottom", color="#666666", fontsize=9)
    panel.set(xlabel="epochs trained, all trials together", ylabel="best balanced accuracy, validation speakers")
    panel.set_xlim(left=0)
    panel.grid(alpha=0.3)
    panel.legend(loc="lower right", framealpha=0.9)
    plots_search.save(figure, path, f"{title}\nmedian; shaded: from the worst seed to the best")


def verdict(results: Results, judged: bool) -> int:
    """Say on the last line whether the goals hold; returns the exit status."""
    search, optuna, grid = (results[name] for name in ("search", "optuna", "grid"))
    reached = _reached(results, "search")
    allowed = statistics.median(each.epochs for each in grid) / SHARE
    strict = [each.reached(other.any_epoch) for each, other in zip(search, grid, strict=True)]
    print(
        f"the grid's trials stand for their last epoch; the best of any of their epochs is reached by "
        f"{sum(map(math.isfinite, strict))} of {len(strict)} seeds, median: {_epochs(statistics.median(strict))}"
    )
    ours, theirs = (statistics.median(each.val for each in found) for found in (search, optuna))
    held = statistics.median(reached) <= allowed and ours >= theirs - CLOSE
    pairs = sum(one.val >= other.val - CLOSE for one, other in zip(search, optuna, strict=True))
    cost = f"the grid's best validation score after, in the median, {_epochs(statistics.median(reached))}"
    goal = f"goal: {allowed:.3g}, a third of the grid's; {sum(map(math.isfinite, reached))} of {len(reached)} seeds"
    rival = f"best validation score {ours:.4f}, Optuna alone {theirs:.4f}; no worse on {pairs} of {len(search)} seeds"
    word = ("HELD" if held else "NOT HELD") if judged else "no verdict on a quick run"
    print(f"{word}: {cost} ({goal}); {rival}")
    return int(judged and not held)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python bench/search.py", description="Searches by epochs trained.")
    parser.add_argument("data", nargs="+", metavar="DATA", help="any SOURCE of agr.prepare; several are joined")
    parser.add_argument("--recipe", help="how images are made (default: voice)")
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0 (default: 5)")
    parser.add_argument("--budget", type=int, default=50, help="epochs that all but the grid train (default: 50)")
    parser.add_argument("--workers", type=int, default=2, help="trials at a time (default: 2)")
    parser.add_argument("--wide", action="store_true", help="all but the grid search the default space")
    parser.add_argument("--out", type=Path, default=Path("data/bench-search"), help="where results are kept")
    parser.add_argument("--quick", action="store_true", help="a tiny grid, one seed, no verdict: does it run at all")
    options = parser.parse_args(arguments)
    if options.quick:
        options.seeds, options.budget = 1, QUICK_BUDGET
    for name in ("seeds", "budget", "workers"):
        if (value := vars(options)[name]) < 1:
            raise SettingsError(f"--{name} {value}: expected 1 or more")
    return compare(options)

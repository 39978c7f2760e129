"""Search with Optuna: it proposes trials, Ray Tune runs them, a budget of epochs ends the search.

    python search/run_optuna.py --num-workers 4 --budget 150
    python search/run_optuna.py --time 20m --sampler gp --scheduler hyperband
    python search/run_optuna.py --print-space > space.toml; python search/run_optuna.py --space space.toml

It learns from earlier searches on the same data, split and recipe, and does not train their epochs again.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from agr.common.cli import ArgumentParser, quick_imports, run
from agr.common.credentials import harmless
from search.outbox.mlflow_process import MlflowProcess

PROG = "python search/run_optuna.py"
UNITS = {"s": 1, "m": 60, "h": 3600}


def parse(arguments: Sequence[str] | None, prog: str = PROG) -> argparse.Namespace:
    """The command line."""
    from search import options

    about = "Search hyperparameters with Optuna on Ray Tune, log to MLflow and register the best model."
    parser = ArgumentParser(prog=prog, description=about)
    search = parser.add_argument_group("the search")
    add = search.add_argument
    add(
        "--budget", type=count, metavar="EPOCHS", help="train at most this many epochs (default: 150; none with --time)"
    )
    add("--time", type=seconds, metavar="TIME", help="stop after this time: 90s, 20m, 2h (default: no limit)")
    samplers = "how Optuna proposes trials (default: tpe)"
    add("--sampler", choices=("tpe", "gp", "cmaes", "random", "nsga2"), default="tpe", help=samplers)
    pruning = "how weak trials are stopped early (default: asha; none with several objectives or --score-folds)"
    add("--scheduler", choices=("asha", "hyperband", "none"), help=pruning)
    add("--space", type=Path, metavar="FILE", help="TOML file with the search space (default: that of --print-space)")
    add("--print-space", action="store_true", help="print the default search space and exit")
    options.add_trainable(search)
    names = "balanced_accuracy, loss, calibration or latency; repeat it for a Pareto front (default: balanced_accuracy)"
    add("--objective", action="append", metavar="NAME", help=names)
    add("--no-warm-start", action="store_true", help="ignore the trials of earlier searches (default: learn from them)")
    where = "Optuna's storage: a journal file or a database URL (default: mlflow_store/studies.journal)"
    add("--study-storage", type=harmless, metavar="WHERE", help=where)
    add = parser.add_argument_group("robust scores").add_argument
    folds = "score trials on N folds of all but the test speakers, then train the best once more (default: one split)"
    add("--score-folds", type=int, metavar="N", help=folds)
    again = "train the best N points with two more seeds, beyond the budget; rank by mean minus error (default: none)"
    add("--repeat-best", type=count, metavar="N", help=again)
    options.add_data(parser)
    options.add_running(parser)
    options.add_results(parser)
    ours = [name for name in options.AGR_ONLY if name != "seed"]  # of Optuna's sampler, for trainables too
    return options.parsed(parser, arguments, (*ours, "objective", "score_folds", "repeat_best"))


def seconds(text: str) -> float:
    """The number of seconds in "90s", "20m", "1.5h" or a plain number."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if match is None or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text}: expected for instance 90s, 20m or 2h")
    return float(match[1]) * UNITS[match[2] or "s"]


def count(text: str) -> int:
    """A whole number above 0."""
    if not text.strip().isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number above 0")
    return int(text)


def main(arguments: Sequence[str] | None = None, prog: str = PROG) -> int:
    """The command line; returns the exit status: 1 if no trial finished, 2 for wrong usage, 130 after Ctrl-C."""
    options = parse(arguments, prog)
    from search.optuna_search import space

    if options.print_space:
        print(space.DEFAULT, end="")
        return 0
    with MlflowProcess() as mlflow_process:  # MLflow is imported there, torch here
        with quick_imports():
            from search.driver import run as driver_run
            from search.options import plan_of
            from search.optuna_search import options as optuna_options
        plan = plan_of(options, "search/run_optuna.py")
        made = optuna_options.custom_search(options) if options.trainable else optuna_options.agr_search(options, plan)
        return driver_run.run(plan, *made, mlflow_process)


if __name__ == "__main__":
    run(main)

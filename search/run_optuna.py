"""Search with Optuna: it proposes trials, Ray Tune runs them, a budget of epochs ends the search.

    python search/run_optuna.py --num-workers 4 --budget 150
    python search/run_optuna.py --time 20m --sampler gp --scheduler hyperband
    python search/run_optuna.py --print-space > space.toml; python search/run_optuna.py --space space.toml

It knows the trials of earlier searches on the same data, split and recipe, and does not train their epochs again.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from agr.common.cli import quick_imports, run
from agr.common.credentials import harmless
from search.outbox.mlflow_process import MlflowProcess

UNITS = {"s": 1, "m": 60, "h": 3600}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    from search import options

    parser = argparse.ArgumentParser(prog="python search/run_optuna.py", description="Search with Optuna on Ray Tune.")
    search = parser.add_argument_group("the search")
    search.add_argument("--budget", type=count, metavar="EPOCHS", help="epochs that the study may train (default: 150)")
    search.add_argument("--time", type=seconds, metavar="TIME", help="end after this long: 90s, 20m, 2h")
    search.add_argument("--sampler", choices=("tpe", "gp", "cmaes", "random", "nsga2"), default="tpe")
    cuts = "how trials that fall behind are ended (default: asha; with several aims or --score-folds: none)"
    search.add_argument("--scheduler", choices=("asha", "hyperband", "none"), help=cuts)
    search.add_argument("--space", type=Path, metavar="FILE", help="what varies, in TOML (see --print-space)")
    search.add_argument("--print-space", action="store_true", help="print the default space, and end")
    options.add_trainable(search)
    aims = "balanced_accuracy (default), loss, calibration, latency; give several for a Pareto front"
    search.add_argument("--objective", action="append", metavar="OBJECTIVE", help=aims)
    search.add_argument("--no-warm-start", action="store_true", help="ignore the trials of earlier searches")
    where = "Optuna's: a journal file, or a database's URL (default: mlflow_store/studies.journal)"
    search.add_argument("--study-storage", type=harmless, metavar="WHERE", help=where)
    luck = parser.add_argument_group("honest about luck")
    folds = "score every trial on N folds of the speakers who do not test, then train the best by the mean once more"
    luck.add_argument("--score-folds", type=int, metavar="N", help=folds)
    again = "train the N best points again with two more seeds, beyond the budget, and rank by mean less standard error"
    luck.add_argument("--repeat-best", type=count, metavar="N", help=again)
    options.add_data(parser)
    options.add_running(parser)
    options.add_results(parser)
    ours = [name for name in options.AGR_ONLY if name != "seed"]  # which a trainable's sampler has, too
    return options.parsed(parser, arguments, (*ours, "objective", "score_folds", "repeat_best"))


def seconds(text: str) -> float:
    """Seconds in "90s", "20m", "1.5h" or a plain number."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if match is None or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text}: expected for instance 90s, 20m or 2h")
    return float(match[1]) * UNITS[match[2] or "s"]


def count(text: str) -> int:
    """A whole number above 0."""
    if not text.strip().isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number above 0")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 1 if no trial finished, 2 for wrong usage, 130 after Ctrl-C."""
    options = parse(arguments)
    from search.optuna_search import space

    if options.print_space:
        print(space.DEFAULT, end="")
        return 0
    with MlflowProcess() as clerk:  # MLflow is imported there, torch here
        with quick_imports():
            from search.driver import run as driver_run
            from search.options import plan_of
            from search.optuna_search import options as optuna_options
        plan = plan_of(options, "search/run_optuna.py")
        made = optuna_options.custom_search(options) if options.trainable else optuna_options.agr_search(options, plan)
        return driver_run.run(plan, *made, clerk)


if __name__ == "__main__":
    run(main)

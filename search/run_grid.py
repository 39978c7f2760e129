"""Exhaustive search: trains every point of epochs x lr x gamma on Ray Tune, and registers the best in MLflow.

    python search/run_grid.py --num-workers 4
    python search/run_grid.py --data FOLDER --split audiomnist-4fold --fold 0
    python search/run_grid.py --data FOLDER FOLDER --leave-out each    # test on each corpus, train on the others
    python search/run_grid.py --lanes fused          # on a GPU: points train together as one batch of models

Without --data it uses synthetic demo voices, whose results say nothing about people.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from agr.common.cli import ArgumentParser, quick_imports, run
from search.outbox.mlflow_process import MlflowProcess

OURS = ("model", "start", "augment", "no_augmentation", "precision")  # refused with a trainable
PROG = "python search/run_grid.py"


def parse(arguments: Sequence[str] | None, prog: str = PROG) -> argparse.Namespace:
    """The command line."""
    from search import options

    about = "Train every point of a grid of hyperparameters on Ray Tune, log to MLflow and register the best model."
    parser = ArgumentParser(prog=prog, description=about)
    points = parser.add_argument_group("the grid")
    add = points.add_argument
    add("--epochs", type=int, nargs="+", help="numbers of epochs (default: 5 10 20)")
    add("--lr", type=float, nargs="+", help="initial learning rates (default: 0.1 0.01 0.001)")
    add("--gamma", type=float, nargs="+", help="factors of the learning rate every 5 epochs (default: 0.1 0.3 0.7)")
    add(
        "--model",
        choices=("cnn", "pooled", "towers"),
        help="architecture (default: cnn, that of the paper; towers for voice112)",
    )
    start = "begin every trial with the weights of the champion that comes with AGR (default: random weights)"
    add("--start", choices=("champion",), help=start)
    plain = "train on the unchanged clips, without dropout (default: with augmentation and dropout)"
    add("--no-augmentation", action="store_true", default=None, help=plain)
    names = "speed, pitch, formants, colour, line, noise, room, shift, pitch_targets"
    strengths = f"change strengths of augmentation: {names} (default: those of docs/experiments.md)"
    add("--augment", nargs="+", metavar="NAME=STRENGTH", help=strengths)
    rounding = "bf16 trains in bfloat16 where that is quick: CUDA, AVX512-BF16; both make an axis (default: float32)"
    add("--precision", nargs="+", choices=("float32", "bf16"), help=rounding)
    axis = "one more axis: a setting of AGR's models, or a name in a trainable's GRID; may be repeated (default: none)"
    add("--axis", nargs="+", action="append", default=[], metavar=("NAME", "VALUE"), help=axis)
    options.add_trainable(points)
    options.add_data(parser)
    running = options.add_running(parser)
    whole = "keep no stages: every trial trains from its first epoch (default: trials resume from stages)"
    running.add_argument("--no-stage-store", action="store_true", help=whole)
    lanes = "fused: points train together as one batch of models, for GPUs (default: separate)"
    running.add_argument("--lanes", choices=("separate", "fused"), help=lanes)
    again = "log the search and its champion once more (default: where nothing is new, say what is there already)"
    options.add_results(parser).add_argument("--again", action="store_true", help=again)
    return options.parsed(parser, arguments, (*options.AGR_ONLY, *OURS))


def main(arguments: Sequence[str] | None = None, prog: str = PROG) -> int:
    """The command line; returns the exit status: 1 if no trial finished, 2 for wrong usage, 130 after Ctrl-C."""
    options = parse(arguments, prog)
    if options.leave_out == "each":
        from search import leave_each_out

        return leave_each_out.run(options, "search/run_grid.py", MlflowProcess)
    with MlflowProcess() as mlflow_process:  # MLflow is imported there, torch here
        with quick_imports():
            from search import grid_search
            from search.driver import run as driver_run
        return driver_run.run(*grid_search.build_search(options, "search/run_grid.py"), mlflow_process)


if __name__ == "__main__":
    run(main)

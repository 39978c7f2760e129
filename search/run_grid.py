"""The exhaustive search: every point of epochs x lr x gamma, on Ray Tune, logged to MLflow, the best registered.

    python search/run_grid.py --num-workers 4
    python search/run_grid.py --data FOLDER --split audiomnist-4fold --fold 0
    python search/run_grid.py --lanes fused          # on a GPU: all points at the same epoch as one batch of models

Without --data it runs on synthetic demo voices, which prove nothing about people.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from agr.errors import SettingsError
from agr.terminal import quick_imports, run


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python search/run_grid.py", description="Exhaustive search on Ray Tune.")
    points = parser.add_argument_group("the grid")
    points.add_argument("--epochs", type=int, nargs="+", help="default: 5 10 20")
    points.add_argument("--lr", type=float, nargs="+", help="default: 0.1 0.01 0.001")
    points.add_argument("--gamma", type=float, nargs="+", help="default: 0.1 0.3 0.7")
    points.add_argument("--model", choices=("cnn", "pooled"), default="cnn", help="default: cnn, the study's")
    points.add_argument("--no-variation", action="store_true", help="train on the clips as they are, every epoch alike")
    strengths = "other strengths of variation: speed, pitch, formants, colour, line, noise, room, shift"
    points.add_argument("--vary", nargs="+", default=[], metavar="NAME=STRENGTH", help=strengths)
    points.add_argument("--seed", type=int, default=0, help="of weights, order and split")
    data = parser.add_argument_group("data")
    sources = "one or more of demo, audiomnist, a folder, a CSV manifest (default: demo)"
    data.add_argument("--data", nargs="+", default=["demo"], metavar="SOURCE", help=sources)
    data.add_argument("--leave-out", metavar="CORPUS", help="train without this one of several, and test on it")
    data.add_argument("--recipe", help="how images are made: voice, mfc (default: voice; of ready images, theirs)")
    data.add_argument("--split", choices=("speakers", "audiomnist-4fold", "random"), default="speakers")
    data.add_argument("--folds", type=int, help="cross-validation by speaker: how many groups")
    data.add_argument("--fold", type=int, help="which group tests")
    run = parser.add_argument_group("running")
    run.add_argument("--num-workers", type=int, help="trials at a time (default: as many as fit)")
    run.add_argument("--gpus-per-trial", type=float, default=1.0, help="GPUs of one trial, or a share of one")
    run.add_argument("--no-cuda", action="store_true", help="do not use NVIDIA GPUs")
    run.add_argument("--no-mps", action="store_true", help="do not use an Apple GPU")
    run.add_argument("--address", help="a running Ray cluster (default: a private local one)")
    run.add_argument("--stage-store", metavar="URI", help="where epochs are kept (default: mlflow_store/stages)")
    run.add_argument("--no-stage-store", action="store_true", help="train every trial from its first epoch")
    run.add_argument(
        "--lanes", choices=("separate", "fused"), default="separate", help="fused: points train as one batch of models"
    )
    out = parser.add_argument_group("results")
    out.add_argument("--name", help="of the search (default: made of the data, the split and the time)")
    out.add_argument("--tracking-uri", help="MLflow's store (default: MLFLOW_TRACKING_URI, else mlflow_store/)")
    out.add_argument("--promote", action="store_true", help="move the alias `best` to this champion whatever it scores")
    options = parser.parse_args(arguments)
    if options.num_workers is not None and options.num_workers < 1:
        parser.error(f"--num-workers {options.num_workers}: expected 1 or more")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 1 if no trial finished, 2 for wrong usage, 130 after Ctrl-C."""
    options = parse(arguments)
    with quick_imports():
        from agr import variation
        from search import grid, study
    axes = (options.epochs or grid.EPOCHS, options.lr or grid.LR, options.gamma or grid.GAMMA)
    points = grid.grid(*axes, seed=options.seed, model=options.model)

    if options.fold is not None and options.folds is None and options.split != "audiomnist-4fold":
        raise SettingsError(f"--fold {options.fold}: expected --folds N or --split audiomnist-4fold with it")
    plan = study.Plan(
        points=tuple(points),
        data=tuple(options.data),
        recipe=options.recipe,
        split="folds" if options.folds is not None else options.split,
        folds=options.folds,
        fold=options.fold,
        seed=options.seed,
        workers=options.num_workers,
        gpus_per_trial=options.gpus_per_trial,
        cuda=not options.no_cuda,
        mps=not options.no_mps,
        address=options.address,
        stage_store=None if options.no_stage_store else options.stage_store or study.STAGES,
        name=options.name,
        tracking_uri=options.tracking_uri,
        promote=options.promote,
        lanes=options.lanes,
        leave_out=options.leave_out,
        variation=None if options.no_variation else variation.parse(options.vary),
    )
    return study.run(plan)


if __name__ == "__main__":
    run(main)

"""The flags that `run_grid.py` and `run_optuna.py` share, and the plan that they make."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from agr.common.credentials import harmless
from agr.errors import SettingsError

if TYPE_CHECKING:
    from search.plan import Plan

DEFAULTS: dict[str, object] = {  # of flags that are None until it is known whether they were given
    "data": ["demo"],
    "split": "speakers",
    "seed": 0,
    "model": "cnn",
    "augment": [],
    "no_augmentation": False,
    "lanes": "separate",
    "score_folds": 0,
    "repeat_best": 0,
}
AGR_ONLY = ("data", "leave_out", "recipe", "split", "folds", "fold", "seed")  # flags that no trainable reads


def add_data(parser: argparse.ArgumentParser) -> None:
    """What is searched on."""
    data = parser.add_argument_group("data")
    sources = "one or more of demo, audiomnist, a folder, a CSV manifest (default: demo)"
    data.add_argument("--data", nargs="+", metavar="SOURCE", help=sources)
    data.add_argument("--leave-out", metavar="CORPUS", help="train without this one of several, and test on it")
    data.add_argument("--recipe", help="how images are made: voice, mfcc (default: voice; ready images keep theirs)")
    data.add_argument("--split", choices=("speakers", "audiomnist-4fold", "random"), help="default: speakers")
    groups = "cross-validation: split the speakers into N groups, of which --fold K tests"
    data.add_argument("--folds", type=int, metavar="N", help=groups)
    data.add_argument("--fold", type=int, metavar="K", help="the group that tests, counted from 0")
    data.add_argument("--seed", type=int, help="of weights, order, split and Optuna's sampler (default: 0)")


def add_running(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Where and how trials run; returns the group."""
    run = parser.add_argument_group("running")
    run.add_argument("--num-workers", dest="workers", type=int, help="trials at a time (default: as many as fit)")
    run.add_argument("--gpus-per-trial", type=float, default=1.0, help="GPUs of one trial, or a share of one")
    run.add_argument("--no-cuda", dest="cuda", action="store_false", help="do not use NVIDIA GPUs")
    run.add_argument("--no-mps", dest="mps", action="store_false", help="do not use an Apple GPU")
    joined = "a running Ray cluster (default: a private local one); of nodes with and without GPUs, those with train"
    run.add_argument("--address", help=joined)
    seen = "where stages and final weights are kept, on a cluster where every node sees it (default: mlflow_store)"
    run.add_argument("--storage", type=harmless, metavar="URI", default="mlflow_store", help=seen)
    kept = "where epochs are kept (default: stages/ below --storage)"
    run.add_argument("--stage-store", type=harmless, metavar="URI", help=kept)
    return run


def add_trainable(group: argparse._ArgumentGroup) -> None:
    """The flag for a model of one's own."""
    what = "search your own model instead of AGR's, for instance my_project.train:fit (see search/tasks/custom.py)"
    group.add_argument("--trainable", metavar="MODULE:FUNCTION", help=what)


def add_results(parser: argparse.ArgumentParser) -> None:
    """Where the results go."""
    out = parser.add_argument_group("results")
    out.add_argument("--name", help="of the search (default: made of the data, the split and the time)")
    store = "MLflow's store (default: MLFLOW_TRACKING_URI, else mlflow_store/)"
    out.add_argument("--tracking-uri", type=harmless, help=store)
    out.add_argument("--promote", action="store_true", help="move the alias `best` to this champion whatever it scores")


def parsed(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None, ours: Sequence[str] = AGR_ONLY
) -> argparse.Namespace:
    """The command line, checked further than argparse does.

    Args:
        parser: Has the flags of this file.
        arguments: What was typed; None for the process's own.
        ours: Flags, by the names of their options, that go with AGR's own models only.

    Raises:
        SettingsError: One of them was given with --trainable.
    """
    options = parser.parse_args(arguments)
    if options.workers is not None and options.workers < 1:
        parser.error(f"--num-workers {options.workers}: expected 1 or more")
    given = vars(options)
    fused = ["lanes fused"] if given.get("lanes") == "fused" else []
    for name in (*(name for name in ours if given[name] is not None), *fused):
        if options.trainable:
            raise SettingsError(f"--{name.replace('_', '-')}: for AGR's own models only; found --trainable with it")
    for name, value in DEFAULTS.items():
        if name in given and given[name] is None:
            setattr(options, name, value)
    return options


def plan_of(options: argparse.Namespace, script: str) -> Plan:
    """The plan of a command line. Raises: SettingsError if its flags do not fit together."""
    from search.plan import Plan
    from search.stages.storage import below

    if options.fold is not None and options.folds is None and options.split != "audiomnist-4fold":
        raise SettingsError(f"--fold {options.fold}: expected --folds N or --split audiomnist-4fold with it")
    values = vars(options) | {"data": tuple(options.data), "script": script}
    values["split"] = options.split if options.folds is None else "folds"
    values["stage_store"] = options.stage_store or below(options.storage, "stages")
    if values.get("no_stage_store"):
        values["stage_store"] = None
    return Plan(**{item.name: values[item.name] for item in fields(Plan) if item.name in values})

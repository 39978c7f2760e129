"""The flags that `run_grid.py` and `run_optuna.py` share, and the plan that they make."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from agr.common.credentials import harmless
from agr.common.places import store_folder
from agr.data import ages
from agr.data.layouts.dialect import add_columns
from agr.errors import SettingsError

if TYPE_CHECKING:
    from search.plan import Plan

DEFAULTS: dict[str, object] = {  # not argparse's, which would hide whether a flag was given
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
AGR_ONLY = (
    "data",
    "ages",
    "columns",
    "leave_out",
    "recipe",
    "split",
    "folds",
    "fold",
    "seed",
    "temperature",
)  # refused with a trainable


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add the flags of data and split."""
    group = parser.add_argument_group("data")
    add = group.add_argument
    sources = "one or more of: demo (synthetic voices), audiomnist, librispeech:PART, a folder, a table (default: demo)"
    add("--data", nargs="+", metavar="SOURCE", help=sources)
    ages.add_ages(group)
    add_columns(group)
    add(
        "--leave-out",
        metavar="CORPUS",
        help="test on this corpus, or each in turn, and train on the others (default: none)",
    )
    add(
        "--recipe",
        help="how clips become images: voice, voice112, mfcc or mfcc48 (default: voice; prepared keep theirs)",
    )
    splits = "how clips are divided into training, validation and test (default: speakers, each in one part only)"
    add("--split", choices=("speakers", "audiomnist-4fold", "random"), help=splits)
    groups = "cross-validation: divide the speakers into N groups and test on group --fold (default: one split)"
    add("--folds", type=int, metavar="N", help=groups)
    add("--fold", type=int, metavar="K", help="the group to test on, from 0")
    add("--seed", type=int, help="seed of initial weights, order of clips, split and Optuna's sampler (default: 0)")


def add_running(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the flags of workers and storage; returns their group."""
    run = parser.add_argument_group("running")
    add = run.add_argument
    add("--num-workers", dest="workers", type=int, help="trials at the same time (default: as many as fit)")
    shared = "GPUs for each trial; 0.5 lets two trials share one (default: 1.0)"
    add("--gpus-per-trial", type=float, default=1.0, metavar="N", help=shared)
    add("--no-cuda", dest="cuda", action="store_false", help="do not use NVIDIA GPUs")
    add("--no-mps", dest="mps", action="store_false", help="do not use Apple GPUs")
    address = "a running Ray cluster to join; if some of its nodes have GPUs, only those train (default: a local one)"
    add("--address", help=address)
    storage = "folder or URI for stages and final weights; a cluster needs one that every node can read and write"
    add("--storage", type=harmless, metavar="URI", help=f"{storage} (default: mlflow_store/)")
    stages = "folder or URI for the stages, from which trials resume (default: stages/ below --storage)"
    add("--stage-store", type=harmless, metavar="URI", help=stages)
    return run


def add_trainable(group: argparse._ArgumentGroup) -> None:
    """Add the flag for a model of your own."""
    text = "train your own model instead of AGR's, such as my_project.train:fit (docs/trainables.md; default: AGR's)"
    group.add_argument("--trainable", metavar="MODULE:FUNCTION", help=text)


def add_results(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the flags of the results; returns their group."""
    group = parser.add_argument_group("results")
    add = group.add_argument
    add("--name", help="name of the search (default: made of data, split and time)")
    store = "tracking store of MLflow (default: MLFLOW_TRACKING_URI, AGR_STORE, else the nearest mlflow_store/ upwards)"
    add("--tracking-uri", type=harmless, metavar="URI", help=store)
    logged = "experiment of MLflow (default: MLFLOW_EXPERIMENT_NAME, else agr, or the model of a trainable)"
    add("--experiment", metavar="NAME", help=logged)
    promote = "give this champion the alias `best`, whatever its score (default: only if it beats the present best)"
    add("--promote", action="store_true", help=promote)
    divided = "divide the logits by T, such as that of all corpora by --leave-out each (default: fitted on validation)"
    add("--temperature", type=float, metavar="T", help=divided)
    return group


def parsed(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None, ours: Sequence[str] = AGR_ONLY
) -> argparse.Namespace:
    """Parse a command line. ours: Options for AGR's own models only. Raises: SettingsError for one with --trainable."""
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
    chosen = [f"--split {options.split}"] if options.split != DEFAULTS["split"] else []
    chosen += ["--folds"] if options.folds is not None else []
    if len(chosen := chosen + (["--leave-out"] if options.leave_out else [])) > 1:
        raise SettingsError(f"{' and '.join(chosen)}: each divides the speakers in its own way; expected one of them")
    options.storage = options.storage or str(store_folder())
    values = vars(options) | {"data": tuple(options.data), "script": script}
    values["split"] = options.split if options.folds is None else "folds"
    values["stage_store"] = options.stage_store or below(options.storage, "stages")
    if values.get("no_stage_store"):
        values["stage_store"] = None
    return Plan(**{item.name: values[item.name] for item in fields(Plan) if item.name in values})

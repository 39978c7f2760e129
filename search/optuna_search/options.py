"""Builds a search with Optuna from the command line of `run_optuna.py`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

from agr.common.places import store_folder
from agr.data.image_set import ImageSet
from agr.errors import SettingsError
from agr.training.augmentation import DEFAULT as USUAL_VARIATION
from agr.training.settings import Settings
from search.optuna_search import objectives, warm_start
from search.optuna_search.ask_tell import Budget
from search.optuna_search.ranges import Choices, Range, Value
from search.optuna_search.samplers import STUDIES
from search.optuna_search.space import DEFAULT, Space, known_settings, parse
from search.optuna_search.strategy import OptunaStrategy
from search.problems import agr_models
from search.problems import custom as problems_custom
from search.problems.problem import Problem
from search.tasks.agr_task import AgrPoint, agr_point
from search.tasks.base import Config, Objective, TrialSchema
from search.tasks.custom import module_of, objective_of

if TYPE_CHECKING:
    from search.plan import Plan

EPOCHS = 150  # as many as the 27 points of the default grid
AXES = 4  # settings in the name of a trial
DEFAULTS: dict[str, object] = {"epochs": 20, "lr": 0.001, "gamma": 0.7, "model": "cnn"}
COLUMNS = {"val_balanced_accuracy": "val bal. acc.", "val_loss": "val loss", "val_ece": "val ECE"}
AUGMENT = "augment_"


def agr_search(options: argparse.Namespace, plan: Plan) -> tuple[Problem, OptunaStrategy]:
    """A search of AGR's own models. Raises: AgrError for flags or data that cannot be used."""
    wanted = objectives.parse(options.objective or ["balanced_accuracy"])
    space = space_of(options.space)
    problem, data = agr_models.problem(plan, schema_of(space, wanted), options.score_folds)
    return problem, agr_strategy(options, space, wanted, problem, data)


def agr_strategy(
    options: argparse.Namespace, space: Space, wanted: tuple[Objective, ...], problem: Problem, data: ImageSet
) -> OptunaStrategy:
    """The strategy for these clips. Raises: SettingsError if the space does not suit them."""
    space = _for_clips(space, data, given=options.space is not None)
    usual = _defaults(data) | DEFAULTS | {"seed": options.seed}
    return strategy_of(options, space, wanted, problem, usual, known_settings())


def custom_search(options: argparse.Namespace) -> tuple[Problem, OptunaStrategy]:
    """A search of a trainable. Raises: SettingsError if it has no space."""
    path = options.trainable
    usual = {name: values[0] for name, values in problems_custom.grid_of(path).items()}
    text = getattr(module_of(path), "SPACE", None)
    if options.space is None and text is None:
        raise SettingsError(f"--trainable {path}: no SPACE in it; expected one, or --space FILE")
    space = space_of(options.space, usual) if options.space else parse(str(text), f"SPACE of {path}", usual)
    axes = ("epochs", *(name for name in space.varied if name != "epochs"))[:AXES]
    problem = problems_custom.problem(path, axes, optuna=True)
    kinds = {name: type(value) for name, value in usual.items()}
    return problem, strategy_of(options, space, (objective_of(path),), problem, usual, kinds)


def space_of(file: Path | None, known: Config | None = None) -> Space:
    """The space in a file, or the default one. Raises: SettingsError."""
    if file is None:
        return parse(DEFAULT, "the default space", known_settings())
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingsError(f"--space {file}: {reason}; expected a TOML file, see --print-space") from None
    return parse(text, str(file), known or known_settings())


def schema_of(space: Space, wanted: Sequence[Objective]) -> TrialSchema[AgrPoint]:
    """The description of the trials of a search of this space."""
    names = ("epochs", *(name for name in space.varied if name != "epochs"))
    return TrialSchema(agr_point, objective=wanted[0], axes=names[:AXES], columns=COLUMNS, best_epoch=True, prunes=True)


def strategy_of(
    options: argparse.Namespace,
    space: Space,
    wanted: tuple[Objective, ...],
    problem: Problem,
    usual: Config,
    kinds: Mapping[str, type],
) -> OptunaStrategy:
    """The strategy of a command line. Raises: SettingsError if the space allows values that the models do not.

    usual, kinds: The default and the type of every setting.
    """
    epochs = options.budget if options.budget or options.time else EPOCHS
    several = len(wanted) > 1 or options.score_folds
    strategy = OptunaStrategy(
        space=space,
        base={name: value for name, value in usual.items() if name not in {*space.varied, *space.fixed}},
        first={name: nearest(item, usual.get(name)) for name, item in space.varied.items()},
        budget=Budget(epochs, options.time),
        sampler=options.sampler,
        scheduler=options.scheduler or ("none" if several else "asha"),
        objectives=wanted,
        folds=options.score_folds,
        repeat_best=options.repeat_best,
        warm_start=not options.no_warm_start,
        storage=options.study_storage or str(store_folder() / STUDIES),
        seed=options.seed,
        kinds=kinds,
    )
    warm_start.check_space(space, strategy.expand(problem))
    return strategy


def nearest(item: Range | Choices, usual: object) -> Value:
    """The allowed value that is nearest to the default."""
    if isinstance(item, Choices):
        return next((value for value in item.values if value == usual), item.values[0])
    if not isinstance(usual, int | float):
        return item.low
    inside = min(max(usual, item.low), item.high)
    if item.step is not None:
        return item.low + round((inside - item.low) / item.step) * item.step
    return type(item.low)(inside)


def _defaults(data: ImageSet) -> dict[str, object]:
    """The default settings; with the augmentation of `run_grid.py` if these clips can be augmented."""
    found = {item.name: item.default for item in fields(Settings) if not item.name.startswith(AUGMENT)}
    known: dict[str, object] = {name: value for name, value in found.items() if isinstance(value, int | float | str)}
    strengths = {f"{AUGMENT}{name}": value for name, value in asdict(USUAL_VARIATION).items()}
    return known | (strengths | {"dropout": agr_models.DROPOUT} if data.features is not None else {})


def _for_clips(space: Space, data: ImageSet, given: bool) -> Space:
    """The space, without augmentation if the clips cannot be augmented. Raises: SettingsError if --space has some."""
    if data.features is not None:
        return space
    augmented = [name for name in (*space.varied, *space.fixed) if name.startswith(AUGMENT)]
    if augmented and given:
        found = f"found {augmented[0]} on images of recipe {data.recipe.name}"
        raise SettingsError(f"--space: {found}; expected recipe voice")
    varied = {name: item for name, item in space.varied.items() if name not in augmented}
    return Space(varied, {name: value for name, value in space.fixed.items() if name not in augmented})

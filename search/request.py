"""From the command line of `run_optuna.py` to a hunt: space, kind of trials, what is fixed, what is tried first."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agr.errors import SettingsError
from agr.images import ImageSet
from agr.training import Settings
from agr.variation import DEFAULT as USUAL_VARIATION
from search import aims, custom_subject, voices, warm
from search.custom import aim_of, module_of
from search.hunt import Hunt
from search.ledger import Budget
from search.ranges import Choices, Range
from search.space import DEFAULT, Space, known_settings, parse
from search.studies import STUDIES
from search.subject import Subject
from search.task import Aim, Kind, Voices, settled

if TYPE_CHECKING:
    from search.study import Plan

EPOCHS = 150  # what the 27 points of the grid cost
AXES = 4  # settings by which trials are named
USUAL: dict[str, Any] = {"epochs": 20, "lr": 0.001, "gamma": 0.7, "model": "cnn"}
COLUMNS = {"val_balanced_accuracy": "val bal. acc.", "val_loss": "val loss", "val_ece": "val ECE"}
VARY = "vary_"


def voices_of(options: argparse.Namespace, plan: Plan) -> tuple[Subject, Hunt]:
    """A search of AGR's own models."""
    wanted = aims.parse(options.aim or ["balanced_accuracy"])
    space = space_of(options.space)
    subject = voices.subject(plan, kind_of(space, wanted), options.folds)
    return subject, hunt_of(options, space, wanted, subject)


def custom(options: argparse.Namespace) -> tuple[Subject, Hunt]:
    """A search of a trainable of one's own. Raises: SettingsError for flags that it does not have."""
    for flag, given in (("--aim", options.aim), ("--folds", options.folds), ("--repeat-best", options.repeat_best)):
        if given:
            raise SettingsError(f"{flag}: of AGR's own models; expected it without --trainable")
    path = options.trainable
    known = {name: values[0] for name, values in custom_subject.grid_of(path).items()}
    text = getattr(module_of(path), "SPACE", None)
    if options.space is None and text is None:
        raise SettingsError(f"--trainable {path}: no SPACE in it; expected one, or --space FILE")
    space = space_of(options.space, known) if options.space else parse(str(text), f"SPACE of {path}", known)
    axes = ("epochs", *(name for name in space.varied if name != "epochs"))[:AXES]
    subject = custom_subject.subject(path, axes, hunts=True)
    return subject, hunt_of(options, space, (aim_of(path),), subject, known)


def space_of(file: Path | None, known: Mapping[str, Any] | None = None) -> Space:
    """The space in a file, or the default one. Raises: SettingsError."""
    if file is None:
        return parse(DEFAULT, "the default space", known_settings())
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingsError(f"--space {file}: {reason}; expected a TOML file, see --print-space") from None
    return parse(text, str(file), known or known_settings())


def kind_of(space: Space, wanted: Sequence[Aim]) -> Kind:
    """How trials of this space are read."""
    names = ("epochs", *(name for name in space.varied if name != "epochs"))
    return Kind(settled, aim=wanted[0], axes=names[:AXES], columns=COLUMNS, best_epoch=True, prunes=True)


def hunt_of(
    options: argparse.Namespace,
    space: Space,
    wanted: tuple[Aim, ...],
    subject: Subject,
    known: Mapping[str, Any] | None = None,
) -> Hunt:
    """What the command line asks for. Raises: SettingsError for a space that the clips or the models do not allow."""
    usual = dict(known) if known is not None else USUAL | {"seed": options.seed}
    if isinstance(subject.task, Voices):
        space = _for_clips(space, subject.task.data, given=options.space is not None)
        usual = _defaults(subject.task.data) | usual
    base = {name: value for name, value in usual.items() if name not in space.varied and name not in space.fixed}
    epochs = options.budget if options.budget or options.time else EPOCHS
    scheduler = options.scheduler or ("none" if len(wanted) > 1 or options.folds else "asha")
    hunt = Hunt(
        space=space,
        base=base,
        first={name: nearest(item, usual.get(name)) for name, item in space.varied.items()},
        budget=Budget(epochs, options.time),
        sampler=options.sampler,
        scheduler=scheduler,
        aims=wanted,
        folds=options.folds,
        repeat_best=options.repeat_best,
        warm_start=not options.no_warm_start,
        storage=options.study_storage or STUDIES,
        seed=options.seed,
        kinds=known_settings() if known is None else {name: type(value) for name, value in known.items()},
    )
    warm.check(space, lambda config: hunt.points(subject, config))
    return hunt


def nearest(item: Range | Choices, usual: Any) -> Any:
    """The usual value, or what the space has nearest to it."""
    if isinstance(item, Choices):
        return usual if item.holds(usual) else item.values[0]
    if usual is None:
        return item.low
    inside = min(max(usual, item.low), item.high)
    if item.step is not None:
        return item.low + round((inside - item.low) / item.step) * item.step
    return type(item.low)(inside)


def _defaults(data: ImageSet) -> dict[str, Any]:
    """Settings that a trial has if nothing else is said; where clips are varied, as `run_grid.py` has them."""
    found = {item.name: item.default for item in fields(Settings) if not item.name.startswith(VARY)}
    known = {name: value for name, value in found.items() if isinstance(value, int | float | str)}
    strengths = {f"{VARY}{name}": value for name, value in asdict(USUAL_VARIATION).items()}
    return known | (strengths | {"dropout": voices.DROPOUT} if data.evidence is not None else {})


def _for_clips(space: Space, data: ImageSet, given: bool) -> Space:
    """The space less what these clips do not allow. Raises: SettingsError if somebody asked for that."""
    if data.evidence is not None:
        return space
    asked = [name for name in (*space.varied, *space.fixed) if name.startswith(VARY)]
    if asked and given:
        raise SettingsError(f"--space: {asked[0]} on images of recipe {data.recipe.name}; expected recipe voice")
    varied = {name: item for name, item in space.varied.items() if name not in asked}
    return Space(varied, {name: value for name, value in space.fixed.items() if name not in asked})

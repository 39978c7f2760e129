"""The problem of AGR's own models: data, split, and their description in MLflow and on the terminal."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agr.common.cli import complain
from agr.common.places import champion_folder, workspace
from agr.common.printable import printable
from agr.data import combine, preparation, splits
from agr.data.cautions import cautions
from agr.data.image_set import ImageSet
from agr.data.splits import Split
from agr.errors import SettingsError
from agr.inference import bundle
from agr.registry.records import FinishedSearch
from agr.training.augmentation import Augmentation
from agr.training.model import default_model
from agr.training.settings import STEP_SIZE, Settings
from agr.training.start import identify
from search.problems.problem import Problem
from search.session.session import Record, Session
from search.tasks.agr_task import AGR_SCHEMA, AgrPoint, AgrTask
from search.tasks.base import TrialSchema

if TYPE_CHECKING:
    from search.plan import Plan
    from search.results.champion import SearchResult

Ranking = Sequence[Record] | None
DROPOUT = 0.5  # of trials with augmentation, unless the grid has an axis of it; docs/experiments.md says why


def problem(plan: Plan, schema: TrialSchema[AgrPoint] = AGR_SCHEMA, folds: int = 0) -> tuple[Problem, ImageSet]:
    """The problem of a plan, and its clips. folds: Number of folds for scoring, made of all but the test speakers."""
    data = combine.join(image_sets(plan))
    split = combine.split(data, plan.split, plan.seed, plan.folds, plan.fold, plan.leave_out)
    for line in cautions(data, split):
        complain(line)
    inner = splits.inner(data, split, folds, plan.seed) if folds else ()

    def conclude(session: Session, tags: Mapping[str, object], promote: bool, ranking: Ranking) -> SearchResult:
        from search.results import champion  # imported late: only the end of a search needs it

        return champion.conclude(session, data, split, tags, promote, ranking, plan.temperature)

    def recall(found: FinishedSearch, ranking: Sequence[Record], tags: Mapping[str, object]) -> SearchResult:
        from search.results import champion

        return champion.recall(found, ranking, data, split, tags, plan.temperature)

    described = splits.describe(split, data).items()
    sides: dict[str, object] = {f"{side}_{key}": n for side, counts in described for key, n in counts.items()}
    about = Problem(
        task=AgrTask(data, split, inner, schema),
        name=f"{data.name}-{split.name}",
        tags=_tags(data, split, inner, plan.seed) | ({"ages": str(plan.ages)} if plan.ages else {}),
        params=sides | {"step_size": STEP_SIZE},
        digest=data.digest,
        source=" ".join(plan.data),
        lines=_lines(data, split),
        conclude=conclude,
        recall=recall,
        profile=f'{{"clips": {len(data)}}}',
    )
    return about, data


def image_sets(plan: Plan) -> list[ImageSet]:
    """The images of every source, prepared where they are not yet."""
    place, cores = workspace(), os.cpu_count() or 1
    return [preparation.ensure(each, place, plan.recipe, cores, plan.ages, plan.columns) for each in plan.data]


def schema_with(axes: Iterable[str]) -> TrialSchema[AgrPoint]:
    """The description of the trials of a grid with further axes."""
    return replace(AGR_SCHEMA, axes=tuple(dict.fromkeys((*AGR_SCHEMA.axes, *axes))))


def with_augmentation(
    points: Sequence[Settings], wanted: Augmentation | None, data: ImageSet, dropout: float | None = DROPOUT
) -> tuple[Settings, ...]:
    """Points with these strengths of augmentation; unchanged without strengths or for images that have no features.

    dropout: Set together with augmentation; None leaves that of the points.
    """
    if wanted is None or data.features is None:
        return tuple(points)
    changes = {f"augment_{name}": value for name, value in asdict(wanted).items()}
    changes |= {} if dropout is None else {"dropout": dropout}
    return tuple(replace(point, **changes) for point in points)


def suited(points: Sequence[Settings], data: ImageSet) -> tuple[Settings, ...]:
    """Points whose model reads these images: the study's model is replaced where the recipe makes others."""
    model = default_model(data.recipe)
    return tuple(replace(point, model=model) if point.model == Settings.model else point for point in points)


def from_champion(points: Sequence[Settings], data: ImageSet, split: Split) -> tuple[Settings, ...]:
    """Points that begin with the weights of the champion, as models of its kind and width.

    Raises: SettingsError if there is none, if it reads other images, or if people who are to choose or test the model
    trained or chose the champion.
    """
    folder = _champion_folder()
    info = bundle.read_info(folder)
    if info.recipe != data.recipe:
        found = f"images of recipe {data.recipe.name}"
        raise SettingsError(f"--start champion: {found}; expected --recipe {info.recipe.name}, which it reads")
    held_out = np.concatenate([split.val, split.test])
    people = data.speakers[held_out].tolist()
    if known := bundle.read_seen(folder).people(people, data.recordings[held_out].tolist()):
        count = f"{len(known)} of the {len(set(people))} people who are to choose and test the model"
        found = f"the champion learned from {count}, such as {printable(min(known))}"
        raise SettingsError(f"--start champion: {found}; expected people it never heard, or no --start")
    model, width, start = info.model, float(info.settings["width"]), identify(folder)
    return tuple(replace(point, model=model, width=width, start=start) for point in points)


def champion() -> bundle.BundleInfo:
    """What the champion that comes with AGR is. Raises: SettingsError if there is none."""
    return bundle.read_info(_champion_folder())


def _champion_folder() -> Path:
    folder = champion_folder()
    if folder is None:
        raise SettingsError("--start champion: no champion here; expected the one that comes with AGR")
    return folder


def _tags(data: ImageSet, split: Split, inner: Sequence[Split], seed: int) -> dict[str, object]:
    tags: dict[str, object] = {"recipe": data.recipe.name, "split": split.name, "split_digest": split.digest}
    tags |= {"seed": seed, "data": data.name, "data_digest": data.digest}
    tags |= {"scored_on_folds": len(inner)} if inner else {}
    flags = {"leaky": split.leaky, "synthetic": data.synthetic}
    return tags | {name: "true" for name, found in flags.items() if found}


def _lines(data: ImageSet, split: Split) -> tuple[str, ...]:
    notes = [note for flag, note in ((split.leaky, "LEAKY split"), (data.synthetic, "SYNTHETIC voices")) if flag]
    sides = (
        f"  {side:5} {counts['clips']:6} clips, {counts['female']:3} women, {counts['male']:3} men"
        for side, counts in splits.describe(split, data).items()
    )
    return (f"{data.name}, split {split.name}" + "".join(f", {note}" for note in notes), *sides)

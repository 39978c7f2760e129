"""The points of an exhaustive search, and the strategy that trains them all."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace

from agr.errors import SettingsError
from agr.training import augmentation
from agr.training.fused import check
from agr.training.settings import Settings
from search.driver.context import SearchContext
from search.driver.mlflow_run import axes_of
from search.driver.train_points import train_points
from search.options import plan_of
from search.optuna_search.ranges import Value
from search.plan import Plan
from search.problems import agr_models, custom
from search.problems.problem import Problem
from search.stages.store import StageStore
from search.tasks.agr_task import AgrTask, agr_point, fusible_settings, settings_of
from search.tasks.base import Point, lineage_of, pluralize

MOST_LOOKUPS = 32  # the most points that are looked up to find out whether a stage is missing
EPOCHS = (5, 10, 20)
LR = (0.1, 0.01, 0.001)
GAMMA = (0.1, 0.3, 0.7)


def grid(
    epochs: Sequence[int] = EPOCHS,
    lr: Sequence[float] = LR,
    gamma: Sequence[float] = GAMMA,
    seed: int = 0,
    model: str = "cnn",
    others: Mapping[str, Sequence[Value]] | None = None,
) -> list[Settings]:
    """Every combination of the values, once. Raises: SettingsError if a value or a name is not allowed.

    others: Further axes by name of the setting.
    """
    for name, values in (("epochs", epochs), ("lr", lr), ("gamma", gamma)):
        if not values:
            raise SettingsError(f"--{name}: no values; expected one or more")
    fixed = ("epochs", "lr", "gamma", "seed", "model")
    known = {item.name: item.default for item in fields(Settings) if item.name not in fixed}
    columns: dict[str, list[Value]] = {}
    for name, column in (others or {}).items():
        if name not in known:
            raise SettingsError(f"--axis {name}: unknown; expected one of {', '.join(sorted(known))}")
        columns[name] = [_converted(name, value, known[name]) for value in column]
    axes: dict[str, Sequence[Value]] = {"epochs": epochs, "lr": lr, "gamma": gamma, **columns}
    every = itertools.product(*(dict.fromkeys(values) for values in axes.values()))
    points = (agr_point({"seed": seed, "model": model} | dict(zip(axes, each, strict=True))) for each in every)
    return [settings_of(point) for point in points]


def parse_axes(given: Sequence[Sequence[str]]) -> dict[str, list[Value]]:
    """The values of each `--axis NAME VALUE ...`, as integers, floats or text. Raises: SettingsError."""
    found: dict[str, list[Value]] = {}
    for name, *values in given:
        if not values or name in found:
            raise SettingsError(f"--axis {name}: {'no values' if not values else 'given twice'}; expected values once")
        found[name] = [_value(text) for text in values]
    return found


def _value(text: str) -> Value:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def _converted(name: str, value: Value, default: object) -> Value:
    """The value in the type of its setting; an integer is accepted as a float."""
    if isinstance(default, float) and isinstance(value, int):
        return float(value)
    if type(value) is not type(default):
        wanted = {float: "numbers", int: "whole numbers"}.get(type(default), "names")
        raise SettingsError(f"--axis {name}: found {value}; expected {wanted}")
    return value


@dataclass(frozen=True)
class GridStrategy:
    """Trains every one of these points."""

    points: Sequence[Point]

    def axes(self, problem: Problem) -> Mapping[str, object]:
        """The MLflow parameters: the values of each axis, and the number of points."""
        return axes_of(self.points, problem.task.schema.axes)

    @property
    def title(self) -> str:
        """The number of trials."""
        return pluralize(len(self.points), "trial")

    def needs_training(self, problem: Problem, store: StageStore, device: str) -> bool:
        """Whether the final stage of a point is missing; looks up at most MOST_LOOKUPS of them."""
        some = self.points[:: len(self.points) // MOST_LOOKUPS + 1]
        keys = (lineage_of(problem.task, point, device, "").key(point.rates()) for point in some)
        return any(store.outline(key) is None for key in keys)

    def train(self, context: SearchContext) -> None:
        """Train all points."""
        if context.plan.lanes == "fused":
            check(fusible_settings(self.points))
        context.session.planned = len(self.points)
        train_points(context, self.points)


def grid_plan(options: argparse.Namespace, script: str) -> Plan:
    """The plan of a command line; with `--start` the recipe is that of the champion, unless another one is given."""
    plan = plan_of(options, script)
    return replace(plan, recipe=agr_models.champion().recipe.name) if options.start and plan.recipe is None else plan


def build_search(options: argparse.Namespace, script: str) -> tuple[Plan, Problem, GridStrategy]:
    """The plan, problem and strategy of a command line or of `search.grid`. Raises: AgrError for unusable options."""
    precision = [("precision", *options.precision)] if options.precision else []
    plan, others = grid_plan(options, script), parse_axes([*options.axis, *precision])
    given = {name: getattr(options, name) for name in ("epochs", "lr", "gamma")}
    if options.trainable:
        axes = custom.grid_of(options.trainable, given | others)
        points = custom.points_of(options.trainable, axes)
        return plan, custom.problem(options.trainable), GridStrategy(points)
    usual = {name: values for name, values in given.items() if values}
    settings = grid(**usual, seed=options.seed, model=options.model, others=others)
    strengths = None if options.no_augmentation else augmentation.parse(options.augment)
    problem, data = agr_models.problem(plan, agr_models.schema_with(others))
    if options.augment and data.features is None:
        given_text = " ".join(options.augment)
        raise SettingsError(f"--augment {given_text}: these images cannot be augmented; expected recipe voice")
    dropout = None if "dropout" in others else agr_models.DROPOUT
    if options.start:
        assert isinstance(problem.task, AgrTask)
        suited = agr_models.from_champion(settings, data, problem.task.split)
    else:
        suited = agr_models.suited(settings, data)
    return plan, problem, GridStrategy(agr_models.with_augmentation(suited, strengths, data, dropout))

"""From the command line of `run_optuna.py` to a search."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agr.data.image_set import ImageSet, load
from agr.data.splits import make
from agr.errors import SettingsError
from agr.training.augmentation import Augmentation
from agr.training.settings import Settings
from search import grid_search, run_optuna
from search.optuna_search import objectives, warm_start
from search.optuna_search import options as optuna_options
from search.optuna_search.ranges import Choices, Range
from search.optuna_search.space import DEFAULT, known_settings
from search.optuna_search.strategy import OptunaStrategy
from search.problems import agr_models
from search.problems.problem import Problem
from search.tasks.agr_task import AgrTask
from search.tasks.base import ACCURACY
from tests.search.fakes import small_split
from tests.search.optuna_search.fakes import context


def made(where: Path | None) -> Problem:
    """Small images."""
    assert where is not None
    return context(where).problem


def strategy(*arguments: str, problem: Problem | None = None, where: Path | None = None) -> OptunaStrategy:
    """The strategy that a command line asks for, on small images unless a problem is given."""
    options = run_optuna.parse(arguments)
    wanted = objectives.parse(options.objective or ["balanced_accuracy"])
    problem = problem or made(where)
    assert isinstance(problem.task, AgrTask)
    return optuna_options.agr_strategy(
        options, optuna_options.space_of(options.space), wanted, problem, problem.task.data
    )


def file(folder: Path, text: str) -> str:
    path = folder / "space.toml"
    path.write_text(text)
    return str(path)


@pytest.fixture(scope="module")
def varied(voice_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Problem:
    """Clips that can be augmented."""
    data: ImageSet = load(voice_root)
    problem = context(tmp_path_factory.mktemp("stages")).problem
    return replace(problem, task=AgrTask(data, make(data)))


# Usual answers


def test_default_strategy_is_tpe_with_asha(tmp_path: Path) -> None:
    made = strategy(where=tmp_path)
    assert (made.sampler, made.scheduler, made.budget.epochs, made.budget.seconds) == ("tpe", "asha", 150, None)
    assert (made.objectives, made.folds, made.repeat_best, made.warm_start) == ((ACCURACY,), 0, 0, True)


@pytest.mark.parametrize(
    ("arguments", "epochs", "seconds"),
    [
        (["--budget", "7"], 7, None),
        (["--time", "20m"], None, 1200.0),
        (["--time", "90s", "--budget", "9"], 9, 90.0),
        (["--time", "1.5h"], None, 5400.0),
        (["--time", "12"], None, 12.0),
    ],
)
def test_budget_in_epochs_or_time_or_both(
    arguments: list[str], epochs: int | None, seconds: float | None, tmp_path: Path
) -> None:
    budget = strategy(*arguments, where=tmp_path).budget
    assert (budget.epochs, budget.seconds) == (epochs, seconds)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget", "0"], "argument --budget: 0: expected a whole number above 0"),
        (["--budget", "-3"], "argument --budget: -3: expected a whole number above 0"),
        (["--budget", "many"], "argument --budget: many: expected a whole number above 0"),
        (["--repeat-best", "0"], "argument --repeat-best: 0: expected a whole number above 0"),
        (["--time", "0m"], "argument --time: 0m: expected for instance 90s, 20m or 2h"),
        (["--time", "soon"], "argument --time: soon: expected for instance 90s, 20m or 2h"),
        (["--sampler", "best"], "argument --sampler: invalid choice: 'best'"),
    ],
)
def test_invalid_flag_values_are_wrong_usage(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run_optuna.parse(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--score-folds", "2"], ["--objective", "loss", "--objective", "calibration"]])
def test_folds_and_several_objectives_have_no_scheduler_by_default(arguments: list[str], tmp_path: Path) -> None:
    assert strategy(*arguments, where=tmp_path).scheduler == "none"
    with pytest.raises(SettingsError, match=r"--scheduler asha: (found 2 objectives; )?expected none with"):
        strategy(*arguments, "--scheduler", "asha", where=tmp_path)


# Settings


def test_every_setting_is_varied_fixed_or_default(varied: Problem) -> None:
    made = strategy(problem=varied)
    names = [*made.space.varied, *made.space.fixed, *made.base]
    assert sorted(names) == sorted([*known_settings(), "seed"])
    (point,) = made.expand(varied)(made.first)
    usual = Settings(epochs=20, lr=0.001, gamma=0.7, dropout=agr_models.DROPOUT)
    strengths = {name: value for name, value in point.config().items() if name.startswith("augment_")}
    assert point == replace(usual, **strengths)
    assert all(strengths.values())


def test_default_grid_lies_in_the_default_space(varied: Problem, tmp_path: Path) -> None:
    for problem in (varied, made(tmp_path)):
        asked = strategy(problem=problem)
        assert isinstance(problem.task, AgrTask)
        points = agr_models.with_augmentation(grid_search.grid(), Augmentation(), problem.task.data)
        assert {tuple(warm_start.mismatches(point.config(), asked.space, asked.base)) for point in points} == {()}


def test_images_without_features_are_not_augmented(tmp_path: Path) -> None:
    made = strategy(where=tmp_path)
    assert not [name for name in (*made.space.varied, *made.base, *made.first) if name.startswith("augment_")]
    assert {"epochs", "lr", "width"} <= set(made.space.varied)


@pytest.mark.parametrize("line", ["augment_speed = {low = 0.0, high = 0.1}", "augment_speed = 0.1"])
def test_augmentation_of_images_without_features_is_refused(line: str, tmp_path: Path) -> None:
    given = file(tmp_path, f"epochs = {{low = 1, high = 3}}\n{line}\n")
    with pytest.raises(SettingsError) as caught:
        strategy("--space", given, where=tmp_path)
    assert str(caught.value) == "--space: found augment_speed on images of recipe mfcc; expected recipe voice"


def test_fixed_value_holds_for_every_trial(tmp_path: Path) -> None:
    given = file(tmp_path, "epochs = {low = 1, high = 3}\nlr = 0.5\nmodel = 'pooled'\n")
    made = strategy("--space", given, "--seed", "3", where=tmp_path)
    assert made.space.fixed == {"lr": 0.5, "model": "pooled"}
    assert "lr" not in made.base
    assert "model" not in made.base
    assert made.base["seed"] == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs = {low = 5, high = 5}", ", line 1: epochs: low 5, high 5, an empty range; expected low below high"),
        ("epochs = {low = 5, high = 9}\nlearning_rate = 0.1", ", line 2: learning_rate: unknown name; "),
        ("epochs = {low = 0, high = 5}", "--space: epochs 0: expected 1 to 10000"),
        ("epochs = 5\nlr = {low = 0.1, high = 20.0}", "--space: lr 20.0: expected above 0.0 to 10.0"),
        ("lr = {low = 0.1, high = 0.2}", "--space: no epochs; expected a line epochs = ..."),
        ("epochs = ", ": not TOML, "),
    ],
)
def test_invalid_space_is_refused_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        strategy("--space", file(tmp_path, text), where=tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unreadable_space_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name, reason in (("none", "No such file"), ("binary", "can't decode")):
        with pytest.raises(SettingsError, match=f"--space .*/{name}: .*{reason}.*; expected a TOML file"):
            optuna_options.space_of(tmp_path / name)


@pytest.mark.parametrize(
    ("item", "usual", "first"),
    [
        (Range(1, 10), 20, 10),
        (Range(1, 10), None, 1),
        (Range(1, 10), 0, 1),
        (Range(0.1, 0.5), 0.3, 0.3),
        (Range(0.1, 0.5), 1, 0.5),
        (Range(5, 20, step=5), 13, 15),
        (Range(5, 20, step=5), 40, 20),
        (Range(5, 20, step=5), 3, 5),
        (Choices((16, 32)), 32, 32),
        (Choices((16, 32)), 20, 16),
    ],
)
def test_first_trial_has_the_nearest_values_to_the_defaults(item: Any, usual: Any, first: Any) -> None:
    found = optuna_options.nearest(item, usual)
    assert (found, type(found)) == (first, type(first))
    assert item.holds(found)


def test_trials_are_named_by_epochs_and_the_first_varied_settings() -> None:
    schema = optuna_options.schema_of(optuna_options.space_of(None), [objectives.OBJECTIVES["loss"]])
    assert schema.axes == ("epochs", "lr", "gamma", "weight_decay")
    assert (schema.objective.metric, schema.best_epoch, schema.prunes) == ("val_loss", True, True)


# The script, up to where Ray would begin


def test_printed_space_can_be_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_optuna.main(["--print-space"]) == 0
    printed = capsys.readouterr().out
    assert printed == DEFAULT
    assert optuna_options.space_of(Path(file(tmp_path, printed))) == optuna_options.space_of(None)


def test_small_images_can_be_searched(tmp_path: Path) -> None:
    data, split = small_split()
    made = strategy("--score-folds", "2", where=tmp_path)
    points = made.expand(context(tmp_path).problem)(made.first)
    assert (len(points), data.features, len(split.test) > 0) == (2, None, True)

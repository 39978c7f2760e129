"""Searches from Python ask for what the command lines ask for."""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

import search
from agr.errors import AgrError, SettingsError, TrainingError
from search import api, grid_search, run_grid, run_optuna
from search.options import plan_of
from search.optuna_search import options as optuna_options

Asked = list[tuple[Any, ...]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What the driver was asked for, in place of a search: plan, problem and strategy."""
    calls: Asked = []

    def conduct(plan: Any, problem: Any, strategy: Any, mlflow_process: Any) -> tuple[int, Any]:
        calls.append((plan, problem, strategy))
        return 0, "the result"

    monkeypatch.setattr(api, "conduct", conduct)
    monkeypatch.setattr(api, "MlflowProcess", nullcontext)
    return calls


def settings(strategy: Any) -> dict[str, Any]:
    """All fields of a strategy; of its budget, which knows when it began, the two limits."""
    values: dict[str, Any] = vars(strategy)
    return values | {"budget": (strategy.budget.epochs, strategy.budget.seconds)}


def test_a_grid_is_that_of_the_command_line(voice_root: Path, asked: Asked) -> None:
    found: Any = search.grid(
        voice_root,
        epochs=[2],
        lr=[0.01, 0.001],
        gamma=[0.5],
        axes={"dropout": [0.1, 0.2]},
        augment={"pitch": 0.3},
        folds=4,
        fold=1,
        workers=3,
        seed=5,
        cuda=False,
        promote=True,
    )
    assert found == "the result"
    flags = f"--data {voice_root} --epochs 2 --lr 0.01 0.001 --gamma 0.5 --axis dropout 0.1 0.2 --augment pitch=0.3"
    flags += " --folds 4 --fold 1 --num-workers 3 --seed 5 --no-cuda --promote"
    plan, problem, strategy = grid_search.build_search(run_grid.parse(flags.split()), "search.grid")
    assert (asked[0][0], asked[0][2]) == (plan, strategy)
    assert (asked[0][1].name, asked[0][1].digest) == (problem.name, problem.digest)
    assert len(strategy.points) == 4


def test_defaults_are_those_of_the_command_lines(voice_root: Path, asked: Asked) -> None:
    search.grid([str(voice_root)], augmentation=False)
    flags = ["--data", str(voice_root)]
    plan, _, strategy = grid_search.build_search(run_grid.parse([*flags, "--no-augmentation"]), "search.grid")
    assert (asked[0][0], asked[0][2]) == (plan, strategy)
    search.optuna(voice_root)
    options = run_optuna.parse(flags)
    plan = plan_of(options, "search.optuna")
    _, expected = optuna_options.agr_search(options, plan)
    assert (asked[1][0], settings(asked[1][2])) == (plan, settings(expected))


def test_optuna_is_that_of_the_command_line(voice_root: Path, tmp_path: Path, asked: Asked) -> None:
    space = tmp_path / "space.toml"
    space.write_text("epochs = {low = 1, high = 3}\nlr = {low = 0.001, high = 0.1, log = true}\n")
    search.optuna(
        voice_root,
        budget=7,
        seconds=90,
        sampler="random",
        space=space,
        objectives=["loss"],
        warm_start=False,
        repeat_best=2,
    )
    flags = f"--data {voice_root} --budget 7 --time 90s --sampler random --space {space} --objective loss"
    options = run_optuna.parse([*flags.split(), "--no-warm-start", "--repeat-best", "2"])
    plan = plan_of(options, "search.optuna")
    _, expected = optuna_options.agr_search(options, plan)
    assert (asked[0][0], settings(asked[0][2])) == (plan, settings(expected))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"colour": 1}, "colour: no option of a search; expected one of recipe, split"),
        ({"fold": 1}, "--fold 1: expected --folds N"),
    ],
)
def test_wrong_options_are_one_line(options: Any, expected: str, voice_root: Path, asked: Asked) -> None:
    with pytest.raises(SettingsError, match=expected):
        search.grid(voice_root, **options)
    assert asked == []


@pytest.mark.parametrize("ending", [TrainingError("no trial finished"), None])
def test_a_search_without_a_champion_raises(
    ending: AgrError | None, voice_root: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    def conduct(plan: Any, problem: Any, *others: Any) -> tuple[int, Any]:
        return 1, ending

    monkeypatch.setattr(api, "conduct", conduct)
    with pytest.raises(TrainingError if ending else KeyboardInterrupt):
        search.grid(voice_root)


def test_the_face_has_the_functions_and_no_others() -> None:
    assert search.grid is api.grid and search.optuna is api.optuna
    assert "epochs" in inspect.signature(search.grid).parameters
    assert not hasattr(search, "nothing")

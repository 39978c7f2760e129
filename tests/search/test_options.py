"""The flags that the scripts of `search` share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType

import pytest

from agr.errors import SettingsError
from search import run_grid, run_optuna
from search.options import plan_of


@pytest.mark.parametrize(
    ("words", "storage", "stages"),
    [
        ("", "mlflow_store", "mlflow_store/stages"),
        ("--storage s3://agr", "s3://agr", "s3://agr/stages"),
        ("--storage s3://agr?region=here", "s3://agr?region=here", "s3://agr/stages?region=here"),
        ("--storage s3://agr --stage-store elsewhere", "s3://agr", "elsewhere"),
        ("--storage s3://agr --no-stage-store", "s3://agr", None),
    ],
)
def test_stages_lie_below_the_storage_by_default(words: str, storage: str, stages: str | None) -> None:
    plan = plan_of(run_grid.parse(words.split()), "search/run_grid.py")
    assert (plan.storage, plan.stage_store) == (storage, stages)


OTHERS = ("--precision bf16", "--no-augmentation", "--model cnn", "--lanes fused")
SPLITS = ("--leave-out x", "--split speakers", "--folds 4", "--fold 0")
BOTH = ("--data demo", "--ages 18-", "--recipe mfcc", "--temperature 1.5", *SPLITS)


@pytest.mark.parametrize("flag", [*BOTH, "--seed 0", "--augment pitch=0.1", *OTHERS])
def test_run_grid_refuses_flags_that_a_trainable_would_ignore(flag: str) -> None:
    _refused(run_grid.parse, flag)


@pytest.mark.parametrize("flag", [*BOTH, "--objective loss", "--score-folds 2", "--repeat-best 2"])
def test_run_optuna_refuses_flags_that_a_trainable_would_ignore(flag: str) -> None:
    _refused(run_optuna.parse, flag)


def _refused(parse: Callable[[Sequence[str]], object], flag: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(["--trainable", "examples.digits:fit", *flag.split()])
    name = flag if flag == "--lanes fused" else flag.split()[0]
    assert str(caught.value) == f"{name}: for AGR's own models only; found --trainable with it"


def test_the_seed_of_optunas_sampler_goes_with_a_trainable() -> None:
    assert run_optuna.parse(["--trainable", "examples.digits:fit", "--seed", "3"]).seed == 3


@pytest.mark.parametrize("given", ["0", "-1", "nan", "inf"])
def test_a_temperature_is_above_zero(given: str) -> None:
    with pytest.raises(SettingsError, match="expected a number above 0"):
        plan_of(run_grid.parse([f"--temperature={given}"]), "search/run_grid.py")


@pytest.mark.parametrize("script", [run_grid, run_optuna])
def test_folds_and_fold_are_the_cross_validation_of_both_scripts(script: ModuleType) -> None:
    options = script.parse(["--folds", "4", "--fold", "1"])
    plan = plan_of(options, "a script")
    assert (plan.split, plan.folds, plan.fold) == ("folds", 4, 1)
    assert vars(options).get("score_folds", 0) == 0


@pytest.mark.parametrize("script", [run_grid, run_optuna])
def test_ages_reach_the_plan_of_both_scripts(script: ModuleType) -> None:
    assert str(plan_of(script.parse(["--ages", "-17"]), "a script").ages) == "-17"
    assert plan_of(script.parse([]), "a script").ages is None


def test_flags_that_are_not_given_have_their_defaults() -> None:
    options = run_grid.parse(["--trainable", "examples.digits:fit"])
    assert (options.data, options.split, options.seed, options.lanes) == (["demo"], "speakers", 0, "separate")
    assert run_optuna.parse([]).score_folds == 0


@pytest.mark.parametrize(
    "flags", ["--split random --folds 4 --fold 0", "--leave-out x --split random", "--leave-out x --folds 4 --fold 0"]
)
def test_flags_that_divide_the_speakers_in_two_ways_are_refused(flags: str) -> None:
    with pytest.raises(SettingsError, match=r"each divides the speakers in its own way; expected one of them$"):
        plan_of(run_grid.parse(flags.split()), "search/run_grid.py")

"""What a study knows before it begins."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState

from agr.common import processes
from agr.errors import SettingsError
from agr.registry.records import FinishedTrial
from search.driver.context import SearchContext
from search.optuna_search import warm_start
from search.optuna_search.ranges import Range
from search.optuna_search.space import Space, known_settings
from search.session.session import FINISHED
from search.tasks.agr_task import agr_point
from search.tasks.base import ACCURACY, Objective
from tests.search.fakes import epoch
from tests.search.optuna_search.fakes import BASE, SPACE, FakeTrackerWithTrials, ask_tell, context, keep, strategy

PARAMS = {"epochs": 5, "lr": 0.01, "gamma": 0.5, "seed": 0, "batch_size": 32, "model": "cnn", "dropout": 0.0}
SCORED = {"val_balanced_accuracy": 0.8, "val_loss": 0.5}


def run(metrics: Mapping[str, float] | None = None, run_id: str = "r", **params: Any) -> FinishedTrial:
    """A finished trial as MLflow has it, of a grid unless `metrics` say more."""
    return FinishedTrial(run_id, {name: str(value) for name, value in (PARAMS | params).items()}, metrics or SCORED)


def told(
    *found: FinishedTrial,
    space: Space = SPACE,
    base: Mapping[str, Any] = BASE,
    aim: Objective = ACCURACY,
    **others: Any,
) -> tuple[list[dict[str, Any]], optuna.Study]:
    direction = StudyDirection.MAXIMIZE if aim.highest else StudyDirection.MINIMIZE
    study = others.get("study") or optuna.create_study(direction=direction)
    kinds = others.get("kinds") or known_settings()
    return warm_start.add_finished(study, space, base, found, aim, kinds), study


# Other searches


def test_grid_trials_are_added_best_first() -> None:
    best, study = told(
        run(), run({"val_balanced_accuracy": 0.9}, "s", lr=0.02), run({"val_balanced_accuracy": 0.7}, "t")
    )
    assert best == [{"epochs": 5, "lr": 0.02}, {"epochs": 5, "lr": 0.01}, {"epochs": 5, "lr": 0.01}]
    assert [(trial.state, trial.value) for trial in study.trials] == [
        (TrialState.COMPLETE, value) for value in (0.8, 0.9, 0.7)
    ]


def test_minimised_metric_adds_the_lowest_first() -> None:
    runs = run(SCORED, "a"), run(SCORED | {"val_loss": 0.3}, "b", lr=0.02)
    best, study = told(*runs, aim=Objective("val_loss", False, "val loss"))
    assert ([params["lr"] for params in best], [trial.value for trial in study.trials]) == ([0.02, 0.01], [0.5, 0.3])


def test_trial_of_another_study_counts_with_its_best_epoch() -> None:
    scored = SCORED | {"chosen_epoch": 3.0, "chosen_val_balanced_accuracy": 0.95}
    best, study = told(run(scored))
    assert (best, study.trials[0].value) == ([{"epochs": 3, "lr": 0.01}], 0.95)


@pytest.mark.parametrize(
    "other",
    [
        {"lr": 0.5},
        {"epochs": 7},
        {"gamma": 0.6},
        {"batch_size": 64},
        {"model": "pooled"},
        {"fold": 1},
        {"epochs": "many"},
    ],
)
def test_trials_outside_the_space_are_not_added(other: dict[str, Any]) -> None:
    assert told(run(**other))[0] == []
    assert len(told(run())[0]) == 1


def test_another_seed_is_the_same_point_again() -> None:
    assert len(told(run(seed=1009))[0]) == 1


@pytest.mark.parametrize("metrics", [{"val_loss": 0.5}, {"chosen_epoch": 3.0}])
def test_trials_without_the_objective_are_not_added(metrics: dict[str, float]) -> None:
    assert told(run(metrics))[0] == []


def test_trials_without_a_varied_setting_are_not_added() -> None:
    wider = Space({**SPACE.varied, "width": Range(0.5, 1.0)}, SPACE.fixed)
    assert told(run(), space=wider)[0] == []
    assert told(run(width=0.75), space=wider)[0] == [{"epochs": 5, "lr": 0.01, "width": 0.75}]


def test_run_is_added_once_to_a_continued_study() -> None:
    _, study = told(run())
    assert told(run(), study=study)[0] == []
    assert len(study.trials) == 1


def test_repeated_runs_of_one_search_are_added_once() -> None:
    _, study = told(run(run_id="a"), run(run_id="b"), run(SCORED | {"val_balanced_accuracy": 0.7}, "other seed"))
    assert [trial.value for trial in study.trials] == [0.8, 0.7]
    assert told(run(run_id="c"), study=study)[0] == []


def test_trials_of_the_study_itself_are_not_added(tmp_path: Path) -> None:
    where = context(tmp_path)
    book = ask_tell(strategy(tmp_path / "journal"), where)
    asked = book.ask()
    assert asked is not None
    book.advance(asked, 0, [epoch(1), epoch(2)], read=False)
    book.end(asked, 0)
    scored = SCORED | {"chosen_epoch": 1.0, "chosen_val_balanced_accuracy": 0.5}
    own = run(scored, "own", **asked.config)
    assert told(own, run(run_id="other"), study=book.study)[0] == [{"epochs": 5, "lr": 0.01}]


def test_a_trainables_settings_have_its_own_types() -> None:
    space = Space({"epochs": Range(1, 9), "depth": Range(1, 3)}, {})
    kinds = {"epochs": int, "depth": int, "flag": bool, "name": str}
    same = FinishedTrial("a", {"epochs": "3", "depth": "2", "flag": "False", "name": "x"}, SCORED)
    for base, count in (({"flag": False, "name": "x"}, 1), ({"flag": True, "name": "x"}, 0), ({"name": "y"}, 0)):
        assert len(told(same, space=space, base=base, kinds=kinds)[0]) == count


def test_only_searches_of_the_same_data_split_and_recipe_are_looked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = context(tmp_path)
    made = strategy(tmp_path / "journal")
    study = made.study(where.problem)
    tracker = where.session.tracker
    assert isinstance(tracker, FakeTrackerWithTrials)
    tracker.found = [run(), run({"val_balanced_accuracy": 0.9}, "s", lr=0.02)]
    made.begin(where, study, 0)
    tags = {name: where.problem.tags[name] for name in ("data_digest", "split_digest", "recipe")}
    assert tracker.asked_for == [tags]
    known, first = capsys.readouterr().out.splitlines()
    assert known == "known: 2 finished trials of earlier searches on this data and split"
    assert first == "first: the best of them, epochs 5, lr 0.02"
    waiting = study.get_trials(states=[TrialState.WAITING])
    assert [trial.system_attrs["fixed_params"] for trial in waiting] == [{"epochs": 5, "lr": 0.02}]


def test_message_names_settings_that_keep_all_trials_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = context(tmp_path)
    made = strategy(tmp_path / "journal")
    study = made.study(where.problem)
    tracker = where.session.tracker
    assert isinstance(tracker, FakeTrackerWithTrials)
    tracker.found = [run(lr=0.3), run(SCORED, "s", gamma=0.9), run(SCORED, "t", lr=0.4)]
    made.begin(where, study, 0)
    said = "known: none of 3 finished trials of earlier searches fits this one"
    assert capsys.readouterr().out == f"{said}; outside its space, or different: gamma, lr\n"
    waiting = study.get_trials(states=[TrialState.WAITING])
    assert [trial.system_attrs["fixed_params"] for trial in waiting] == [dict(made.first)]


@pytest.mark.parametrize(
    "others", [{"warm_start": False}, {"folds": 2}, {"objectives": (ACCURACY, Objective("val_ece", False, ""))}]
)
def test_first_trial_without_warm_start_has_the_defaults(tmp_path: Path, others: dict[str, Any]) -> None:
    where = context(tmp_path)
    made = strategy(tmp_path / "journal", **others)
    study = made.study(where.problem)
    tracker = where.session.tracker
    assert isinstance(tracker, FakeTrackerWithTrials)
    tracker.found = [run()]
    made.begin(where, study, 0)
    assert [trial.system_attrs.get("fixed_params") for trial in study.trials] == [{"epochs": 4, "lr": 0.01}]


def test_continued_study_enqueues_no_first_trial(tmp_path: Path) -> None:
    where = context(tmp_path)
    made = strategy(tmp_path / "journal")
    study = made.study(where.problem)
    made.begin(where, study, 3)
    assert study.trials == []


# The study's own


@pytest.fixture(scope="module")
def dead() -> str:
    """A driver that was, and is no more."""
    host = processes.driver().rpartition(":")[0]
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    return f"{host}:{done.stdout.strip()}"


def begin(where: SearchContext, journal: Path, maker: str, scores: Sequence[float], end: bool) -> dict[str, Any]:
    """One trial of a study by another driver, its stages stored; returns its hyperparameters."""
    book = ask_tell(strategy(journal), where)
    asked = book.ask()
    assert asked is not None
    asked.optuna_trial.set_user_attr("driver", maker)
    for number, score in enumerate(scores, start=1):
        book.advance(asked, 0, [epoch(number, val_balanced_accuracy=score)], read=False)
    keep(where, asked.points[0], scores)
    if end:
        book.end(asked, 0)
    return dict(asked.optuna_trial.params)


def recall(where: SearchContext, journal: Path) -> Any:
    book = ask_tell(strategy(journal), where)
    assert warm_start.replay_study(where, book, book.expand) == len(book.study.trials) - len(
        book.study.get_trials(states=[TrialState.WAITING])
    )
    return book


@pytest.mark.parametrize("scores", [(0.5, 0.9), (0.5, 0.9, 0.6, 0.6, 0.6, 0.6)])
def test_ended_trials_are_replayed_and_their_epochs_stay_spent(
    tmp_path: Path, scores: Sequence[float], dead: str
) -> None:
    where = context(tmp_path / "stages")
    params = begin(where, tmp_path / "journal", dead, scores[:2], end=True)
    keep(where, agr_point(BASE | dict(SPACE.fixed) | params | {"epochs": len(scores)}), scores)  # another went further
    book = recall(where, tmp_path / "journal")
    (record,) = where.session.records.values()
    assert (record.status, len(record.history), record.score) == (FINISHED, 2, 0.9)
    assert (record.trained, record.earlier, book.spent, book.left) == (0, 2, 2, 18)


def test_ended_trial_without_stages_is_skipped(tmp_path: Path, dead: str) -> None:
    begin(context(tmp_path / "stages"), tmp_path / "journal", dead, (0.5, 0.9), end=True)
    where = context(tmp_path / "others")
    assert recall(where, tmp_path / "journal").spent == 2
    assert where.session.records == {}


def test_running_trial_of_a_dead_driver_is_enqueued_again(tmp_path: Path, dead: str) -> None:
    where = context(tmp_path / "stages")
    params = begin(where, tmp_path / "journal", dead, (0.5,), end=False)
    book = recall(where, tmp_path / "journal")
    assert (book.spent, [trial.state for trial in book.study.trials]) == (1, [TrialState.FAIL, TrialState.WAITING])
    assert book.ask().optuna_trial.params == params


def test_running_trial_of_a_living_driver_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        living = f"{socket.gethostname()}:{other.pid}"
        begin(context(tmp_path / "stages"), tmp_path / "journal", living, (0.5,), end=False)
        book = recall(context(tmp_path / "stages"), tmp_path / "journal")
        assert [trial.state for trial in book.study.trials] == [TrialState.RUNNING]
        other.communicate(b"\n")


def test_running_trial_of_a_driver_with_this_process_id_is_enqueued_again(tmp_path: Path) -> None:
    begin(context(tmp_path / "stages"), tmp_path / "journal", processes.driver(), (0.5,), end=False)
    book = recall(context(tmp_path / "stages"), tmp_path / "journal")
    assert [trial.state for trial in book.study.trials] == [TrialState.FAIL, TrialState.WAITING]


# Spaces


def test_space_with_values_that_the_task_refuses_is_an_error() -> None:
    space = Space({"epochs": Range(2, 6), "lr": Range(0.01, 20.0)}, {"gamma": 0.5})
    with pytest.raises(SettingsError, match=r"--space: lr 20.0: expected above 0.0 to 10.0"):
        warm_start.check_space(space, lambda config: (agr_point(config),))
    warm_start.check_space(SPACE, lambda config: (agr_point(config),))

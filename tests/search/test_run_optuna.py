"""`python search/run_optuna.py` as it is typed: real Ray, real MLflow, real signals; tiny data."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
import pytest
from mlflow.entities import Run
from safetensors.numpy import load_file

from agr.common import cli
from search import run_optuna
from search.optuna_search import space
from search.optuna_search.samplers import study_storage
from tests.search.test_run_grid import (
    AGENTS,
    REPOSITORY,
    Done,
    Running,
    children,
    client,
    command_of,
    descendants,
    history,
    is_alive,
    searches,
    wait_for,
)
from tests.stores import new_store

DIGITS = ("--trainable", "examples.digits:fit", "--num-workers", "2")
TINY = """
epochs = {low = 1, high = 2}
lr = {low = 0.001, high = 0.01, log = true}
width = {choices = [0.25, 0.5]}
"""
SLOW = """
import os
import time
import numpy as np
OBJECTIVE = "val_accuracy"
GRID = {"epochs": [6], "lr": [0.1]}
SPACE = "epochs = {low = 4, high = 8}\\nlr = {low = 0.01, high = 1.0}"


def prefix(config):
    return (config["lr"], *range(1, config["epochs"]))


def fit(config, report, resume):
    for epoch in range(resume.epoch if resume else 0, config["epochs"]):
        time.sleep(30 if os.path.exists("long") else 0.2)
        with open("trained", "a") as file:
            file.write(f"{config['lr']} {epoch}\\n")
        report({"val_accuracy": config["lr"] * epoch / (epoch + 1)}, {"lr": np.array(config["lr"])})
"""
BUDGET = 24
SETTINGS = ("epochs", "lr", "gamma", "hidden")  # of examples.digits


def start(folder: Path, script: str, *arguments: str) -> Running:
    known = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "RAY", "TUNE"))}
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        process = subprocess.Popen(
            [sys.executable, str(REPOSITORY / "search" / script), *arguments],
            cwd=folder,
            env=known | {"COLUMNS": "200"},
            stdout=out,
            stderr=err,
            text=True,
            start_new_session=True,
        )
    return Running(folder, process, time.time())


def artifacts(folder: Path, parent: Run) -> set[str]:
    return {file.path for file in client(folder).list_artifacts(parent.info.run_id)}


def studies(folder: Path) -> list[optuna.Study]:
    storage = study_storage(str(folder / "mlflow_store" / "studies.journal"))
    return [optuna.load_study(study_name=name, storage=storage) for name in optuna.get_all_study_names(storage)]


def tried(run: Run) -> tuple[str, ...]:
    return tuple(run.data.params[name] for name in SETTINGS)


def assert_nothing_is_open(folder: Path) -> None:
    """Every run has ended, and every trial's has all its epochs."""
    for parent in searches(folder):
        assert parent.info.status != "RUNNING"
        for run in children(folder, parent):
            assert run.info.status != "RUNNING"
            if run.info.status == "FINISHED":
                count = sum(run.data.metrics[f"epochs_{kind}"] for kind in ("trained", "shared", "earlier"))
                metric = next(name for name in ("val_accuracy", "val_loss") if name in run.data.metrics)
                assert [step for step, _ in history(folder, run, metric)] == list(range(1, int(count) + 1))


# The example, by both scripts


@dataclass
class Story:
    """The same folder after each of three searches."""

    grid: Done
    search: Done
    again: Done


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("digits")
    new_store(folder / "mlflow_store")
    shutil.copytree(REPOSITORY / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    points = ("--epochs", "3", "6", "--lr", "0.3", "--gamma", "0.5", "1")
    grid = start(folder, "run_grid.py", *DIGITS, *points).wait()
    search = start(folder, "run_optuna.py", *DIGITS, "--budget", "14").wait()
    return Story(grid, search, start(folder, "run_optuna.py", *DIGITS, "--budget", "14").wait())


def test_the_grid_of_a_trainable_shares_epochs_and_registers_under_its_own_name(digits: Story) -> None:
    done = digits.grid
    assert (done.status, done.err) == (0, "")
    assert "4 trials, 18 epochs, 7 trained, 11 shared, 0 from earlier runs" in done.out
    assert "registered  digits version 1 as best: the first registered version" in done.out
    assert "test        accuracy 0." in done.out


def test_a_hunt_knows_what_the_grid_found_and_begins_with_the_best_of_it(digits: Story) -> None:
    done = digits.search
    assert (done.status, done.err) == (0, "")
    assert "known: 4 finished trials of earlier searches on this data and split" in done.out
    parent = searches(done.folder)[1]
    grid = children(done.folder, searches(done.folder)[0])
    best = max(grid, key=lambda run: float(run.data.metrics["val_accuracy"]))
    (study,) = studies(done.folder)
    asked = next(trial for trial in study.trials if "config" in trial.user_attrs)
    assert tuple(str(asked.params[name]) for name in SETTINGS) == tried(best)
    trials = {tried(run): run for run in children(done.folder, parent)}  # two workers begin in any order
    again = trials[tried(best)]
    assert (again.data.metrics["epochs_trained"], again.data.metrics["epochs_earlier"]) == (0, 6)
    assert again.data.metrics["chosen_val_accuracy"] >= best.data.metrics["val_accuracy"]
    trained = sum(run.data.metrics["epochs_trained"] for run in children(done.folder, parent))
    assert trained == 14


def test_run_of_the_search_has_its_curve_and_plots(digits: Story) -> None:
    folder = digits.search.folder
    parent = searches(folder)[1]
    curve = history(folder, parent, "best_val_accuracy")
    scores = [score for _, score in curve]
    assert scores == sorted(scores)
    assert curve[-1][0] == 14
    assert {"best_so_far.png", "history.png", "slice.png", "parallel.png"} <= artifacts(folder, parent)
    assert_nothing_is_open(folder)


def test_the_champion_of_a_trainable_is_its_state_and_a_card(digits: Story) -> None:
    run_id = client(digits.search.folder).get_model_version("digits", "2").run_id
    found = {path.name: path for path in digits.search.folder.glob(f"mlflow_store/**/{run_id}/**/*")}
    assert {"weights.safetensors", "config.json"} <= set(found)
    card = json.loads(found["config.json"].read_text())
    weights = load_file(found["weights.safetensors"])
    assert weights["w1"].shape == (64, card["config"]["hidden"])
    assert np.isfinite(weights["w2"]).all()


def test_the_same_hunt_again_trains_nothing_and_finds_the_same(digits: Story) -> None:
    done = digits.again
    assert (done.status, done.err) == (0, "")
    assert " 0 trained, 0 shared, " in done.out
    champions = [
        next(line for line in out.splitlines() if line.startswith("champion")) for out in (digits.search.out, done.out)
    ]
    assert champions[0] == champions[1]
    assert len(studies(done.folder)) == 1


# A search that is killed, interrupted, and continued


@dataclass
class Killed:
    """What was seen."""

    interrupted: Done
    last: Done
    trained: list[str]
    seconds: float  # from Ctrl-C to the end


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killed]:
    folder = tmp_path_factory.mktemp("killed")
    new_store(folder / "mlflow_store")
    (folder / "slow.py").write_text(SLOW)
    command = ("run_optuna.py", "--trainable", "slow:fit", "--budget", str(BUDGET), "--num-workers", "2")
    notes, started = folder / "trained", list[Running]()

    def trained() -> list[str]:
        return notes.read_text().splitlines() if notes.exists() else []

    try:
        for end in (signal.SIGKILL, signal.SIGINT):
            before = len(trained())
            started.append(start(folder, *command))
            more = wait_for(lambda: len(trained()) > before + 3, started[-1].process)  # noqa: B023  asked at once
            assert more, (folder / "err").read_text()
            family = {pid: command_of(pid) for pid in descendants(started[-1].process.pid)}
            family = {pid: name for pid, name in family.items() if name not in AGENTS}
            if end == signal.SIGINT:
                (folder / "long").touch()
                time.sleep(1)  # now both workers are in a long epoch
            (os.killpg if end == signal.SIGINT else os.kill)(started[-1].process.pid, end)  # as a terminal does
            began = time.monotonic()
            interrupted = started[-1].wait()
            seconds = time.monotonic() - began
            assert wait_for(lambda: not any(is_alive(*each) for each in family.items()), seconds=60)  # noqa: B023
        (folder / "long").unlink()
        started.append(start(folder, *command))
        yield Killed(interrupted, started[-1].wait(), trained(), seconds)
    finally:
        for running in started:
            running.process.kill()
            running.process.wait()


def test_ctrl_c_waits_for_no_epoch(killed: Killed) -> None:
    assert killed.seconds < 6, "2 s on a quiet machine"


def test_ctrl_c_says_what_is_kept(killed: Killed) -> None:
    assert (killed.interrupted.status, killed.interrupted.err) == (130, "")
    said = r"interrupted: \d+ trials? finished; what the others trained is kept, and the same command goes on\n"
    assert re.search(said, killed.interrupted.out)
    assert "of 0 trials" not in killed.interrupted.out
    folder = killed.interrupted.folder
    one, two, _ = searches(folder)
    assert (one.info.status, two.info.status) == ("KILLED", "KILLED")
    assert {run.info.status for run in children(folder, two)} <= {"KILLED", "FINISHED"}


def test_after_a_kill_the_same_command_goes_on_within_its_budget(killed: Killed) -> None:
    assert (killed.last.status, killed.last.err) == (0, "")
    in_flight = 2 * 2  # an epoch of each worker, twice
    assert BUDGET <= len(killed.trained) <= BUDGET + in_flight
    assert len(killed.trained) - len(set(killed.trained)) <= in_flight
    (study,) = studies(killed.last.folder)
    assert sum(trial.user_attrs.get("spent", 0) for trial in study.trials) == BUDGET
    assert all(trial.state.is_finished() for trial in study.trials)
    assert_nothing_is_open(killed.last.folder)


# AGR's own models: folds, two objectives, other seeds


@pytest.fixture(scope="module")
def folds(prepared_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("folds")
    new_store(folder / "mlflow_store")
    (folder / "tiny.toml").write_text(TINY)
    wanted = ("--objective", "balanced_accuracy", "--objective", "latency", "--score-folds", "2", "--repeat-best", "1")
    data = ("--data", str(prepared_root), "--space", "tiny.toml", "--num-workers", "2")
    return start(folder, "run_optuna.py", *data, *wanted, "--budget", "8").wait()


def test_folds_objectives_and_repeats_together(folds: Done) -> None:
    assert (folds.status, folds.err) == (0, "")
    assert "best mean over 2 folds: val balanced accuracy 0." in folds.out
    (parent,) = searches(folds.folder)
    trials = [run for run in children(folds.folder, parent) if "fold" in run.data.params]
    assert sum(run.data.metrics["epochs_trained"] for run in trials) == 8
    others = [run for run in children(folds.folder, parent) if "fold" not in run.data.params]
    assert sorted(int(run.data.params["seed"]) for run in others) == [0, 1009, 2018]
    assert parent.data.tags["champion_run_id"] in {run.info.run_id for run in others}
    assert_nothing_is_open(folds.folder)


def test_search_with_two_objectives_logs_its_front_as_plot_and_table(folds: Done) -> None:
    (parent,) = searches(folds.folder)
    assert {"pareto.png", "pareto.csv", "repeats.csv", "ranking.csv"} <= artifacts(folds.folder, parent)
    path = client(folds.folder).download_artifacts(parent.info.run_id, "pareto.csv")
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    (study,) = studies(folds.folder)
    assert [int(row["trial"]) for row in rows] == sorted(
        (trial.number for trial in study.best_trials), key=lambda number: -study.trials[number].values[0]
    )
    assert all(float(row["latency of one clip, ms"]) > 0 for row in rows)


# Wrong usage


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--print-space"], 0, ""),
        (["--trainable", "nowhere:fit", "--data", "demo"], 2, "agr: --data: for AGR's own models only; found"),
        (["--trainable", "nowhere:fit"], 2, "agr: --trainable nowhere:fit: No module named 'nowhere'; "),
    ],
)
def test_what_needs_no_training_is_answered_at_once_and_leaves_nothing(
    arguments: list[str],
    status: int,
    said: str,
    elsewhere: None,
    own_signals: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.run(lambda: run_optuna.main(arguments))
    out, err = capsys.readouterr()
    assert (caught.value.code, err[: len(said)], err.count("\n")) == (status, said, 1 if said else 0)
    assert out == ("" if said else space.DEFAULT)

"""The comparison of searches: what it counts, what it keeps, what it says last; and Optuna alone within its budget."""

from __future__ import annotations

import json
import math
import multiprocessing
import queue
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from PIL import Image

from agr.data import splits
from agr.data.image_set import ImageSet
from agr.errors import AgrError, TrainingError
from agr.plots import search as plots_search
from agr.training.loop import Epoch
from agr.training.settings import Settings
from search.optuna_search.space import known_settings, parse  # before the folder with a script of that name

BENCH = Path(__file__).resolve().parents[2] / "bench"
sys.path.append(str(BENCH))

import _plain_worker  # noqa: E402
import _search_contest as contest  # noqa: E402
import _search_tools as tools  # noqa: E402

sys.path.remove(str(BENCH))

AXES = tools.Axes((2, 4), (0.01, 0.001), (0.3,))


def result(contender: str, seed: int, curve: list[tuple[int, float]], epochs: int = 150, **others: Any) -> tools.Result:
    values: dict[str, Any] = {
        "val": curve[-1][1],
        "test": 0.8,
        "any_epoch": curve[-1][1],
        "wall": 10.0,
        "champion": {"lr": 0.1},
    }
    return tools.Result(contender, seed, tuple(curve), epochs, **(values | others))


def results(reached: list[int], ours: float, theirs: float) -> dict[str, list[tools.Result]]:
    """The grid has 0.9 on every seed; the search reaches it after these epochs, or never (0), and ends at `ours`."""
    found: dict[str, list[tools.Result]] = {name: [] for name in tools.CONTENDERS}
    for seed, count in enumerate(reached):
        found["grid"].append(result("grid", seed, [(20, 0.8), (90, 0.9)], any_epoch=0.95))
        found["random"].append(result("random", seed, [(5, 0.7), (40, 0.85)], 50))
        found["optuna"].append(result("optuna", seed, [(5, 0.75), (45, theirs)], 50))
        steps = [(3, 0.6), (count, 0.9)] if count else [(3, 0.6)]
        found["search"].append(result("search", seed, [*steps, (50, max(ours, steps[-1][1]))], 50, val=ours))
    return found


@pytest.mark.parametrize(
    ("reached", "ours", "theirs", "status", "word"),
    [
        ([20, 30, 49], 0.91, 0.905, 0, "HELD"),
        ([20, 30, 49], 0.91, 0.91, 0, "HELD"),
        ([20, 50, 0], 0.91, 0.9, 0, "HELD"),
        ([20, 0, 0], 0.89, 0.88, 1, "NOT HELD"),
        ([20, 30, 49], 0.91, 0.92, 1, "NOT HELD"),
    ],
    ids=["both", "as-good-as-optuna", "two-of-three-in-time", "too-late", "worse-than-optuna"],
)
def test_the_last_line_is_the_verdict_and_the_status_goes_with_it(
    reached: list[int], ours: float, theirs: float, status: int, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert contest.verdict(results(reached, ours, theirs), judged=True) == status
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"{word}: the grid's best validation score after, in the median, ")
    assert f"Optuna alone {theirs:.4f}" in last


def test_a_quick_run_is_not_judged(capsys: pytest.CaptureFixture[str]) -> None:
    assert contest.verdict(results([0], 0.5, 0.9), judged=False) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("no verdict on a quick run")


def test_epochs_are_counted_to_where_the_score_is_reached() -> None:
    one = result("search", 0, [(3, 0.6), (10, 0.8), (40, 0.9)])
    assert [one.reached(target) for target in (0.5, 0.8, 0.8 + 1e-12, 0.85, 0.91)] == [3, 10, 10, 40, math.inf]
    assert [one.at(epochs) for epochs in (3, 9, 10, 500)] == [0.6, 0.6, 0.8, 0.9]
    assert math.isnan(one.at(2))


def test_a_curve_keeps_where_it_rises() -> None:
    logged = [(30, 0.9), (5, 0.5), (12, 0.7), (20, 0.7), (50, 0.9)]  # MLflow's order is not that of the steps
    assert tools.rising(logged) == ((5, 0.5), (12, 0.7), (30, 0.9))


def test_the_contenders_may_choose_within_the_ranges_of_the_grid() -> None:
    space = parse(tools.Axes((5, 10, 20), (0.1, 0.001), (0.3,)).space, "made", known_settings())
    assert {name: item.ends() for name, item in space.varied.items()} == {"epochs": (5, 20), "lr": (0.001, 0.1)}
    assert space.fixed == {"gamma": 0.3}


def test_the_picture_shows_every_contender(tmp_path: Path) -> None:
    contest.picture(results([20, 30, 0], 0.91, 0.9), tmp_path / "search.png", "made", 50)
    with Image.open(tmp_path / "search.png") as picture:
        assert picture.size[0] > 1000
        colours = {colour for _, colour in picture.convert("RGB").getcolors(10**7) or ()}
    assert {tuple(bytes.fromhex(colour[1:])) for colour in plots_search.COLOURS[: len(tools.CONTENDERS)]} <= colours


def test_results_are_kept_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    match = tools.Match(("demo",), None, AXES, AXES.space, 5, 2, tmp_path, tmp_path)
    ran: list[list[str]] = []

    def timed(command: list[str], cwd: Path) -> tuple[float, float]:
        ran.append(command)
        values = {"curve": [[2, 0.5]], "epochs": 5, "val": 0.5, "test": 0.4, "champion": {"lr": 0.1}}
        (cwd / "result.json").write_text(json.dumps(values))
        return 0.0, 1.5

    monkeypatch.setattr(tools, "timed", timed)
    first = match.result("optuna", 0)
    assert first == match.result("optuna", 0) == result("optuna", 0, [(2, 0.5)], 5, test=0.4, wall=1.5)
    assert len(ran) == 1
    match.result("optuna", 1)
    replace(match, budget=6).result("optuna", 0)
    assert len(ran) == 3  # another seed and another budget are other results
    assert match.key("grid", 0) == replace(match, budget=6, space="").key("grid", 0)
    (tmp_path / f"optuna-seed0-{match.key('optuna', 0)}.json").write_text("{}")
    with pytest.raises(AgrError, match="expected a result of this script"):
        match.result("optuna", 0)


def test_what_a_failed_command_said_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def timed(command: list[str], cwd: Path) -> tuple[float, float]:
        (cwd / "output.txt").write_text("first\nlast\n")
        raise AgrError("exit status 1")

    monkeypatch.setattr(tools, "timed", timed)
    with pytest.raises(AgrError, match=r"exit status 1 \(all of it: .*grid-seed3\.log\)"):
        tools.Match(("demo",), None, AXES, AXES.space, 5, 2, tmp_path, tmp_path).result("grid", 3)
    assert (tmp_path / "grid-seed3.log").read_text() == "first\nlast\n"


@pytest.fixture
def worker(images: ImageSet, one_thread: None) -> Iterator[_plain_worker.Worker]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = parse(
        AXES.space.replace("epochs = {low = 2", "epochs = {low = 3"),
        "made",
        {"epochs": int, "lr": float, "gamma": float},
    )
    left = multiprocessing.get_context("spawn").Value("i", 11)
    yield _plain_worker.Worker(images, splits.make(images), space, {"seed": 0}, left, queue.Queue())
    optuna.logging.set_verbosity(before)


def told(worker: _plain_worker.Worker) -> list[float | None]:
    return [worker.told.get() for _ in range(worker.told.qsize())]


def studied(worker: _plain_worker.Worker, **options: Any) -> optuna.Study:
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0), **options)
    study.optimize(worker.objective, catch=(TrainingError,))
    return study


def test_optuna_alone_trains_exactly_its_budget(worker: _plain_worker.Worker) -> None:
    study = studied(worker, pruner=optuna.pruners.NopPruner())
    scores = told(worker)
    by_trial = [list(trial.intermediate_values.values()) for trial in study.trials]
    assert [score for values in by_trial for score in values] == scores
    assert len(scores) == 11
    assert [trial.value for trial in study.trials if trial.state.name == "COMPLETE"] == [
        max(values) for values, trial in zip(by_trial, study.trials, strict=True) if trial.state.name == "COMPLETE"
    ]


def test_its_best_is_the_best_epoch_of_all(worker: _plain_worker.Worker) -> None:
    studied(worker, pruner=optuna.pruners.NopPruner())
    assert worker.best.epoch is not None
    assert worker.best.epoch.val_balanced_accuracy == max(score for score in told(worker) if score is not None)
    assert worker.best.weights["out.weight"].shape == (2, 128)


def test_a_pruned_trial_costs_only_what_it_trained(worker: _plain_worker.Worker) -> None:
    class Always(optuna.pruners.BasePruner):
        def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
            return True

    study = studied(worker, pruner=Always())
    assert len([trial for trial in study.trials if trial.intermediate_values]) == 11
    assert len(told(worker)) == 11


def test_an_epoch_that_diverged_counts(worker: _plain_worker.Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverging(*_: Any) -> None:
        raise TrainingError("epoch 1: loss nan")

    monkeypatch.setattr(_plain_worker, "fit", diverging)
    studied(worker)
    assert told(worker) == [None] * 11


def test_equal_scores_are_told_apart_by_loss_then_by_epochs() -> None:
    best = _plain_worker.Best()
    state: Any = type("State", (), {"weights": {"w": torch.zeros(1)}})
    values: dict[str, Any] = dict.fromkeys(Epoch.__dataclass_fields__, 0.5)
    for number, score, loss in ((1, 0.7, 0.5), (2, 0.8, 0.6), (3, 0.8, 0.4), (4, 0.8, 0.4), (5, 0.79, 0.1)):
        epoch = Epoch(**(values | {"epoch": number, "val_balanced_accuracy": score, "val_loss": loss}))
        best.offer(Settings(5, 0.1, 0.5), epoch, state)
    assert asdict(best)["epoch"]["epoch"] == 3


@pytest.mark.parametrize("script", ["search.py", "grid.py", "plain_optuna.py"])
def test_the_script_of_the_packages_name_does_not_hide_the_package(script: str) -> None:
    done = subprocess.run([sys.executable, str(BENCH / script), "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"usage: python bench/{script}" in done.stdout

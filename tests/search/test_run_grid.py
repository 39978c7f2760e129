"""`python search/run_grid.py` as it is typed: real Ray, real MLflow, real signals."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run

from agr.common import cli
from agr.data import splits
from agr.data.image_set import ImageSet, load
from agr.synth import demo
from agr.training.augmentation import DEFAULT, NONE
from agr.training.loop import Epoch, fit
from agr.training.settings import Settings
from search import api, run_grid
from search.driver.prefix_searcher import PrefixSearcher
from search.grid_search import grid
from search.problems.agr_models import with_augmentation
from search.runtime.cluster import Allocation
from search.runtime.trial import Job, run_trial
from search.session.session import Session
from search.stages.store import final_weights
from search.tasks.base import TrialReport, distinct_epochs
from tests.search.fakes import made_report
from tests.stores import new_store

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "search" / "run_grid.py"
METRICS = [name for name in Epoch.__dataclass_fields__ if name != "epoch"]
SMALL = ((2, 4), (0.01, 0.001), (0.1, 0.5))  # 8 points, 24 epochs, of which 8 differ
LONG = ((6, 12), (0.01, 0.001), (0.1, 0.5))  # 8 points, 72 epochs, of which 38 differ
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")  # see the end at once, then try for a minute to report it


def options(points: tuple[tuple[int, ...], tuple[float, ...], tuple[float, ...]]) -> list[str]:
    named = zip(("--epochs", "--lr", "--gamma"), points, strict=True)
    return [word for name, values in named for word in (name, *map(str, values))]


@dataclass
class Done:
    """How a search ended."""

    folder: Path
    status: int
    out: str
    err: str


def without_caution(err: str) -> str:
    """What stands on stderr, less how few people these tests test on, and whom a search waits for beside another."""
    usual = "agr: test: women ", "agr: waiting for "
    lines = err.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(usual) and " was to start Ray and " not in line)


@dataclass
class Running:
    """A search in a session of its own, as a terminal would start it."""

    folder: Path
    process: subprocess.Popen[str]
    began: float

    def wait(self) -> Done:
        try:
            status = self.process.wait(timeout=240)
        finally:
            self.process.kill()
        out, err = ((self.folder / name).read_text() for name in ("out", "err"))
        return Done(self.folder, status, out, without_caution(err))


def start(folder: Path, data: Path, *arguments: str, **environment: str) -> Running:
    known = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "RAY", "TUNE"))}
    command = [sys.executable, str(SCRIPT), "--data", str(data), *arguments]
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=known | {"COLUMNS": "200"} | environment,
            stdout=out,
            stderr=err,
            text=True,
            start_new_session=True,
        )
    return Running(folder, process, time.time())


def wait_for(
    condition: Callable[[], object], process: subprocess.Popen[str] | None = None, seconds: float = 120
) -> bool:
    """Whether it came true in time, and before the process ended."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until or (process is not None and process.poll() is not None):
            return False
        time.sleep(0.02)
    return True


def client(folder: Path) -> MlflowClient:
    uri = f"sqlite:///{folder / 'mlflow_store' / 'mlflow.db'}"
    return MlflowClient(uri, uri)


def runs(folder: Path) -> list[Run]:
    """Every run of a store, the oldest first."""
    store = client(folder)
    ids = [experiment.experiment_id for experiment in store.search_experiments()]
    return list(store.search_runs(ids, order_by=["attributes.start_time ASC"]))


def searches(folder: Path) -> list[Run]:
    return [run for run in runs(folder) if "mlflow.parentRunId" not in run.data.tags]


def children(folder: Path, parent: Run) -> list[Run]:
    return [run for run in runs(folder) if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]


def point(run: Run) -> tuple[int, float, float]:
    params = run.data.params
    return int(params["epochs"]), float(params["lr"]), float(params["gamma"])


def history(folder: Path, run: Run, metric: str) -> list[tuple[int, float]]:
    """(epoch, value) of a run's metric, in the order of the epochs."""
    return sorted((each.step, each.value) for each in client(folder).get_metric_history(run.info.run_id, metric))


def searched(points: tuple[tuple[int, ...], tuple[float, ...], tuple[float, ...]], data: ImageSet) -> list[Settings]:
    """The points as a search trains them, on varied clips."""
    return list(with_augmentation(grid(*points), DEFAULT, data))


def reference(data: ImageSet, settings: list[Settings]) -> dict[tuple[int, float, float], tuple[Epoch, ...]]:
    """Every point's epochs by `fit` alone, on one thread; a shorter trial is the beginning of a longer one."""
    torch.set_num_threads(1)
    longest = max(each.epochs for each in settings)
    whole = {
        (each.lr, each.gamma): fit(data, splits.make(data), each, torch.device("cpu")).history
        for each in settings
        if each.epochs == longest
    }
    return {(each.epochs, each.lr, each.gamma): whole[each.lr, each.gamma][: each.epochs] for each in settings}


def assert_trained_alike(folder: Path, parent: Run, data: ImageSet, settings: list[Settings]) -> None:
    """The children of a search are its points, once each, and their metrics those of undisturbed training."""
    expected, found = reference(data, settings), children(folder, parent)
    assert sorted(map(point, found)) == sorted(expected)
    for run in found:
        assert run.info.status == "FINISHED"
        for metric in METRICS:
            values = history(folder, run, metric)
            if metric == "seconds":
                assert [step for step, _ in values] == list(range(1, point(run)[0] + 1))
            else:
                assert values == [(epoch.epoch, getattr(epoch, metric)) for epoch in expected[point(run)]]


# A search, and the same again


@pytest.fixture(scope="module")
def data(voice_root: Path) -> ImageSet:
    return load(voice_root)


@pytest.fixture(scope="module")
def first(voice_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    return start(tmp_path_factory.mktemp("search"), voice_root, *options(SMALL)).wait()


@pytest.fixture(scope="module")
def again(first: Done, voice_root: Path) -> Done:
    return start(first.folder, voice_root, *options(SMALL), "--again").wait()


def test_a_search_says_what_came_of_it_and_what_to_type_next(first: Done) -> None:
    assert (first.status, first.err) == (0, "")
    for expected in (
        "8 trials on voices, split speakers-seed0, SYNTHETIC voices",
        "8 of 8 trials ended, 8 of 8 epochs trained, ",
        "best 8 of 8 trials",
        "8 trials, 24 epochs, 8 trained, 16 shared, 0 from earlier runs",
        "champion    epochs ",
        "validation  balanced accuracy 0.",
        "speakers it never heard (95 % interval over speakers",
        "SYNTHETIC   made-up voices: these numbers prove nothing about people",
        "registered  agr version 1 as best: the first registered version",
        "  mlflow ui\n  http://127.0.0.1:5000/#/experiments/1/runs/",
        "python -m agr.predict --model-uri models:/agr/best ",
    ):
        assert expected in first.out
    assert "LEAKY" not in first.out
    assert not list((first.folder / "mlflow_store" / "ray").iterdir())


def test_mlflow_has_one_finished_run_and_a_nested_one_for_each_trial(first: Done, data: ImageSet) -> None:
    parent = searches(first.folder)[0]
    assert parent.info.status == "FINISHED"
    assert_trained_alike(first.folder, parent, data, searched(SMALL, data))
    for run in children(first.folder, parent):
        tags = run.data.tags
        assert {"recipe": "voice", "seed": "0", "device": "cpu", "synthetic": "true"}.items() <= tags.items()
        assert tags["split"] == "speakers-seed0"
        assert len(tags["commit"]) == 40 or tags["commit"] == "unknown"
        counted = [int(run.data.metrics[f"epochs_{kind}"]) for kind in ("trained", "shared", "earlier")]
        assert sum(counted) == point(run)[0]
    assert {run.data.tags["search"] for run in children(first.folder, parent)} == {parent.data.tags["search"]}


def test_the_search_itself_carries_data_ranking_and_pictures(first: Done, data: ImageSet) -> None:
    parent = searches(first.folder)[0]
    (dataset,) = [each.dataset for each in parent.inputs.dataset_inputs]
    assert (dataset.name, dataset.digest, dataset.profile) == (data.name, data.digest, f'{{"clips": {len(data)}}}')
    assert parent.data.metrics["epochs_trained"] == distinct_epochs(grid(*SMALL)) == 8
    files = {file.path: file for file in client(first.folder).list_artifacts(parent.info.run_id)}
    pictures = {
        f"{name}.png" for name in ("grid", "learning_curves", "confusion", "speakers", "reliability", "coverage")
    }
    assert set(files) == {"ranking.csv"} | pictures
    assert all(file.file_size > 100 for file in files.values())


def ranking(folder: Path) -> list[dict[str, str]]:
    path = client(folder).download_artifacts(searches(folder)[0].info.run_id, "ranking.csv")
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_ranking_is_by_accuracy_then_loss_then_length_and_leads_to_the_runs(first: Done) -> None:
    rows = ranking(first.folder)
    assert [row["rank"] for row in rows] == [str(rank) for rank in range(1, 9)]
    merits = [(-float(row["val_balanced_accuracy"]), float(row["val_loss"]), int(row["epochs"])) for row in rows]
    assert merits == sorted(merits)
    assert {(row["leaky"], row["synthetic"]) for row in rows} == {("false", "true")}
    by_id = {run.info.run_id: point(run) for run in children(first.folder, searches(first.folder)[0])}
    assert [by_id[row["run_id"]] for row in rows] == [
        (int(row["epochs"]), float(row["lr"]), float(row["gamma"])) for row in rows
    ]
    champion = searches(first.folder)[0].data.tags["champion_run_id"]
    assert champion == rows[0]["run_id"]


def test_the_champion_is_registered_and_answers(first: Done, voices: list[Path]) -> None:
    store = client(first.folder)
    version = store.get_model_version("agr", "1")
    assert version.run_id == ranking(first.folder)[0]["run_id"]
    assert store.get_model_version_by_alias("agr", "best").version in (1, "1")
    done = subprocess.run(
        [sys.executable, "-m", "agr.predict", "--model-uri", "models:/agr/best", str(voices[0])],
        cwd=first.folder,
        env={key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "female" in done.stdout or "male" in done.stdout


def test_the_same_search_again_trains_nothing_and_challenges(again: Done, data: ImageSet) -> None:
    assert (again.status, again.err) == (0, "")
    assert "8 trials, 24 epochs, 0 trained, 0 shared, 24 from earlier runs" in again.out
    assert "registered  agr version 2 as challenger" in again.out
    assert "a tie" in again.out
    assert "models:/agr/challenger" in again.out
    store = client(again.folder)
    assert str(store.get_model_version_by_alias("agr", "best").version) == "1"
    assert str(store.get_model_version_by_alias("agr", "challenger").version) == "2"
    one, two = searches(again.folder)
    assert_trained_alike(again.folder, two, data, searched(SMALL, data))
    assert one.data.metrics["test_balanced_accuracy"] == two.data.metrics["test_balanced_accuracy"]


def test_the_same_command_again_says_what_is_there_and_a_deleted_version_is_made_anew(
    here: Path, voice_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    points = options(((1, 2), (0.001,), (0.5,)))
    command = ["--data", str(voice_root), "--no-cuda", "--no-mps", *points]
    assert run_grid.main(command) == 0
    (parent,), count = searches(here), len(runs(here))
    shown = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("test        balanced "))

    assert run_grid.main(command) == 0
    out = capsys.readouterr().out
    assert f"already there: {parent.info.run_name} of " in out
    assert f"#/experiments/1/runs/{parent.info.run_id}\n" in out
    assert "registered  agr version 1 as best: it is there already" in out
    assert shown.split(" on ")[0] in out
    result = api.grid(voice_root, epochs=[1, 2], lr=[0.001], gamma=[0.5], cuda=False, mps=False)
    assert (result.version, result.alias, len(result.ranking)) == (1, "best", 2)
    assert result.scores is not None
    assert result.scores.balanced_accuracy == parent.data.metrics["test_balanced_accuracy"]
    assert result.ranking[0].run_id == parent.data.tags["champion_run_id"]
    assert len(runs(here)) == count

    client(here).delete_model_version("agr", "1")
    assert run_grid.main(command) == 0
    assert "registered  agr version " in capsys.readouterr().out
    assert len(runs(here)) == 2 * count


# Searches with another training loop


SITE = """
import importlib.abc, importlib.util, sys, time

def change(module):{}

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "agr.training.loop":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module
        def exec_module(module):
            run(module)
            change(module)
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder())
"""


def changed(folder: Path, code: str) -> str:
    """A PYTHONPATH under which this code changes the `module` agr.training.loop in every process."""
    (folder / "sitecustomize.py").write_text(SITE.format(code))
    return str(folder)


# One search whose driver is killed, and that is started again while a worker is killed

PAUSE = """
    validate = module.validate
    module.validate = lambda *values: time.sleep(0.25) or validate(*values)
"""


@dataclass
class Story:
    """What was seen at the end of each search."""

    killed_status: int
    orphans: list[int]  # processes of the killed driver that stayed
    known: dict[tuple[int, float, float], int]  # epochs of each point in the store before the last search
    logged: dict[tuple[int, float, float], int]  # epochs of each point that the killed driver logged
    worker_killed: bool
    last: Done


def parents_of() -> dict[int, int]:
    """Every process and its parent."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                found[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
    return found


def descendants(pid: int) -> list[int]:
    parents, found = parents_of(), [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found[1:]


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return ""


def is_alive(pid: int, command: str) -> bool:
    return bool(command) and command_of(pid) == command


def training(running: Running) -> Callable[[], bool]:
    """Whether a search has trained an epoch since it began."""
    stages = running.folder / "mlflow_store" / "stages"

    def trained() -> bool:
        for path in stages.glob("*/*.stage"):
            try:
                if path.stat().st_mtime > running.began:
                    return True
            except FileNotFoundError:
                continue
        return False

    return trained


def known_epochs(folder: Path, data: ImageSet, settings: list[Settings]) -> dict[tuple[int, float, float], int]:
    from search.stages.store import Lineage, StageStore

    store, split = StageStore(str(folder / "mlflow_store" / "stages")), splits.make(data)
    known = {}
    for each in settings:
        stage = store.deepest(Lineage.of(data, split, each, "cpu"), each.rates())
        known[each.epochs, each.lr, each.gamma] = len(stage.origins) if stage else 0
    return known


def logged_epochs(folder: Path) -> dict[tuple[int, float, float], int]:
    """How many epochs of each point the first search of this folder has logged to MLflow so far."""
    found = searches(folder)
    trials = children(folder, found[0]) if found else []
    return {point(run): len(history(folder, run, "lr")) for run in trials if "epochs" in run.data.params}


@pytest.fixture(scope="module")
def story(voice_root: Path, data: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    if not Path("/proc/self/stat").exists():
        pytest.skip("no /proc on this system to find processes in")
    folder, slow = tmp_path_factory.mktemp("story"), changed(tmp_path_factory.mktemp("site"), PAUSE)
    started: list[Running] = []

    def begin() -> Running:
        started.append(start(folder, voice_root, *options(LONG), PYTHONPATH=slow))
        assert wait_for(training(started[-1]), started[-1].process), (folder / "err").read_text()
        return started[-1]

    try:
        one = begin()
        assert wait_for(lambda: sum(logged_epochs(folder).values()) > 3, one.process)
        family = {pid: command_of(pid) for pid in descendants(one.process.pid)}
        family = {pid: command for pid, command in family.items() if command not in AGENTS}
        one.process.kill()
        killed_status = one.process.wait()
        wait_for(lambda: not any(is_alive(*each) for each in family.items()), seconds=30)
        orphans = [pid for pid, command in family.items() if is_alive(pid, command)]
        known = known_epochs(folder, data, searched(LONG, data))
        logged = logged_epochs(folder)

        two = begin()
        workers = [pid for pid in descendants(two.process.pid) if command_of(pid).startswith("ray::ImplicitFunc")]
        if workers:
            os.kill(workers[0], signal.SIGKILL)
        yield Story(killed_status, orphans, known, logged, bool(workers), two.wait())
    finally:
        for running in started:
            running.process.kill()
            running.process.wait()


def test_of_a_killed_driver_no_process_stays(story: Story) -> None:
    assert story.killed_status == -signal.SIGKILL
    assert story.orphans == []


def test_what_a_killed_driver_logged_is_not_trained_again(story: Story) -> None:
    """Every epoch that reached MLflow was in the store before, so that only epochs in flight can be lost."""
    assert story.logged
    assert sum(story.logged.values()) > 0
    assert all(story.known[each] >= count for each, count in story.logged.items())
    prefixes = set()
    for settings in grid(*LONG):
        done = story.known[settings.epochs, settings.lr, settings.gamma]
        prefixes |= {settings.rates()[:count] for count in range(1, done + 1)}
    left = distinct_epochs(grid(*LONG)) - len(prefixes)
    trained = int(searches(story.last.folder)[1].data.metrics["epochs_trained"])
    assert left - 1 <= trained <= left, "one more may have been kept, but not reported, when the worker was killed"


def test_the_search_completes_though_a_worker_is_killed(story: Story) -> None:
    assert story.worker_killed
    assert story.last.status == 0, story.last.err
    assert "best 8 of 8 trials" in story.last.out
    assert "failed" not in story.last.out


def test_a_killed_worker_is_no_noise_on_stderr(story: Story) -> None:
    assert story.last.err == ""


def test_afterwards_no_run_is_left_open_and_none_is_there_twice(story: Story) -> None:
    every = runs(story.last.folder)
    assert {run.info.status for run in every} <= {"FINISHED", "KILLED"}
    one, two = searches(story.last.folder)
    assert [run.info.status for run in (one, two)] == ["KILLED", "FINISHED"]
    assert one.data.tags["reason"] == "its driver was killed"
    assert len(children(story.last.folder, two)) == len({point(run) for run in children(story.last.folder, two)}) == 8


def test_all_those_blows_changed_no_metric(story: Story, data: ImageSet) -> None:
    assert_trained_alike(story.last.folder, searches(story.last.folder)[1], data, searched(LONG, data))


# Leaky, and diverging


DIVERGE = """
    rates, inf = module.Settings.rates, (float("inf"),)
    module.Settings.rates = lambda s: rates(s)[:1] + inf * (s.epochs - 1) if s.lr == 0.02 else rates(s)
"""


@pytest.fixture(scope="module")
def diverging(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PYTHONPATH under which a learning rate of 0.02 becomes infinite in its second epoch, in every process."""
    return changed(tmp_path_factory.mktemp("site"), DIVERGE)


@pytest.fixture(scope="module")
def leaky(voice_root: Path, diverging: str, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """Two points, of which one diverges, on a random split, with more workers than fit."""
    points = options(((2,), (0.02, 0.001), (0.5,)))
    more = ("--split", "random", "--num-workers", "99", "--name", "mine")
    folder = tmp_path_factory.mktemp("leaky")
    new_store(folder / "mlflow_store")
    return start(folder, voice_root, *points, *more, PYTHONPATH=diverging).wait()


def test_a_leaky_search_registers_nothing_and_says_so_everywhere(leaky: Done) -> None:
    assert (leaky.status, leaky.err) == (0, "")
    assert "LEAKY split" in leaky.out
    assert "(leaky)" in leaky.out
    assert "registered  nothing: leaky split" in leaky.out
    assert "test  " not in leaky.out.split("champion")[1]
    assert client(leaky.folder).search_registered_models() == []
    assert {run.data.tags["leaky"] for run in runs(leaky.folder)} == {"true"}
    assert {row["leaky"] for row in ranking(leaky.folder)} == {"true"}


def test_more_workers_than_fit_are_no_error(leaky: Done) -> None:
    assert "99 workers asked for, " in leaky.out
    assert "going on with" in leaky.out


def test_a_name_is_the_name(leaky: Done) -> None:
    (parent,) = searches(leaky.folder)
    assert parent.info.run_name == "mine"
    assert leaky.out.startswith("mine: 2 trials")


def test_a_diverging_trial_is_recorded_with_its_reason_and_the_others_go_on(leaky: Done) -> None:
    trials = {point(run)[1]: run for run in children(leaky.folder, searches(leaky.folder)[0])}
    assert {lr: run.info.status for lr, run in trials.items()} == {0.02: "FAILED", 0.001: "FINISHED"}
    assert trials[0.02].data.tags["reason"].startswith("epoch 2: loss")
    assert [step for step, _ in history(leaky.folder, trials[0.02], "val_loss")] == [1]
    assert [row["lr"] for row in ranking(leaky.folder)] == ["0.001"]
    assert "failed  epochs 2, lr 0.02, gamma 0.5: epoch 2: loss" in leaky.out


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of searches in this process, whose trials run one after another, without Ray."""

    def train(session: Session, searcher: PrefixSearcher, job: Job, *_: object) -> None:
        for trial in map(str, range(session.planned)):
            given, told = searcher.suggest(trial), list[dict[str, Any]]()
            assert isinstance(given, dict)
            session.start(trial, given)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("search.runtime.trial.tune.report", told.append)
                run_trial(given, job)
            for report in told:
                session.add_report(trial, cast(TrialReport, report))
            session.end(trial, partial(final_weights, told[-1]["home"], told[-1]["stage"]))
            searcher.on_trial_complete(trial)

    new_store(tmp_path / "mlflow_store")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("search.runtime.tuning.tune_points", train)
    monkeypatch.setattr("search.runtime.cluster.cluster", lambda *_: nullcontext(Allocation("cpu", {"CPU": 1.0}, 1)))
    return tmp_path


@pytest.fixture
def diverging_here(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of searches in this process, whose trials only say that they diverged."""

    def diverge(session: Session, searcher: PrefixSearcher, *_: object) -> None:
        for trial in map(str, range(session.planned)):
            given = searcher.suggest(trial)
            assert isinstance(given, dict)
            session.start(trial, given)
            session.add_report(trial, made_report(failed="epoch 1: loss nan"))
            session.end(trial, None)
            searcher.on_trial_complete(trial)

    monkeypatch.setattr("search.runtime.tuning.tune_points", diverge)
    return here


def test_if_every_trial_fails_so_does_the_search(
    diverging_here: Path, voice_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_grid.main(["--data", str(voice_root), *options(SMALL)]) == 1
    lines = capsys.readouterr().err.splitlines()
    caution, error = (line for line in lines if not line.startswith("agr: waiting for "))
    assert caution.startswith("agr: test: women 1, men 1; expected 10 of each or more: ")
    assert error == "agr: no champion: none of 8 trials finished (epoch 1: loss nan)"
    assert [run.info.status for run in runs(diverging_here)] == ["FAILED"] * 9


def test_another_axis_multiplies_the_trials_and_names_them(
    diverging_here: Path, voice_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = options(((2,), (0.01,), (0.5,)))
    axes = ("--axis", "dropout", "0", "0.25", "--axis", "batch_size", "8", "16")
    assert run_grid.main(["--data", str(voice_root), *one, *axes]) == 1
    assert "4 trials on voices" in capsys.readouterr().out
    (parent,) = searches(diverging_here)
    expected = {"epochs": "2", "lr": "0.01", "gamma": "0.5", "dropout": "0 0.25", "batch_size": "8 16", "trials": "4"}
    assert expected.items() <= parent.data.params.items()
    found = children(diverging_here, parent)
    assert sorted(str(run.info.run_name) for run in found) == [
        f"e2 lr0.01 g0.5 d{dropout} bs{size}" for dropout in ("0", "0.25") for size in (16, 8)
    ]
    params = {(run.data.params["dropout"], run.data.params["batch_size"]) for run in found}
    assert params == {("0.0", "8"), ("0.0", "16"), ("0.25", "8"), ("0.25", "16")}


# Wrong usage


@pytest.fixture
def typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., str]]:
    """Types a command in this process; returns what stands on stderr and makes sure of status 2."""
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as caught:
            cli.run(lambda: run_grid.main(arguments))
        assert caught.value.code == 2
        assert not (tmp_path / "mlflow_store").exists(), "nothing was begun"
        return without_caution(capsys.readouterr().err)

    yield run
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "agr: epochs 0: expected 1 to 10000"),
        (["--lr", "0"], "agr: lr 0.0: expected above 0"),
        (["--gamma", "2"], "agr: gamma 2.0: expected 0"),
        (["--data", "no/such/folder"], "agr: no/such/folder: no such file or folder"),
        (["--data", "PREPARED", "--folds", "3", "--fold", "9"], "agr: --fold 9: expected 0 to 2"),
        (["--data", "PREPARED", "--folds", "3"], "agr: --fold: not given; expected 0 to 2"),
        (["--data", "PREPARED", "--folds", "99", "--fold", "0"], "agr: voices: 4 female speaker(s); expected 99"),
        (["--data", "PREPARED", "--split", "audiomnist-4fold", "--fold", "9"], "agr: --fold 9: expected 0 to 3"),
        (["--data", "PREPARED", "--address", "127.0.0.1:1"], "agr: --address 127.0.0.1:1: no answer"),
        (["--data", "PREPARED", "--address", "ray://127.0.0.1:1"], "agr: --address ray://127.0.0.1:1: no answer"),
        (["--data", "PREPARED", "--address", "[::1]:99999"], "agr: --address [::1]:99999: no answer"),
        (["--data", "PREPARED", "PREPARED"], "agr: --data: two corpora named voices"),
        (
            ["--data", "PREPARED", "--leave-out", "x"],
            "agr: --leave-out x: expected one of several corpora, found voices",
        ),
        (["--augment", "pitch=9"], "agr: augmentation pitch 9.0: expected 0 to 0.6"),
        (["--data", "IMAGES", "--augment", "pitch=0.1"], "agr: --augment pitch=0.1: these images cannot be augmented"),
        (["--trainable", "examples.digits:fit", "--recipe", "mfcc"], "agr: --recipe: for AGR's own models only; found"),
        (
            ["--trainable", "examples.digits:fit", "--augment", "pitch=0.1"],
            "agr: --augment: for AGR's own models only; found",
        ),
        (["--trainable", "examples.digits:fit", "--lanes", "fused"], "agr: --lanes fused: for AGR's own models only; "),
        (["--trainable", "examples.digits:fit", "--seed", "0"], "agr: --seed: for AGR's own models only; found"),
        (["--augment", "gain=1"], "agr: --augment gain=1: expected NAME=STRENGTH"),
        (["--data", "PREPARED", "--address", "nonsense"], "agr: --address nonsense: "),
        (["--axis", "dropout"], "agr: --axis dropout: no values; expected values once"),
        (["--axis", "drop", "0.1"], "agr: --axis drop: unknown; expected one of augment_colour, augment_formants, "),
        (["--axis", "epochs", "3"], "agr: --axis epochs: unknown; expected one of augment_colour, augment_formants, "),
        (["--axis", "width", "99"], "agr: width 99.0: expected "),
        (["--axis", "width", "wide"], "agr: --axis width: found wide; expected numbers"),
        (["--fold", "0"], "agr: --fold 0: expected --folds N or --split audiomnist-4fold with it"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    typed: Callable[..., str], voice_root: Path, prepared_root: Path, arguments: list[str], message: str
) -> None:
    folders = {"PREPARED": voice_root, "IMAGES": prepared_root}
    err = typed(*(str(folders.get(word, word)) for word in arguments))
    assert err.startswith(message)
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--num-workers", "0"], ["--split", "fair"], ["--epochs", "two"], ["--epochs"]])
def test_what_cannot_be_parsed_is_shown_with_the_usage(typed: Callable[..., str], arguments: list[str]) -> None:
    err = typed(*arguments)
    assert err.startswith("usage: python search/run_grid.py")
    assert "Traceback" not in err


def test_wrong_usage_in_a_process_of_its_own(tmp_path: Path, voice_root: Path) -> None:
    done = start(tmp_path, voice_root, "--epochs", "0").wait()
    assert (done.status, done.out) == (2, "")
    assert done.err == "agr: epochs 0: expected 1 to 10000\n"


def test_settings_are_params_of_a_trial(first: Done, data: ImageSet) -> None:
    (trial, *_) = children(first.folder, searches(first.folder)[0])
    epochs, lr, gamma = point(trial)
    (settings,) = with_augmentation([Settings(epochs, lr, gamma)], DEFAULT, data)
    assert settings.augmentation == DEFAULT != NONE
    assert trial.data.params == {key: str(value) for key, value in asdict(settings).items()}


# Several corpora


def test_corpora_are_searched_together_and_one_that_is_left_out_tests(
    here: Path, voice_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One point of the other model on two corpora, unvaried, tested on one of them."""
    demo.write_demo(here / "others", speakers=4, repetitions=1)
    one = options(((2,), (0.001,), (0.5,)))
    more = ("--leave-out", "others", "--model", "pooled", "--no-augmentation")
    assert run_grid.main(["--data", str(voice_root), str(here / "others"), *one, *more]) == 0
    said = capsys.readouterr()
    *progress, caution = (line for line in said.err.splitlines() if not line.startswith("agr: waiting for "))
    assert all(line.startswith("preparing others: ") for line in progress), said.err
    assert caution.startswith("agr: test: women 2, men 2; expected 10 of each or more: ")
    assert "1 trial on others+voices, split leave-out-others-seed0" in said.out
    assert "  test      40 clips,   2 women,   2 men" in said.out
    (trial,) = children(here, searches(here)[0])
    params = trial.data.params
    assert (params["model"], params["augment_pitch"], params["augment_shift"]) == ("pooled", "0.0", "0")
    assert "registered  agr version 1 as best" in said.out

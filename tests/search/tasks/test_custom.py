"""A trainable of one's own: what its module says, what it may report, and where it goes on."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from agr.errors import AgrError, SettingsError, TrainingError
from agr.registry.records import FinishedSearch
from agr.training.loop import State
from search import run_optuna
from search.driver.prefix_searcher import PrefixSearcher
from search.optuna_search import options as optuna_options
from search.problems import custom
from search.session.session import FINISHED, Record, Session
from search.tasks.agr_task import fusible_settings
from search.tasks.base import lineage_of
from search.tasks.custom import CustomEpoch, CustomPoint, CustomTask, custom_point, function_of, module_of, objective_of
from tests.search.fakes import FakeTracker, bits

DIGITS = "examples.digits:fit"
BODY = """
import numpy as np
OBJECTIVE = "val_accuracy"
GRID = {"epochs": [3], "lr": [0.1], "name": ["a", "b"]}
SPACE = "epochs = {low = 1, high = 3}"
"""
FIT = """
def fit(config, report, resume):
    for epoch in range(resume.epoch if resume else 0, config["epochs"]):
        report({"val_accuracy": 0.5}, {"w": np.zeros(2)})
"""
PREFIX = """
def prefix(config):
    return ((config["name"], config["lr"]), *range(1, config["epochs"]))
"""
CONFIG = {"epochs": 3, "lr": 0.1, "name": "a"}
names = (f"trainable{number}" for number in itertools.count())
Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """A module of this text in the current folder; returns the path of its `fit`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def written(*parts: str) -> str:
        name = next(names)
        (tmp_path / f"{name}.py").write_text("".join(parts))
        return f"{name}:fit"

    return written


def fit(path: str, config: dict[str, Any], resume: State | None = None) -> list[State]:
    """The states after each epoch that a trial reports."""
    states: list[State] = []
    task = custom.problem(path).task
    task.fit(custom_point(path, config), "cpu", lambda epoch, state: states.append(state), resume)
    return states


def message(act: Callable[[], object], schema: type[AgrError] = SettingsError) -> str:
    with pytest.raises(schema) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What the module says


@pytest.mark.parametrize("path", ["fit", "module", ":fit", "module:", ""])
def test_a_path_names_a_module_and_a_function(path: str) -> None:
    found = message(lambda: function_of(path))
    assert found == f"--trainable {path}: expected MODULE:FUNCTION, such as my_project.train:fit"


def test_a_missing_module_is_named() -> None:
    found = message(lambda: module_of("no_such.module:fit"))
    assert found.startswith("--trainable no_such.module:fit: No module named 'no_such'; expected a module that can be")


@pytest.mark.parametrize(
    ("text", "reason"),
    [("def fit(:\n", "SyntaxError: "), ("raise ValueError('no\\nluck')\n", "ValueError: no; "), ("1 / 0", "ZeroDiv")],
)
def test_a_module_that_fails_on_import_reports_the_reason(write: Write, text: str, reason: str) -> None:
    path = write(text)
    assert message(lambda: function_of(path)).startswith(f"--trainable {path}: {reason}")


def test_a_missing_function_is_named(write: Write) -> None:
    path = write(BODY)
    assert message(lambda: function_of(path)) == f"--trainable {path}: no function fit in it; expected fit(...)"


@pytest.mark.parametrize("aim", ["", "OBJECTIVE = 3", "OBJECTIVE = ''", "OBJECTIVE = '-'", "OBJECTIVE = None"])
def test_a_module_without_an_objective_is_refused(write: Write, aim: str) -> None:
    path = write(f"{aim}\nGRID = {{'epochs': [1]}}\n", FIT)
    assert message(lambda: custom.problem(path)).startswith(f"--trainable {path}: OBJECTIVE ")


def test_an_objective_with_a_minus_is_minimised(write: Write) -> None:
    low = objective_of(write("OBJECTIVE = '-val_loss'"))
    assert (low.metric, low.highest, low.label) == ("val_loss", False, "val loss")
    assert objective_of(write("OBJECTIVE = 'val_accuracy'")).highest


@pytest.mark.parametrize("grid", ["", "GRID = [1]", "GRID = {'lr': [1]}", "GRID = {'epochs': []}", "GRID = {}"])
def test_a_module_without_a_grid_with_epochs_is_refused(write: Write, grid: str) -> None:
    path = write(f"OBJECTIVE = 'a'\n{grid}\n", FIT)
    found = message(lambda: custom.grid_of(path))
    assert found.startswith(f"--trainable {path}: GRID ")
    assert found.endswith("; expected lists of values by name, epochs among them")


def test_given_axes_replace_those_of_the_grid(write: Write) -> None:
    path = write(BODY, FIT)
    grid = custom.grid_of(path, {"epochs": [1, 2], "lr": None})
    assert grid == {"epochs": [1, 2], "lr": [0.1], "name": ["a", "b"]}
    points = custom.points_of(path, grid)
    assert [tuple(point.values.values()) for point in points] == list(itertools.product([1, 2], [0.1], "ab"))
    found = message(lambda: custom.grid_of(path, {"gamma": [1]}))
    assert found == f"--gamma: not in GRID of {path}; expected one of epochs, lr, name"


def test_without_a_space_one_must_be_given(write: Write, tmp_path: Path) -> None:
    path = write(BODY.replace("SPACE", "PLACE"), FIT)
    options = argparse.Namespace(**vars(run_optuna.parse([])) | {"trainable": path})
    assert message(lambda: optuna_options.custom_search(options)) == (
        f"--trainable {path}: no SPACE in it; expected one, or --space FILE"
    )
    (tmp_path / "space.toml").write_text("epochs = {low = 1, high = 4}\nname = {choices = ['a', 'c']}\n")
    options.space = tmp_path / "space.toml"
    problem, hunt = optuna_options.custom_search(options)
    assert (hunt.most_epochs, dict(hunt.base), dict(hunt.first)) == (4, {"lr": 0.1}, {"epochs": 3, "name": "a"})
    assert problem.task.schema.axes == ("epochs", "name")
    options.space.write_text("depth = {low = 1, high = 4}\n")
    assert message(lambda: optuna_options.custom_search(options)) == (
        f"{options.space}, line 1: depth: unknown name; expected one of epochs, lr, name"
    )


# Points


@pytest.mark.parametrize("epochs", [None, 0, -1, 2.5, "3"])
def test_epochs_must_be_a_positive_integer(write: Write, epochs: object) -> None:
    path = write(BODY, FIT)
    found = message(lambda: custom_point(path, {"epochs": epochs}))
    assert found == f"--trainable {path}: epochs {epochs!r}; expected a whole number above 0"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("return (1,)", "prefix has 1 entries; expected 3, one an epoch"),
        ("return (1, 2, 3, 4)", "prefix has 4 entries; expected 3, one an epoch"),
        ("return None", "prefix: TypeError: 'NoneType' object is not iterable; expected an entry an epoch"),
        ("return config['gamma']", "prefix: KeyError: 'gamma'; expected an entry an epoch"),
    ],
)
def test_a_prefix_must_have_one_entry_per_epoch(write: Write, body: str, reason: str) -> None:
    path = write(BODY, FIT, f"def prefix(config):\n    {body}\n")
    assert message(lambda: custom_point(path, CONFIG)) == f"--trainable {path}: {reason}"


def keys(path: str, config: dict[str, Any], search: str = "one") -> tuple[str, ...]:
    task, point = custom.problem(path).task, custom_point(path, config)
    return tuple(lineage_of(task, point, "cpu", search).keys(point.rates()))


def test_trials_share_the_epochs_with_equal_prefix_entries(write: Write) -> None:
    path = write(BODY, FIT, PREFIX)
    long, short, other = (custom_point(path, CONFIG | change) for change in ({}, {"epochs": 2}, {"lr": 0.2}))
    assert (long.prefix()[:2], long.prefix()[0] != other.prefix()[0]) == (short.prefix(), True)
    assert keys(path, CONFIG)[:2] == keys(path, CONFIG | {"epochs": 2}, "another search")
    assert not {*keys(path, CONFIG)} & {*keys(path, CONFIG | {"lr": 0.2})}


def test_without_a_prefix_a_trial_only_resumes_within_its_search(write: Write) -> None:
    path = write(BODY, FIT)
    assert not {*keys(path, CONFIG)} & {*keys(path, CONFIG | {"epochs": 2})}
    assert not {*keys(path, CONFIG)} & {*keys(path, CONFIG, "another search")}
    assert keys(path, CONFIG) == keys(path, CONFIG)
    points = [custom_point(path, CONFIG | {"epochs": count}) for count in (2, 3)]
    searcher = PrefixSearcher(points, max_concurrent=2)
    assert all(isinstance(searcher.suggest(trial), dict) for trial in "ab")  # neither waits for the other


def test_an_edited_module_shares_nothing_with_the_old_one(write: Write) -> None:
    assert keys(write(BODY, FIT, PREFIX), CONFIG)[0] != keys(write(BODY, FIT, PREFIX, "# other\n"), CONFIG)[0]


# What it may report


def reporting(*lines: str) -> str:
    return "def fit(config, report, resume):\n" + "".join(f"    {line}\n" for line in lines)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("report({'val_accuracy': 1}, {})", ": 1 epochs reported; expected 3"),
        ("pass", ": 0 epochs reported; expected 3"),
        ("[report({'val_accuracy': 1}, {}) for _ in range(4)]", ": more than 3 epochs reported; expected 3"),
        ("report({}, {})", ", epoch 1: metrics none; expected val_accuracy too"),
        ("report({'loss': 1}, {})", ", epoch 1: metrics loss; expected val_accuracy too"),
        ("report({'val_accuracy': float('nan')}, {})", ", epoch 1: val_accuracy nan; diverged"),
        ("report({'val_accuracy': 1, 'loss': float('inf')}, {})", ", epoch 1: loss inf; diverged"),
        ("report({'val_accuracy': 'high'}, {})", ", epoch 1: metrics {'val_accuracy': 'high'}; expected numbers by"),
        ("report(0.5, {})", ", epoch 1: metrics 0.5; expected numbers by name"),
        ("report({'val_accuracy': 1, 'epoch': 7}, {})", ", epoch 1: metric epoch: a name of AGR's; expected another"),
        (
            "report({'val_accuracy': 1, 'seconds': 7}, {})",
            ", epoch 1: metric seconds: a name of AGR's; expected",
        ),
        ("report({'val_accuracy': 1}, [1])", ": state: "),
        ("report({'val_accuracy': 1}, {'w': 'text'})", ": state: "),
        ("report({'val_accuracy': 1}, {'w': object()})", ": state: "),
        ("report({'val_accuracy': 1}, None)", ": state: "),
    ],
)
def test_invalid_reports_end_the_trial_with_one_line(write: Write, line: str, reason: str) -> None:
    path = write(BODY, reporting(line))
    found = message(lambda: fit(path, CONFIG), TrainingError)
    assert found.startswith(path + reason)
    if "state" in reason:
        assert found.endswith("; expected numpy arrays of numbers by name")


@pytest.mark.parametrize(
    "array",
    ["np.arange(3)", "np.float64(2.5)", "[1.5, 2.5]", "np.ones((2, 0))", "np.arange(6)[::-2]", "np.array([True])"],
)
def test_states_are_restored_as_they_were_reported(write: Write, array: str) -> None:
    path = write(BODY, reporting(f"report({{'val_accuracy': 1}}, {{'w': {array}}})"))
    (state,) = fit(path, {"epochs": 1, "lr": 0.1, "name": "a"})
    expected = np.array(eval(array))  # of the lines above
    assert state.weights["w"].numpy().dtype == expected.dtype
    assert np.array_equal(state.weights["w"].numpy(), expected)


def test_later_changes_to_a_reported_state_have_no_effect(write: Write) -> None:
    text = "w = np.zeros(1)", "for k in range(3):", "    w += 1", "    report({'val_accuracy': k}, {'w': w})"
    states = fit(write(BODY, reporting(*text)), CONFIG)
    assert [float(state.weights["w"]) for state in states] == [1.0, 2.0, 3.0]
    assert [epoch.val_accuracy for epoch in states[-1].history] == [0.0, 1.0, 2.0]


def test_a_resumed_trial_gets_epoch_state_and_history(write: Write) -> None:
    text = "assert resume.epoch == 2 and len(resume.history) == 2", "resume.state['w'] += 5"
    last = "report({'val_accuracy': resume.history[0]['val_accuracy']}, resume.state)"
    path = write(BODY, reporting(*text, last))
    before = fit(write(BODY, FIT), CONFIG | {"epochs": 2})[-1]
    (state,) = fit(path, CONFIG, before)
    assert state.weights["w"].tolist() == [5.0, 5.0]
    assert before.weights["w"].tolist() == [0.0, 0.0]
    assert [(epoch.epoch, epoch.val_accuracy) for epoch in state.history] == [(1, 0.5), (2, 0.5), (3, 0.5)]


# The example


@pytest.mark.parametrize("config", [{"lr": 0.3, "gamma": 0.5, "hidden": 16, "seed": 0}])
def test_the_example_resumes_from_every_epoch_to_identical_weights(config: dict[str, Any]) -> None:
    states = fit(DIGITS, config | {"epochs": 12})
    assert [len(state.history) for state in states] == list(range(1, 13))
    for state in states[:-1]:
        rest = fit(DIGITS, config | {"epochs": 12}, state)
        assert [epoch.val_accuracy for epoch in rest[-1].history] == [e.val_accuracy for e in states[-1].history]
        for name, tensor in states[-1].weights.items():
            assert bits(tensor) == bits(rest[-1].weights[name])


def test_shared_epochs_of_the_example_are_identical(  # its prefix against what it trains
) -> None:
    config = {"lr": 0.3, "gamma": 0.5, "hidden": 16, "seed": 0}
    one, two = fit(DIGITS, config | {"epochs": 7}), fit(DIGITS, config | {"epochs": 7, "gamma": 0.1})
    points = [custom_point(DIGITS, config | change | {"epochs": 7}) for change in ({}, {"gamma": 0.1})]
    assert points[0].prefix()[:5] == points[1].prefix()[:5]
    assert points[0].prefix()[5] != points[1].prefix()[5]
    assert all(bits(one[4].weights[name]) == bits(two[4].weights[name]) for name in one[4].weights)
    assert any(bits(one[5].weights[name]) != bits(two[5].weights[name]) for name in one[5].weights)


def test_the_example_learns_and_is_tested_on_unseen_data() -> None:
    states = fit(DIGITS, {"lr": 0.3, "gamma": 0.5, "hidden": 32, "seed": 0, "epochs": 10})
    arrays = {name: tensor.numpy() for name, tensor in states[-1].weights.items()}
    assert states[-1].history[-1].val_accuracy > 0.85
    tested = function_of(DIGITS, "test")({}, arrays)
    assert isinstance(tested, dict)
    assert tested["test_accuracy"] > 0.8


def test_workers_get_the_path_and_no_data() -> None:
    task = custom.problem(DIGITS).task
    assert isinstance(task, CustomTask)
    assert (task.for_workers(), task.nbytes, task.name, task.path) == (task, 0, "digits", DIGITS)
    point = custom_point(DIGITS, {"lr": 0.3, "gamma": 0.5, "hidden": 32, "seed": 0, "epochs": 2})
    assert isinstance(point, CustomPoint)
    assert task.describe(point) == {"trainable": DIGITS, "lr": 0.3, "gamma": 0.5, "hidden": 32, "seed": 0}
    assert task.schema.epoch is CustomEpoch


# Its champion


@dataclass
class Registry(FakeTracker):
    """A tracker that reads what is registered."""

    model: str = "made"
    weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def register_files(self, run_id: str, folder: Path, tags: Mapping[str, object]) -> int:
        self.weights = load_file(str(folder / custom.WEIGHTS))
        return 1

    def tags_by_alias(self, alias: str) -> None:
        return None

    def move_alias(self, alias: str, expected: int | None, version: int) -> bool:
        return True


def conclude(path: str, tracker: Registry) -> Mapping[str, float]:
    """Register the champion of one trial, whose weights are ones; returns what `test` found."""
    about = custom.problem(path)
    session = Session("s", tracker, tracker.start_run("s", {}, {}), {}, 1, about.task.schema)
    session.start("t", CONFIG)
    epochs = [{"epoch": number, "val_accuracy": 0.5, "seconds": 0.1} for number in (1, 2, 3)]
    origins = [session.id] * 3
    session.add_report("t", {"epoch": 3, "score": 0.5, "epochs": epochs, "origins": origins, "read": False})
    session.end("t", lambda: {"w": torch.ones(2)})
    return about.conclude(session, {}, False, None).tested


def test_changes_by_the_test_function_do_not_reach_the_registered_model(write: Write) -> None:
    body = "def test(config, state):\n    state['w'] *= 0\n    config.clear()\n    return {'test_accuracy': 0.25}\n"
    tracker = Registry()
    assert conclude(write(BODY, FIT, body), tracker) == {"test_accuracy": 0.25}
    assert tracker.weights["w"].tolist() == [1.0, 1.0]


def test_a_test_that_returns_no_numbers_is_named(write: Write) -> None:
    path = write(BODY, FIT, "def test(config, state):\n    return 0.25\n")
    found = message(lambda: conclude(path, Registry()), TrainingError)
    assert found == f"--trainable {path}: test returned 0.25; expected numbers by name"


def test_points_of_a_trainable_cannot_be_fused(write: Write) -> None:
    points = [custom_point(write(BODY, FIT), CONFIG)]
    assert message(lambda: fusible_settings(points)).startswith(
        "--lanes fused: found a trainable; expected AGR's own models"
    )


def test_what_test_found_is_read_from_a_search_that_is_there_already(write: Write) -> None:
    path, tracker = write(BODY, FIT, "def test(config, state):\n    return {'test_accuracy': 0.25}\n"), Registry()
    conclude(path, tracker)
    about = custom.problem(path)
    metrics = tracker.runs["run0"]["metrics"] | {"best_val_accuracy": 0.5}
    found = FinishedSearch("run0", "s", 0, {}, metrics, (), 1, ("challenger", "best"))
    schema, last = about.task.schema, CustomEpoch(epoch=3, val_accuracy=0.5, seconds=0.1)
    champion = Record(schema.point(CONFIG), "run1", schema, FINISHED, [last])
    result = about.recall(found, [champion], {})
    assert (result.tested, result.version, result.alias) == ({"test_accuracy": 0.25}, 1, "best")
    assert (result.model, result.ranking) == (about.model, [champion])

"""Space files: what they mean, what Optuna makes of it, and what is refused in one line."""

from __future__ import annotations

from dataclasses import fields

import optuna
import pytest

from agr.errors import SettingsError
from agr.training.augmentation import DEFAULT as STRENGTHS
from agr.training.settings import Settings
from search.optuna_search.ranges import Choices, Range
from search.optuna_search.space import DEFAULT, Space, known_settings, parse
from search.tasks.agr_task import agr_point

KNOWN = {"epochs": int, "lr": 0.001, "gamma": float, "batch_size": 32, "model": "cnn", "flip": False, "other": None}
TEXT = """\
# a comment
epochs = {low = 5, high = 20, step = 5}
lr = {low = 1e-4, high = 1e-1, log = true}

gamma = 0.3
batch_size = {choices = [16, 32, 64]}
"""


def read(text: str) -> Space:
    return parse(text, "my.toml", KNOWN)


def test_each_line_becomes_a_range_choices_or_a_fixed_value() -> None:
    space = read(TEXT)
    assert space.varied == {
        "epochs": Range(5, 20, step=5),
        "lr": Range(1e-4, 1e-1, log=True),
        "batch_size": Choices((16, 32, 64)),
    }
    assert space.fixed == {"gamma": 0.3}


def test_distributions_are_those_of_varied_hyperparameters() -> None:
    assert read(TEXT).distributions() == {
        "epochs": optuna.distributions.IntDistribution(5, 20, step=5),
        "lr": optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True),
        "batch_size": optuna.distributions.CategoricalDistribution((16, 32, 64)),
    }


def test_samples_lie_in_the_space_and_have_the_fixed_values() -> None:
    space = read(TEXT)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    samples = [space.sample(study.ask()) for _ in range(40)]
    assert not any(space.outside(sample) for sample in samples)
    assert {sample["epochs"] for sample in samples} == {5, 10, 15, 20}
    assert {sample["gamma"] for sample in samples} == {0.3}
    assert {type(sample["epochs"]) for sample in samples} == {int}
    assert (
        min(float(sample["lr"]) for sample in samples) < 0.001 < 0.01 < max(float(sample["lr"]) for sample in samples)
    )


def test_sampling_and_asking_with_distributions_give_the_same() -> None:
    space = read(TEXT)
    one, other = (optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3)) for _ in range(2))
    for _ in range(5):
        assert space.sample(one.ask()) == other.ask(space.distributions()).params | {"gamma": 0.3}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("lr = {low = 0, high = 1}", Range(0.0, 1.0)),
        ("epochs = {low = 1, high = 8, log = true}", Range(1, 8, log=True)),
        ("other = {low = 1, high = 3}", Range(1, 3)),
        ("other = {low = 1, high = 3.5}", Range(1.0, 3.5)),
        ("other = {low = 0.0, high = 1, step = 0.1}", Range(0.0, 1.0, step=0.1)),
        ("other = {choices = ['a', 2, 0.5, true]}", Choices(("a", 2, 0.5, True))),
        ("model = {choices = ['cnn', 'pooled']}", Choices(("cnn", "pooled"))),
        ("flip = {choices = [true, false]}", Choices((True, False))),
        ("[gamma]\nlow = 0.1\nhigh = 0.2", Range(0.1, 0.2)),
    ],
)
def test_a_line_by_the_type_of_its_hyperparameter(line: str, expected: Range | Choices) -> None:
    (found,) = read(line).varied.values()
    assert found == expected
    assert [type(end) for end in found.ends()] == [type(end) for end in expected.ends()]


def test_a_single_choice_does_not_vary() -> None:
    assert read(TEXT + "model = {choices = ['pooled']}").fixed == {"gamma": 0.3, "model": "pooled"}


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("batchsize = 3", "batchsize: unknown name; did you mean batch_size?"),
        ("zzz = 3", "zzz: unknown name; expected one of epochs, lr, gamma, batch_size, model, flip, other"),
        ("lr = {low = 0.1, high = 0.01}", "lr: low 0.1, high 0.01, an empty range; expected low below high"),
        ("lr = {low = 0.1, high = 0.1}", "lr: low 0.1, high 0.1, an empty range; expected low below high"),
        ("lr = {low = 0, high = 0.1, log = true}", "lr: low 0 with log; expected low above 0"),
        ("lr = {low = 0.1, high = inf}", "lr: high Infinity; expected a number"),
        ("lr = nan", "lr NaN; expected a number"),
        ("lr = 'fast'", 'lr "fast"; expected a number'),
        ("lr = [0.1, 0.2]", "lr [0.1, 0.2]; expected a number"),
        ("other = [0.1, 0.2]", "other [0.1, 0.2]; expected a value, {low, high}, or {choices = [...]}"),
        ("other = 2026-01-01", 'other "2026-01-01"; expected a value, {low, high}, or {choices = [...]}'),
        ("lr = {low = 0.1}", "lr: no high; expected a value, {low, high}, or {choices = [...]}"),
        ("lr = {}", "lr: no low; expected a value, {low, high}, or {choices = [...]}"),
        ("lr = {low = 0.1, hihg = 0.2}", "lr: key 'hihg'; expected low, high, log, step or choices"),
        ("lr = {low = 0.1, high = 0.2, log = 1}", "lr: log 1; expected true or false"),
        ("lr = {low = 0.1, high = 0.2, step = 0}", "lr: step 0; expected one that divides the range from 0.1 to 0.2"),
        (
            "lr = {low = 0.1, high = 0.2, step = -0.1}",
            "lr: step -0.1; expected one that divides the range from 0.1 to 0.2",
        ),
        ("lr = {low = 1, high = 2, step = 1, log = true}", "lr: step 1 with log; expected one of them"),
        ("epochs = {low = 5, high = 20, step = 4}", "epochs: step 4; expected one that divides the range from 5 to 20"),
        ("epochs = {low = 5, high = 20.5}", "epochs: high 20.5; expected a whole number"),
        ("epochs = 2.0", "epochs 2.0; expected a whole number"),
        ("epochs = true", "epochs true; expected a whole number"),
        ("lr = {low = false, high = true}", "lr: low false; expected a number"),
        ("other = {low = 'a', high = 'b'}", 'other: low "a"; expected a number'),
        ("lr = {choices = []}", "lr: choices []; expected a list of one or more values"),
        ("lr = {choices = 0.1}", "lr: choices 0.1; expected a list of one or more values"),
        ("lr = {choices = [0.1, 'b']}", 'lr "b"; expected a number'),
        ("lr = {choices = [1, 1.0]}", "lr: choices [1, 1.0]; expected each value once"),
        ("lr = {choices = [1], low = 1}", "lr: choices beside low; expected a range or choices, not both"),
        ("model = {low = 1, high = 2}", "model: a range; expected a text in quotes or choices of them"),
        ("flip = {low = 0, high = 1}", "flip: a range; expected true or false or choices of them"),
        ("flip = 1", "flip 1; expected true or false"),
    ],
)
def test_invalid_line_is_refused_with_its_number(line: str, complaint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(f"# a comment\n\n{line}\n")
    assert str(caught.value) == f"my.toml, line 3: {complaint}"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "my.toml: nothing to search; expected a range or choices of at least one name"),
        ("lr = 0.1", "my.toml: nothing to search; expected a range or choices of at least one name"),
        ("lr = = 1", "my.toml: not TOML, Invalid value (at line 1, column 6); expected lines of NAME = a value, "),
        ("lr = 1\nlr = 2", "my.toml: not TOML, Cannot overwrite a value (at "),
    ],
)
def test_a_file_without_a_space_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(text)
    assert str(caught.value).startswith(complaint)
    assert "\n" not in str(caught.value)


def test_digest_ignores_comments_and_order() -> None:
    digest = read(TEXT).digest
    backwards = "\n".join(reversed(TEXT.splitlines()))
    assert digest == read(backwards).digest == read(TEXT.replace("1e-4", "0.0001")).digest
    assert len(digest) == 16
    assert int(digest, 16) > 0
    others = [TEXT.replace("0.3", "0.4"), TEXT.replace("1e-4", "1e-5"), TEXT.replace("64", "128"), TEXT + "flip = true"]
    others += [TEXT.replace(", log = true", ""), TEXT.replace(", step = 5", "")]
    assert len({digest, *(read(other).digest for other in others)}) == 1 + len(others)


@pytest.mark.parametrize(
    ("change", "inside"),
    [
        ({}, True),
        ({"lr": 1e-4}, True),
        ({"lr": 1}, False),
        ({"lr": 0.09e-3}, False),
        ({"lr": float("nan")}, False),
        ({"epochs": 12}, False),
        ({"epochs": 10.0}, True),
        ({"epochs": "10"}, False),
        ({"batch_size": 48}, False),
        ({"gamma": 0.7}, False),
        ({"seed": 3}, True),
    ],
)
def test_values_outside_the_space_are_named(change: dict[str, object], inside: bool) -> None:
    params = {"epochs": 10, "lr": 0.01, "gamma": 0.3, "batch_size": 32} | change
    assert (not read(TEXT).outside(params)) is inside


def test_missing_varied_hyperparameter_is_outside_the_space() -> None:
    assert read(TEXT).outside({"epochs": 10, "lr": 0.01, "gamma": 0.3}) == ["batch_size"]
    assert not read(TEXT).outside({"epochs": 10, "lr": 0.01, "batch_size": 16})


def test_range_with_fractional_steps_holds_optunas_values() -> None:
    space = read("other = {low = 0.0, high = 0.9, step = 0.1}")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [space.sample(study.ask()) for _ in range(100)]
    assert not any(space.outside(sample) for sample in drawn)
    assert len({sample["other"] for sample in drawn}) == 10
    assert space.outside({"other": 0.15})


def test_edges_reach_both_ends_of_every_range() -> None:
    edges = list(read(TEXT).edges())
    assert {edge["lr"] for edge in edges} == {1e-4, 1e-1}
    assert {edge["epochs"] for edge in edges} == {5, 20}
    assert {edge["batch_size"] for edge in edges} == {16, 32, 64}
    assert all(edge["gamma"] == 0.3 for edge in edges)


def test_default_space_is_valid_for_training() -> None:
    space = parse(DEFAULT, "default", known_settings())
    settings = [agr_point(edge) for edge in space.edges()]
    assert {item.epochs for item in settings} == {5, 20}
    assert "seed" not in known_settings()
    assert space.distributions().keys() <= {item.name for item in fields(Settings)}


def test_the_default_space_lies_around_the_augmentation_that_the_grid_uses() -> None:
    space = parse(DEFAULT, "default", known_settings())
    for item in fields(STRENGTHS):
        if item.name == "pitch_targets":
            continue  # validation speakers come from the corpora that train, and cannot tell what it is good for
        low, high = space.varied[f"augment_{item.name}"].ends()
        assert low == 0
        assert high == pytest.approx(2 * getattr(STRENGTHS, item.name))

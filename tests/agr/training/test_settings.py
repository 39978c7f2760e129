"""The settings of a trial: learning rates, allowed ranges, and the names that earlier versions stored."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from agr.errors import SettingsError
from agr.training.settings import FORMER_NAMES, Settings

BASE = Settings(epochs=2, lr=0.001, gamma=0.5, batch_size=8, seed=3)

FORMER = ("speed", "pitch", "formants", "colour", "line", "noise", "room", "shift")


def test_stored_settings_of_earlier_versions_get_their_current_names() -> None:
    expected = {f"vary_{name}": f"augment_{name}" for name in FORMER}
    assert expected | {"vary_population": "augment_pitch_targets"} == FORMER_NAMES
    assert set(FORMER_NAMES.values()) < Settings(1, 0.1, 0.5).config().keys()


@pytest.mark.parametrize("gamma", [1.0, 0.7, 0.1, 0.0])
@pytest.mark.parametrize("epochs", [1, 5, 6, 23])
def test_learning_rates_are_those_of_step_lr(epochs: int, gamma: float) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.004)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=5, gamma=gamma)
    expected = []
    for _ in range(epochs):
        expected.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    assert Settings(epochs=epochs, lr=0.004, gamma=gamma).rates() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("epochs", 0, "1 to 10000"),
        ("epochs", 10_001, "1 to 10000"),
        ("lr", 0.0, "above 0.0 to 10.0"),
        ("lr", -0.001, "above 0.0 to 10.0"),
        ("lr", 10.5, "above 0.0 to 10.0"),
        ("lr", float("nan"), "above 0.0 to 10.0"),
        ("lr", float("inf"), "above 0.0 to 10.0"),
        ("gamma", -0.1, "0.0 to 1.0"),
        ("gamma", 1.01, "0.0 to 1.0"),
        ("gamma", float("nan"), "0.0 to 1.0"),
        ("batch_size", 0, "1 to 65536"),
        ("batch_size", 65_537, "1 to 65536"),
        ("seed", -1, "0 to 4294967295"),
        ("seed", 2**32, "0 to 4294967295"),
        ("weight_decay", -0.1, "0.0 to 1.0"),
        ("weight_decay", 1.1, "0.0 to 1.0"),
        ("dropout", -0.1, "0.0 to 0.9"),
        ("dropout", 0.91, "0.0 to 0.9"),
        ("label_smoothing", -0.1, "0.0 to 0.5"),
        ("label_smoothing", 0.51, "0.0 to 0.5"),
        ("width", 0.24, "0.25 to 2.0"),
        ("width", 2.1, "0.25 to 2.0"),
        ("width", float("nan"), "0.25 to 2.0"),
        ("precision", "float16", "float32 or bf16"),
    ],
)
def test_setting_out_of_range_is_refused(name: str, value: float | str, expected: str) -> None:
    values: dict[str, Any] = {"epochs": 3, "lr": 0.1, "gamma": 0.5, name: value}
    with pytest.raises(SettingsError, match=f"^{name} {value}: expected {expected}$"):
        Settings(**values)


@pytest.mark.parametrize(
    "values",
    [
        {"epochs": 1, "gamma": 0.0},
        {"epochs": 10_000, "lr": 10.0, "gamma": 1.0, "seed": 2**32 - 1},
        {"epochs": 1, "gamma": 0.5, "weight_decay": 1.0, "dropout": 0.9, "label_smoothing": 0.5, "width": 0.25},
        {"epochs": 1, "gamma": 0.5, "model": "pooled", "width": 2.0},
    ],
)
def test_setting_at_the_edge_of_its_range_is_accepted(values: dict[str, Any]) -> None:
    settings = Settings(**{"lr": 1e-9, **values})
    assert len(settings.rates()) == settings.epochs


def test_a_width_at_which_the_model_is_too_large_is_refused() -> None:
    message = r"^width 1\.5: 1,370,594 parameters of model cnn; expected at most 1,000,000$"
    with pytest.raises(SettingsError, match=message):
        replace(BASE, width=1.5)


def test_a_strength_of_augmentation_out_of_range_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"^augmentation pitch 0\.7: expected 0 to 0\.6$"):
        replace(BASE, augment_pitch=0.7)

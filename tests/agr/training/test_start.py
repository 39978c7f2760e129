"""Training that begins with the weights of a finished model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from agr.errors import SettingsError
from agr.training.model import build
from agr.training.start import identify, load_start


def test_a_model_gets_the_weights_that_were_named(bundle_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGR_CHAMPION", str(bundle_folder))
    first, second = build("cnn", seed=1), build("cnn", seed=2)
    load_start(first, identify(bundle_folder))
    load_start(second, identify(bundle_folder))
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name])


def test_without_a_start_weights_stay_random() -> None:
    model = build("cnn", seed=1)
    load_start(model, "")
    assert torch.equal(model.out.weight, build("cnn", seed=1).out.weight)


def test_another_champion_on_this_machine_is_refused(bundle_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGR_CHAMPION", str(bundle_folder))
    with pytest.raises(SettingsError, match=f"found {identify(bundle_folder)} on this machine; expected champion:0123"):
        load_start(build("cnn"), "champion:0123")


def test_a_machine_without_a_champion_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGR_CHAMPION", "none")
    with pytest.raises(SettingsError, match="found no champion on this machine"):
        load_start(build("cnn"), "champion:0123")


def test_a_model_of_another_shape_is_refused(bundle_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGR_CHAMPION", str(bundle_folder))
    with pytest.raises(SettingsError, match="expected the shape of this model"):
        load_start(build("pooled"), identify(bundle_folder))


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"{tmp_path}/weights.safetensors: No such file"):
        identify(tmp_path)

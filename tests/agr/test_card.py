"""The command that prints a model card."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from agr import card
from agr.errors import ModelError
from agr.inference import bundle, model_card
from agr.recipes.voice import VOICE
from agr.training.model import build


@pytest.fixture(scope="module")
def model() -> bundle.Bundle:
    """An untrained model of recipe voice."""
    about = bundle.BundleInfo("cnn", VOICE, {"lr": 0.001}, {}, {}, {}, {}, {"agr": "0"})
    return bundle.Bundle(build("cnn", seed=0).eval(), about)


# The command


def test_the_command_prints_the_card_of_a_model(
    bundle_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(bundle_folder, tmp_path / "model" / "data" / "bundle")
    (folder / model_card.FILE).write_text("# A card of Männer\n", encoding="utf-8")
    assert card.main(["--model-uri", str(tmp_path / "model")]) == 0
    assert capsys.readouterr().out == "# A card of Männer\n"


def test_a_model_without_a_card_is_named(bundle_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"card\.md: no such file; expected the card of a version") as caught:
        card.main(["--model-uri", str(bundle_folder)])
    assert str(bundle_folder) in str(caught.value)

"""The command that explains an answer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from agr.explain import main
from agr.inference import bundle
from agr.recipes.voice import VOICE
from agr.training.model import build
from tests.sounds import clip_file, vowel

pytestmark = pytest.mark.usefixtures("one_thread")


def stored_bundle(folder: Path, bundle_folder: Path) -> Path:
    """A bundle on disk of an untrained network for the voice recipe."""
    card = replace(bundle.read_info(bundle_folder), recipe=VOICE)
    bundle.save(folder, build("cnn", seed=1).state_dict(), card, bundle.read_seen(bundle_folder))
    return folder


def test_the_command_draws_and_says_why(
    bundle_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = stored_bundle(tmp_path / "model", bundle_folder), tmp_path / "out.png"
    clip = clip_file(tmp_path / "a.wav", vowel(120, 0.7))
    assert main(["--model-uri", str(model), str(clip), "--png", str(out)]) == 0
    said, complaint = capsys.readouterr()
    assert said.startswith("Answer: ")
    assert complaint == ""
    with Image.open(out) as picture:
        assert (picture.format, picture.width) == ("PNG", 1200)
    assert main(["--json", "--model-uri", str(model), str(clip), "--png", str(out)]) == 0
    values = json.loads(capsys.readouterr().out)
    assert list(values) == ["path", "label", "probability", "contributions", "compared_with", "png"]
    assert said.startswith(f"Answer: {values['label']}, {values['probability']:.2f}.")


def test_a_bad_clip_is_one_line_and_status_1(
    bundle_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.png"
    assert main(["--model-uri", str(bundle_folder), str(tmp_path / "no.wav"), "--png", str(out)]) == 1
    said, complaint = capsys.readouterr()
    assert (said, complaint.count("\n")) == ("", 1)
    assert complaint.startswith(f"agr: {tmp_path / 'no.wav'}: No such file")
    assert not out.exists()

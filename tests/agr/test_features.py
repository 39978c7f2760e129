"""The command that draws the model's input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agr.common.cli import run
from agr.features import main
from tests.sounds import clip_file, vowel

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("recipe", ["voice", "mfcc", "mfcc48"])
def test_the_command_writes_a_png(recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip, out = clip_file(tmp_path / "a.wav", vowel(120, 0.7)), tmp_path / "out.png"
    assert main([str(clip), "--png", str(out), "--recipe", recipe]) == 0
    assert capsys.readouterr() == (f"{out}\tall of its 0.70 s\n", "")
    with Image.open(out) as picture:
        assert picture.format == "PNG"


def filled(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda path: path, "No such file"),
        (lambda path: filled(path, b""), "0 bytes"),
        (lambda path: filled(path, b"no sound at all"), "text; expected a sound file"),
        (lambda path: clip_file(path, np.zeros(8_000, dtype=np.float32)), "pure silence"),
        (lambda path: clip_file(path, vowel(120, 0.05)), "expected at least 0.1 s"),
        (lambda path: path.mkdir() or path, "a folder; expected a sound file"),
    ],
    ids=["missing", "empty", "text", "silent", "short", "folder"],
)
def test_what_is_no_clip_is_one_line_and_status_1(
    make: Callable[[Path], Path], part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, out = make(tmp_path / "a.wav"), tmp_path / "out.png"
    assert main([str(clip), "--png", str(out)]) == 1
    printed, complaint = capsys.readouterr()
    assert printed == ""
    assert complaint.startswith(f"agr: {clip}: ")
    assert part in complaint
    assert complaint.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize("arguments", [["--png", "."], [], ["--png", "out.png", "--recipe", "none"]])
def test_wrong_usage_and_an_unwritable_file_are_status_2(
    arguments: list[str], tmp_path: Path, own_signals: None, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = clip_file(tmp_path / "a.wav", vowel(120, 0.7))
    with pytest.raises(SystemExit) as stopped:
        run(lambda: main([str(clip), *arguments]))
    assert stopped.value.code == 2
    assert capsys.readouterr().out == ""

"""The plotting process draws every picture once, and what it cannot draw is drawn here or raised."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from agr.plots.curves import Curve, notice
from agr.plots.search import heat_map, learning_curves
from agr.plots.worker import PlottingProcess
from agr.training.loop import Epoch
from agr.training.settings import STEP_SIZE, Settings


def curves() -> list[Curve]:
    settings = Settings(2, 0.01, 0.7)
    history = [Epoch(k, 0.01, 0.5, 0.8, 0.8, 1 / k, 0.9, 0.9, 0.1, 1.0) for k in (1, 2)]
    return [Curve.plain(settings, history)]


def test_all_pictures_exist_after_finish(tmp_path: Path) -> None:
    with PlottingProcess() as plotting:
        plotting.draw(heat_map, curves(), tmp_path / "grid.png", "t")
        plotting.draw(learning_curves, curves(), tmp_path / "curves.png", "t", STEP_SIZE)
        plotting.finish()
    for name in ("grid.png", "curves.png"):
        with Image.open(tmp_path / name) as image:
            assert min(image.size) > 200


def test_a_picture_drawn_in_the_process_equals_one_drawn_here(tmp_path: Path) -> None:
    heat_map(curves(), tmp_path / "here.png", "t")
    with PlottingProcess() as plotting:
        plotting.draw(heat_map, curves(), tmp_path / "there.png", "t")
        plotting.finish()
    assert (tmp_path / "here.png").read_bytes() == (tmp_path / "there.png").read_bytes()


def test_an_error_in_drawing_is_raised_by_finish(tmp_path: Path) -> None:
    with PlottingProcess() as plotting:
        plotting.draw(heat_map, curves(), tmp_path / "nowhere" / "grid.png", "t")
        with pytest.raises(FileNotFoundError):
            plotting.finish()


CLOSED = """
import os
from agr.plots.worker import PlottingProcess
plotting = PlottingProcess()
pid = plotting.pid
plotting.close()
plotting.close()
try:
    os.kill(pid, 0)
except ProcessLookupError:
    print("gone", flush=True)
os._exit(0)
"""


def test_closing_before_anything_is_drawn_leaves_no_process_and_no_warning() -> None:
    done = subprocess.run([sys.executable, "-c", CLOSED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "gone\n", "")


def test_naming_the_pictures_imports_neither_matplotlib_nor_torch() -> None:
    code = "import sys, agr.plots.search, agr.plots.worker; print({'matplotlib', 'torch', 'mlflow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_pictures_of_a_killed_process_are_drawn_here(tmp_path: Path) -> None:
    with PlottingProcess() as plotting:
        plotting.draw(heat_map, curves(), tmp_path / "first.png", "t")
        plotting.finish()
        (tmp_path / "first.png").unlink()
        assert plotting.pid is not None
        os.kill(plotting.pid, signal.SIGKILL)
        plotting.draw(heat_map, curves(), tmp_path / "second.png", "t")
        plotting.finish()
    assert (tmp_path / "second.png").exists()
    assert not (tmp_path / "first.png").exists()


def test_curves_are_pickled_without_classes_that_need_torch() -> None:
    (curve,) = curves()
    assert {type(curve.settings).__module__, *(type(epoch).__module__ for epoch in curve.history)} == {"types"}
    assert (curve.settings.lr, curve.history[-1].val_balanced_accuracy) == (0.01, 0.9)


@pytest.mark.parametrize(
    ("tags", "words"),
    [({}, []), ({"leaky": "true"}, ["LEAKY"]), ({"leaky": "true", "synthetic": "true"}, ["LEAKY", "SYNTHETIC"])],
)
def test_a_title_says_what_makes_a_number_worth_less(tags: dict[str, str], words: list[str]) -> None:
    text = notice(tags)
    assert [word for word in ("LEAKY", "SYNTHETIC") if word in text] == words

"""Pictures drawn in another process: all of them, in its own time, and whatever becomes of it."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from agr.plots.curves import Curve, notice
from agr.plots.worker import PlottingProcess
from agr.training.loop import Epoch
from agr.training.settings import STEP_SIZE, Settings


def curves() -> list[Curve]:
    settings = Settings(2, 0.01, 0.7)
    history = [Epoch(k, 0.01, 0.5, 0.8, 0.8, 1 / k, 0.9, 0.9, 0.1, 1.0) for k in (1, 2)]
    return [Curve.plain(settings, history)]


def test_what_was_asked_for_is_there_when_it_has_finished(tmp_path: Path) -> None:
    with PlottingProcess() as easel:
        easel.draw("heat_map", curves(), tmp_path / "grid.png", "t")
        easel.draw("learning_curves", curves(), tmp_path / "curves.png", "t", STEP_SIZE)
        easel.finish()
    for name in ("grid.png", "curves.png"):
        with Image.open(tmp_path / name) as image:
            assert min(image.size) > 200


def test_a_picture_is_the_same_as_one_drawn_here(tmp_path: Path) -> None:
    from agr.plots.search import heat_map

    heat_map(curves(), tmp_path / "here.png", "t")
    with PlottingProcess() as easel:
        easel.draw("heat_map", curves(), tmp_path / "there.png", "t")
        easel.finish()
    assert (tmp_path / "here.png").read_bytes() == (tmp_path / "there.png").read_bytes()


def test_what_goes_wrong_there_is_raised_here(tmp_path: Path) -> None:
    with PlottingProcess() as easel:
        easel.draw("heat_map", curves(), tmp_path / "nowhere" / "grid.png", "t")
        with pytest.raises(FileNotFoundError):
            easel.finish()


def test_one_that_is_closed_before_it_drew_leaves_no_process_and_no_semaphore() -> None:
    script = "from agr.plots.worker import PlottingProcess\nif __name__ == '__main__':\n    e = PlottingProcess()\n    e.close()\n    e.close()\n"
    leave = "    import multiprocessing, os\n    assert not multiprocessing.active_children()\n    os._exit(0)\n"
    done = subprocess.run([sys.executable, "-c", script + leave], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_pictures_of_a_killed_process_are_drawn_here(tmp_path: Path) -> None:
    with PlottingProcess() as easel:
        easel.draw("heat_map", curves(), tmp_path / "first.png", "t")
        easel.finish()
        (tmp_path / "first.png").unlink()
        for process in multiprocessing.active_children():
            process.kill()
        easel.draw("heat_map", curves(), tmp_path / "second.png", "t")
        easel.finish()
    assert (tmp_path / "second.png").exists()
    assert not (tmp_path / "first.png").exists()


def test_numbers_go_over_without_the_classes_that_need_torch() -> None:
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

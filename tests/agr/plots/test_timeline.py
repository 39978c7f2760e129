from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from agr.inference.timeline import Segment
from agr.inference.timeline_files import TimedAnswer
from agr.plots import search, timeline


def drawn(recording: TimedAnswer, path: Path) -> NDArray[np.int_]:
    timeline.draw(recording, path)
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def near(image: NDArray[np.int_], colour: str) -> int:
    """The number of pixels of nearly that colour."""
    wanted = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return int((np.abs(image - wanted).max(axis=2) < 12).sum())


def test_women_men_and_nobody_have_their_colours(tmp_path: Path) -> None:
    segments = (Segment(0.0, 4.0, "female", 0.9), Segment(6.0, 10.0, "male", 0.9))
    image = drawn(TimedAnswer("memo.m4a", segments, 10.0, peaks=[0.5] * 100), tmp_path / "a.png")
    women, men, nobody = (near(image, colour) for colour in (*search.GENDERS.values(), timeline.GREY))
    assert women > 5_000 and men > 5_000 and nobody > 2_000
    assert women == pytest.approx(men, rel=0.1)


@pytest.mark.parametrize(
    ("seconds", "lines"), [(3.0, 1), (60.0, 10), (61.0, 11), (3600.0, 12), (0.0, 1), (90_000.0, 12)]
)
def test_a_long_recording_is_drawn_in_at_most_twelve_lines(seconds: float, lines: int, tmp_path: Path) -> None:
    image = drawn(TimedAnswer("a.wav", (), seconds, peaks=[0.1] * min(int(10 * seconds), 50_000)), tmp_path / "a.png")
    assert image.shape[0] == pytest.approx(100 * (timeline.LINE_INCHES * lines + 1.3), abs=2)


def test_a_strange_name_is_drawn_on_one_line(tmp_path: Path) -> None:
    name = "a [bold]name[/bold] \u6f22\u5b57 $x^2$ " + "x" * 200 + ".wav"
    assert drawn(TimedAnswer(name, (), 2.0, peaks=[0.0] * 20), tmp_path / "a.png").size

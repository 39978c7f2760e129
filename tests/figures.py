"""The text of matplotlib figures, and whether it can be read."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox


def drawn_texts(figure: Figure) -> list[tuple[str, Bbox]]:
    """Every text that is drawn, and its box in pixels, without laying the figure out (again), which takes longest."""
    found: list[tuple[str, Bbox]] = []

    def drawn(text: Text, renderer: Any) -> None:
        if text.get_visible() and text.get_text().strip():
            found.append((text.get_text(), text.get_window_extent(renderer)))

    figure.set_layout_engine("none")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", drawn)
        figure.draw_without_rendering()
    return found


def assert_readable(figure: Figure) -> None:
    """No letter is cut off, no text stands on another."""
    figure.draw_without_rendering()  # lays it out
    boxes = drawn_texts(figure)
    width, height = figure.get_size_inches() * figure.dpi
    assert width == 1200
    for text, box in boxes:
        assert 0 <= box.x0 < box.x1 <= width, text
        assert 0 <= box.y0 < box.y1 <= height, text
    for (text, box), (other, another) in itertools.combinations(boxes, 2):
        assert not box.overlaps(another), (text, other)


def words(figure: Figure) -> str:
    return "\n".join(text for text, _ in drawn_texts(figure))

"""The pictures of a search: PNG files of a sensible size that say what they must."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image

from agr.metrics.scoring import Scores, score
from agr.plots.curves import Curve, notice
from agr.plots.search import DPI, confusion, heat_map, learning_curves, speakers
from agr.training.loop import Epoch
from agr.training.settings import STEP_SIZE, Settings

LONG = "demo-speakers-seed0-20260101-101500 [LEAKY split: the same people train and validate; SYNTHETIC voices]"


def trial(epochs: int, lr: float, gamma: float, finished: int | None = None, accuracy: float = 0.9) -> Curve:
    settings = Settings(epochs, lr, gamma)
    rates = settings.rates()[: epochs if finished is None else finished]
    history = [
        Epoch(k, rate, 0.5, 0.8, 0.8, 1 / k, accuracy, accuracy, 0.1, 1.0) for k, rate in enumerate(rates, start=1)
    ]
    return Curve(settings, history)


def grid() -> list[Curve]:
    """The 27 points of the paper; one of them stopped after two epochs, one before its first was over."""
    stopped = {(15, 0.01, 0.9): 2, (5, 0.01, 0.5): 0}
    points = [(e, lr, g) for e in (5, 10, 15) for lr in (0.01, 0.001, 0.0001) for g in (0.5, 0.7, 0.9)]
    return [trial(*point, finished=stopped.get(point)) for point in points]


def large_grid() -> list[Curve]:
    """More points than there is room for numbers, curves or names."""
    rates, gammas = [0.1 * 0.9**k for k in range(40)], [k / 41 for k in range(1, 41)]
    return [trial(count, lr, gamma) for count in (1, 2) for lr in rates for gamma in gammas]


def many() -> list[Curve]:
    """More learning rates and gammas than colours and line styles."""
    return [trial(2, 0.1**k, k / 9) for k in range(1, 9)]


def scored(people: int, clips: int = 20, genders: int = 2) -> Scores:
    labels = np.repeat(np.arange(people) % genders, clips)
    names = np.repeat([f"a-corpus-of-some-name/{k:02}" for k in range(people)], clips)
    rng = np.random.default_rng(people)
    women = np.where(rng.random(len(labels)) < np.repeat(np.linspace(0, 1, people), clips), labels == 0, labels == 1)
    return score(labels.astype(np.int64), np.stack([women, 1.0 - women], axis=1), names)


def title_box(figure: Figure) -> Bbox:
    """Where the title stands in pixels, as saved."""
    figure.set_dpi(DPI)
    figure.draw_without_rendering()
    return figure.texts[0].get_window_extent()


def title(figure: Figure) -> str:
    return " ".join(figure.get_suptitle().split())


DRAWN: list[tuple[str, Callable[[Path, str], None]]] = [
    ("grid", lambda path, title: heat_map(grid(), path, title)),
    ("one point", lambda path, title: heat_map([trial(3, 0.001, 0.7)], path, title)),
    ("curves", lambda path, title: learning_curves(grid(), path, title, STEP_SIZE)),
    ("one epoch", lambda path, title: learning_curves([trial(1, 0.001, 0.7)], path, title, STEP_SIZE)),
    ("no epoch", lambda path, title: learning_curves([trial(1, 0.001, 0.7, 0)], path, title, STEP_SIZE)),
    ("three thousand curves", lambda path, title: learning_curves(large_grid(), path, title, STEP_SIZE)),
    ("three thousand points", lambda path, title: heat_map(large_grid(), path, title)),
    (
        "many",
        lambda path, title: learning_curves([trial(2, 0.1**k, k / 9) for k in range(1, 9)], path, title, STEP_SIZE),
    ),
    ("confusion", lambda path, title: confusion(scored(12), path, title)),
    ("one gender", lambda path, title: confusion(scored(3, genders=1), path, title)),
    ("12 people", lambda path, title: speakers(scored(12), path, title)),
    ("2 people", lambda path, title: speakers(scored(2), path, title)),
    ("60 people", lambda path, title: speakers(scored(60, clips=2), path, title)),
    ("one woman", lambda path, title: speakers(scored(1, genders=1), path, title)),
]


@pytest.mark.parametrize("name", ["short", LONG], ids=["short", "long"])
@pytest.mark.parametrize("draw", [draw for _, draw in DRAWN], ids=[name for name, _ in DRAWN])
def test_a_png_of_sensible_size_with_its_whole_title(
    draw: Callable[[Path, str], None], name: str, tmp_path: Path, figures: list[Figure]
) -> None:
    draw(tmp_path / "picture.png", name)
    (figure,) = figures
    box = title_box(figure)
    assert title(figure).startswith(name)
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.format == "PNG"
        width, height = picture.size
        colours = picture.convert("RGB").getcolors(width * height)
    assert 0 <= box.x0 < box.x1 <= width  # no letter of the title is cut off
    assert 0 <= box.y0 < box.y1 <= height
    assert 4 * DPI <= width <= 14 * DPI
    assert 2 * DPI <= height <= 20 * DPI
    assert colours is not None
    assert len(colours) > 20  # not blank


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for panel in figure.axes for text in panel.texts]


def test_the_heat_map_has_a_cell_for_every_point_and_says_which_failed(tmp_path: Path, figures: list[Figure]) -> None:
    heat_map(grid(), tmp_path / "grid.png", "t")
    panels = figures[0].axes[:3]
    assert [panel.get_title() for panel in panels] == ["5 epochs", "10 epochs", "15 epochs"]
    found = texts(figures[0])
    assert (found.count("0.900"), found.count("failed"), len(found)) == (25, 2, 27)
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["0.01", "0.001", "0.0001"]
    assert [label.get_text() for label in panels[0].get_xticklabels()] == ["0.5", "0.7", "0.9"]


def test_a_cell_of_the_heat_map_is_the_last_epochs_score(tmp_path: Path, figures: list[Figure]) -> None:
    points = [trial(5, 0.001, 0.5, accuracy=0.61), trial(5, 0.001, 0.7, accuracy=0.72), trial(5, 0.01, 0.5, 5, 0.83)]
    heat_map(points, tmp_path / "grid.png", "t")
    assert texts(figures[0]) == ["0.830", "failed", "0.610", "0.720"]


def test_a_heat_map_of_many_points_has_colours_only(tmp_path: Path, figures: list[Figure]) -> None:
    heat_map(large_grid(), tmp_path / "grid.png", "t")
    assert texts(figures[0]) == []
    assert [np.asarray(panel.images[0].get_array()).shape for panel in figures[0].axes[:2]] == [(40, 40)] * 2
    assert [len(axis.get_ticklabels()) for axis in (figures[0].axes[0].xaxis, figures[0].axes[0].yaxis)] == [8, 8]


def test_of_many_curves_the_best_are_drawn_and_the_title_says_so(tmp_path: Path, figures: list[Figure]) -> None:
    poor = [trial(1, 0.01, k / 1000, accuracy=0.6) for k in range(1, 100)]
    good = [trial(1, 0.001, k / 1000, accuracy=0.9) for k in range(1, 60)]
    learning_curves([*poor, *good], tmp_path / "curves.png", "t", STEP_SIZE)
    left, _ = figures[0].axes
    ends = [float(np.asarray(line.get_ydata())[-1]) for line in left.lines]
    assert (ends.count(0.9), ends.count(0.6)) == (59, 1)
    assert "the best 60 of 158 pairs" in title(figures[0])
    assert figures[0].legends == []


def test_the_longest_trial_of_each_branch_is_drawn_once(tmp_path: Path, figures: list[Figure]) -> None:
    learning_curves(grid(), tmp_path / "curves.png", "t", STEP_SIZE)
    left, right = figures[0].axes
    assert len(left.lines) == len(right.lines) == 9
    lengths = sorted(np.size(line.get_xdata()) for line in left.lines)
    assert lengths == [10, *[15] * 8]  # the branch whose 15 epochs broke off is drawn from its 10
    (legend,) = figures[0].legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["lr 0.0001", "lr 0.001", "lr 0.01", "gamma 0.5", "gamma 0.7", "gamma 0.9"]


def test_the_legend_of_the_curves_hides_nothing(tmp_path: Path, figures: list[Figure]) -> None:
    learning_curves(grid(), tmp_path / "curves.png", LONG, STEP_SIZE)
    (figure,) = figures
    others = [title_box(figure), *(panel.get_window_extent() for panel in figure.axes)]
    legend = figure.legends[0].get_window_extent()
    assert not any(legend.overlaps(box) for box in others)


def test_the_confusion_counts_clips_and_shares(tmp_path: Path, figures: list[Figure]) -> None:
    labels = np.array([0] * 4 + [1] * 2)
    answers = np.array([0, 0, 0, 1, 1, 1])
    scores = score(labels, np.eye(2)[answers], np.array(["a"] * 4 + ["b"] * 2))
    confusion(scores, tmp_path / "confusion.png", "t")
    assert texts(figures[0]) == ["3 clips\n75.0 %", "1 clips\n25.0 %", "0 clips\n0.0 %", "2 clips\n100.0 %"]


def test_the_hardest_speaker_stands_first(tmp_path: Path, figures: list[Figure]) -> None:
    speakers(scores := scored(12), tmp_path / "speakers.png", "t")
    panel = figures[0].axes[0]
    low, high = sorted(panel.get_ylim())
    assert panel.get_ylim() == (high, low)  # row 0 is on top
    rates = [float(text) for text in texts(figures[0])]
    assert rates == sorted(rates)
    hardest = min(scores.per_speaker, key=lambda name: scores.per_speaker[name].accuracy)
    assert panel.get_yticklabels()[0].get_text() == f"{hardest}  (20 clips)"
    assert f"balanced accuracy {scores.balanced_accuracy:.3f}" in title(figures[0])


@pytest.mark.parametrize(
    ("tags", "parts"),
    [({}, []), ({"leaky": "true"}, ["LEAKY"]), ({"leaky": "true", "synthetic": "true"}, ["LEAKY", "SYNTHETIC"])],
)
def test_the_notice_names_what_a_title_must_not_leave_out(tags: dict[str, object], parts: Sequence[str]) -> None:
    assert [part.split()[0] for part in notice(tags).split("; ") if part] == list(parts)

"""The pictures of a search with Optuna: there if they can be drawn, whole, and true to the study."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial
from PIL import Image

from agr.errors import AgrError
from agr.plots.search import DPI
from search.optuna_search import figures, study_view

LONG = "demo-speakers-seed0-20260101-101500 [LEAKY split: the same people train and validate; SYNTHETIC voices]"
AIM = "val_balanced_accuracy"
Direction = Literal["maximize", "minimize"]
LR, WIDTH = FloatDistribution(1e-4, 1e-1, log=True), CategoricalDistribution((0.5, 1.0, 1.5))
ALL = {"history.png", "slice.png", "parallel.png", "contour.png", "importances.png"}
FEW = {"history.png", "slice.png", "parallel.png"}


@pytest.fixture(autouse=True)
def quiet_optuna() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(before)


def score(lr: float, dropout: float, width: float) -> float:
    """What matters here is lr, most at 1e-3."""
    return 0.95 - 0.1 * abs(math.log10(lr) + 3) - 0.001 * dropout - 0.001 * width


def trial(number: int, value: float | None = None, parameters: int = 3) -> optuna.trial.FrozenTrial:
    """A finished trial with its place of a made-up sequence, `parameters` of its twelve hyperparameters."""
    params = {
        "lr": 10 ** (-1 - 0.7 * (number * 3 % 5)),
        "dropout": number % 7 / 10,
        "width": (0.5, 1.0, 1.5)[number % 3],
    }
    kinds: dict[str, BaseDistribution] = {"lr": LR, "dropout": FloatDistribution(0, 1), "width": WIDTH}
    for extra in range(9):
        params[f"more_{extra}"] = (number * (extra + 2) % 11) / 11
        kinds[f"more_{extra}"] = FloatDistribution(0, 1)
    found = score(params["lr"], params["dropout"], params["width"]) if value is None else value
    names = list(params)[:parameters]
    return create_trial(value=found, params={n: params[n] for n in names}, distributions={n: kinds[n] for n in names})


def study_of(*trials: optuna.trial.FrozenTrial, direction: Direction = "maximize") -> optuna.Study:
    study = optuna.create_study(direction=direction)
    study.add_trials(trials)
    return study


def several(count: int, objectives: int) -> optuna.Study:
    """A study whose second aim is lower for narrow models, the third at random."""
    directions: list[Direction] = ["maximize", "minimize", "minimize"]
    study = optuna.create_study(directions=directions[:objectives])
    for number in range(count):
        one = trial(number)
        values = [one.values[0], 1e5 * one.params["width"], number * 7 % 5][:objectives]
        study.add_trial(create_trial(values=values, params=one.params, distributions=one.distributions))
    return study


def drawn(study: optuna.Study, folder: Path, spent: list[tuple[int, float]] | None = None) -> set[str]:
    objectives = [AIM, "parameters", "ms"][: len(study.directions)]
    figures.draw(study, folder, "t", spent or [], objectives)
    return {path.name for path in folder.iterdir()}


PRUNED = create_trial(state=TrialState.PRUNED, params={"lr": 0.01}, distributions={"lr": LR})
FAILED = create_trial(state=TrialState.FAIL, params={"lr": 0.01}, distributions={"lr": LR})


@pytest.mark.parametrize(
    ("study", "expected"),
    [
        pytest.param(lambda: study_of(), set(), id="none"),
        pytest.param(lambda: study_of(PRUNED, FAILED), set(), id="pruned"),
        pytest.param(lambda: study_of(trial(0)), {"history.png"}, id="one"),
        pytest.param(lambda: study_of(trial(0), trial(0)), {"history.png"}, id="alike"),
        pytest.param(lambda: study_of(trial(0, math.inf), trial(1, -math.inf)), set(), id="infinite"),
        pytest.param(lambda: study_of(PRUNED, trial(0), FAILED, trial(1)), FEW, id="two"),
        pytest.param(
            lambda: study_of(*(trial(k, 0.5) for k in range(12))),
            {"history.png", "slice.png", "parallel.png"},
            id="same-score",
        ),
        pytest.param(
            lambda: study_of(*(trial(k, parameters=1) for k in range(9))),
            {"history.png", "slice.png", "parallel.png"},
            id="one-name",
        ),
        pytest.param(lambda: study_of(*(trial(k, parameters=0) for k in range(9))), {"history.png"}, id="no-name"),
        pytest.param(lambda: study_of(trial(0), trial(1, parameters=2), trial(2)), FEW, id="conditional"),
        pytest.param(lambda: study_of(*(trial(k) for k in range(9))), FEW, id="few"),
        pytest.param(lambda: study_of(*(trial(k) for k in range(10))), ALL, id="enough"),
        pytest.param(lambda: study_of(*(trial(k) for k in range(30)), direction="minimize"), ALL, id="minimise"),
        pytest.param(lambda: several(1, 2), {"history.png", "pareto.png", "pareto.csv"}, id="two-objectives-one-trial"),
        pytest.param(lambda: several(12, 2), {*ALL, "pareto.png", "pareto.csv"}, id="two-objectives"),
        pytest.param(lambda: several(12, 3), {*ALL, "pareto.png", "pareto.csv"}, id="three-objectives"),
    ],
)
def test_only_possible_plots_are_drawn(study: Callable[[], optuna.Study], expected: set[str], tmp_path: Path) -> None:
    assert drawn(study(), tmp_path) == expected
    assert pyplot.get_fignums() == []


def test_the_best_so_far_needs_no_finished_trial(tmp_path: Path) -> None:
    assert drawn(study_of(PRUNED), tmp_path, [(3, 0.5)]) == {"best_so_far.png"}


@pytest.mark.parametrize(("direction", "best"), [("maximize", 0.9), ("minimize", 0.2)])
def test_a_pruned_trial_has_the_best_score_that_it_reported(direction: Direction, best: float) -> None:
    reported = {1: 0.2, 2: 0.9, 3: math.nan, 4: 0.5}
    cut = create_trial(
        state=TrialState.PRUNED, params={"lr": 0.01}, distributions={"lr": LR}, intermediate_values=reported
    )
    view = study_view.view_of(study_of(FAILED, cut, PRUNED, trial(0, 0.7), direction=direction), AIM, "t")
    assert [(each.number, each.value) for each in view.trials] == [(1, best), (3, 0.7)]
    assert view.trial_counts == "2 of 4 trials (1 pruned)"


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """Every figure by its file's name."""
    found: dict[str, Figure] = {}
    real = Figure.savefig

    def save(self: Figure, path: Path, **options: Any) -> None:
        found[path.name] = self
        real(self, path, **options)

    monkeypatch.setattr(Figure, "savefig", save)
    return found


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """Every figure by its file's name, none of which is written: laying them out takes longest."""
    found: dict[str, Figure] = {}
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: found.update({path.name: self}))
    return found


def test_plots_fit_a_page_with_titles_and_labels_uncut(tmp_path: Path, saved: dict[str, Figure]) -> None:
    study = study_of(*(trial(k, parameters=12) for k in range(20)))
    figures.draw(study, tmp_path, LONG, [(5, 0.6), (11, 0.8), (20, 0.7)], [AIM])
    assert saved.keys() == {*ALL, "best_so_far.png"}
    for name, figure in saved.items():
        with Image.open(tmp_path / name) as picture:
            width, height = picture.size
        assert 4 * DPI <= width <= 14 * DPI
        assert 2 * DPI <= height <= 14 * DPI
        assert " ".join(figure.get_suptitle().split()).startswith(LONG)
        figure.set_dpi(DPI)
        figure.draw_without_rendering()
        box = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
        assert box.x0 > -1, name  # nothing is cut off
        assert box.y0 > -1, name
        assert box.x1 < width + 1, name
        assert box.y1 < height + 1, name


@pytest.mark.parametrize(("direction", "best"), [("maximize", [0.6, 0.8, 0.8]), ("minimize", [0.6, 0.6, 0.5])])
def test_the_best_so_far_never_gets_worse(
    direction: Direction, best: list[float], tmp_path: Path, kept: dict[str, Figure]
) -> None:
    drawn(study_of(direction=direction), tmp_path, [(5, 0.6), (11, 0.8), (20, 0.5)])
    (line,) = kept["best_so_far.png"].axes[0].lines
    assert np.asarray(line.get_xdata()).tolist() == [5, 11, 20]
    assert np.asarray(line.get_ydata()).tolist() == best


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_decisive_hyperparameter_is_the_most_important(direction: Direction) -> None:
    turned = [trial(k) for k in range(40)]
    if direction == "minimize":
        turned = [trial(k, -(one.value or 0)) for k, one in enumerate(turned)]
    found = study_view.importances(study_view.view_of(study_of(*turned, direction=direction), AIM, "t"))
    assert next(iter(found)) == "lr"
    assert sum(found.values()) == pytest.approx(1)


def test_importances_are_those_of_the_first_objective() -> None:
    found = study_view.importances(study_view.view_of(several(40, 2), AIM, "t"))
    alone = study_view.importances(study_view.view_of(study_of(*(trial(k) for k in range(40))), AIM, "t"))
    assert found == pytest.approx(alone)


def test_trials_of_other_searches_do_not_change_importances(tmp_path: Path, kept: dict[str, Figure]) -> None:
    """They have one dropout in common, and the best of them are better than most of the study's own."""
    told, kinds = [], {"lr": LR, "dropout": FloatDistribution(0, 1), "width": WIDTH}
    for number in range(27):
        params = {"lr": 10.0 ** -(1 + number % 3), "dropout": 0.35, "width": 1.0}
        value = score(params["lr"], 0.35, 1.0) + 0.01
        attrs = {"run_id": str(number)}
        told.append(create_trial(value=value, params=params, distributions=kinds, user_attrs=attrs))
    mine = [trial(k) for k in range(40)]
    with_grid = study_of(*told, *mine)
    alone = study_view.importances(study_view.view_of(study_of(*mine), AIM, "t"))
    assert study_view.importances(study_view.view_of(study_view.own_trials(with_grid), AIM, "t")) == pytest.approx(
        alone
    )
    assert study_view.importances(study_view.view_of(with_grid, AIM, "t")) != pytest.approx(alone)
    drawn(study_of(*told, mine[0]), tmp_path)
    assert "importances.png" not in kept
    assert "slice.png" in kept


def test_panels_are_sorted_by_importance(tmp_path: Path, kept: dict[str, Figure]) -> None:
    study = study_of(*(trial(k) for k in range(40)))
    ranked = list(study_view.importances(study_view.view_of(study, AIM, "t")))
    drawn(study, tmp_path)
    labels = [panel.get_xlabel() for panel in kept["slice.png"].axes if panel.get_xlabel()]
    assert sorted(labels) == sorted(ranked)
    places = {panel.get_xlabel(): panel.get_position() for panel in kept["slice.png"].axes}
    assert sorted(labels, key=lambda name: (-round(places[name].y0, 2), places[name].x0)) == ranked
    contour = kept["contour.png"].axes[0]
    assert {contour.get_xlabel(), contour.get_ylabel()} == set(ranked[:2])


@pytest.mark.parametrize(("direction", "colours"), [("maximize", "viridis"), ("minimize", "viridis_r")])
def test_better_scores_are_brighter_in_every_plot(
    direction: Direction, colours: str, tmp_path: Path, kept: dict[str, Figure]
) -> None:
    drawn(study_of(*(trial(k) for k in range(12)), direction=direction), tmp_path)
    for name in ("parallel.png", "contour.png"):
        assert kept[name].axes[0].collections[0].get_cmap().name == colours


@pytest.mark.usefixtures("kept")
def test_pareto_table_holds_the_front(tmp_path: Path) -> None:
    study = several(25, 2)
    drawn(study, tmp_path)
    with (tmp_path / "pareto.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    every = [(one.values[0], one.values[1]) for one in study.trials]
    front = {(a, b) for a, b in every if not any(c >= a and d <= b and (c, d) != (a, b) for c, d in every)}
    assert {(float(row[AIM]), float(row["parameters"])) for row in rows} == front
    assert [float(row[AIM]) for row in rows] == sorted((float(row[AIM]) for row in rows), reverse=True)
    assert float(rows[0]["lr"]) == study.trials[int(rows[0]["trial"])].params["lr"]


def test_settings_of_matplotlib_and_optuna_are_restored(tmp_path: Path) -> None:
    style, verbosity = dict(pyplot.rcParams), optuna.logging.get_verbosity()
    drawn(several(12, 2), tmp_path)
    assert {key: value for key, value in pyplot.rcParams.items() if style[key] != value and key != "backend"} == {}
    assert optuna.logging.get_verbosity() == verbosity


def test_wrong_number_of_objective_names_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AgrError, match="expected 2"):
        figures.draw(several(3, 2), tmp_path, "t", [], [AIM])

"""The plots of a search with Optuna: Optuna's own in this project's style, and the best score against epochs.

A pruned trial counts with the best score that it reported; Optuna's own plots leave pruned trials out. With several
objectives, all plots but pareto.png show the first. Importances are PED-ANOVA's (Watanabe, Bansal and Hutter, 2023):
they need fewer trials than fANOVA, and do not count what separates bad trials from worse ones.
"""

from __future__ import annotations

import csv
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import optuna
from optuna import Study
from optuna.exceptions import ExperimentalWarning

from agr.errors import AgrError
from search.optuna_search import plots
from search.optuna_search.study_view import View, evaluator, importances, own_trials, quantile, view_of

FEWEST_TRIALS = 10  # with fewer, importances and a surface between the trials would be made up


def draw(study: Study, folder: Path, title: str, spent: Sequence[tuple[int, float]], objectives: Sequence[str]) -> None:
    """Write every plot that can be drawn into `folder`, which exists. Sets Matplotlib's backend to agg.

    title: The first line of every plot. objectives: The names of the study's values.
    spent: Pairs of the number of epochs trained so far and the score at that time, in order.
    Raises: AgrError if the study has another number of objectives.
    """
    if len(objectives) != (wanted := len(study.directions)):
        raise AgrError(f"objectives {', '.join(objectives)}: expected {wanted}, as many as the study has")
    with _quiet():
        view = view_of(study, objectives[0], title)
        if spent:
            plots.best_so_far(view, spent, folder / "best_so_far.png")
        if view.trials:
            plots.history(view, folder / "history.png")
        if view.names:
            _by_hyperparameter(view, view_of(own_trials(study), objectives[0], title), folder)
        if len(objectives) > 1 and study.best_trials:
            write_pareto(study, objectives, folder / "pareto.csv")
            if len(objectives) <= 3:
                plots.pareto(study, objectives, title, folder / "pareto.png")


def _by_hyperparameter(view: View, own: View, folder: Path) -> None:
    """The plots of hyperparameters, the most important first. own: the view of the study's own trials."""
    shares = importances(own)
    ranked = sorted(view.names, key=lambda name: -shares.get(name, 0.0))
    plots.slices(view, ranked, folder / "slice.png")
    plots.parallel(view, ranked, folder / "parallel.png")
    if len(ranked) > 1 and not view.flat and len(view.trials) >= FEWEST_TRIALS:
        plots.contour(view, ranked[0], ranked[1], folder / "contour.png")
    if shares and len(own.trials) >= FEWEST_TRIALS:
        plots.importances(own, evaluator(own), quantile(own), folder / "importances.png")


def write_pareto(study: Study, objectives: Sequence[str], path: Path) -> None:
    """Write the trials of the Pareto front as CSV, sorted by the first objective."""
    sign = -1.0 if study.directions[0].name == "MAXIMIZE" else 1.0
    front = sorted(study.best_trials, key=lambda trial: sign * trial.values[0])
    names = list(dict.fromkeys(name for trial in front for name in trial.params))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["trial", *objectives, *names])
        for trial in front:
            writer.writerow([trial.number, *trial.values, *(trial.params.get(name, "") for name in names)])


@contextmanager
def _quiet() -> Iterator[None]:
    """Draw without windows, and without warnings of experimental plots (Optuna) or missing fonts (Matplotlib)."""
    matplotlib.use("agg")
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)

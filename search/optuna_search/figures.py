"""The pictures of a search with Optuna: Optuna's plots in this project's style, and the best score against epochs.

    draw(study, folder, "name of the search", spent=[(5, 0.81), (12, 0.86)], objectives=["val_balanced_accuracy"])

best_so_far.png    drawn if `spent` is not empty
history.png        if a trial has a score
slice.png          if a hyperparameter differs between such trials
parallel.png       as slice.png
contour.png        as slice.png, if two hyperparameters do, and not all scores are the same
importances.png    as contour.png, of the study's own trials, if the best can be told from the others
pareto.png         if a trial finished, and there are two or three objectives
pareto.csv         if a trial finished, and there are two objectives or more

What cannot be drawn is left out silently. A pruned trial counts with the best score that it reported; Optuna's own
plots leave such trials out, which are most of a search that prunes. With several objectives, all pictures but pareto.png show
the first.

Importances are PED-ANOVA's (Watanabe, Bansal and Hutter, 2023): how much the density of a hyperparameter among the best
trials differs from that among all. It shows what makes a trial one of the best; what separates bad trials from worse
ones, mostly learning rates that are far too high, does not count. It needs Parzen estimators only, while fANOVA's
random forest needs more than some tens of trials.
"""

from __future__ import annotations

import csv
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from agr.errors import AgrError
from search.optuna_search.study_view import View, evaluator, importances, own_trials, quantile, view_of

if TYPE_CHECKING:
    from optuna import Study


def draw(study: Study, folder: Path, title: str, spent: Sequence[tuple[int, float]], objectives: Sequence[str]) -> None:
    """Write every picture that can be drawn into `folder`. Matplotlib is set to draw without a window system.

    Args:
        study: The study.
        folder: Where the pictures go; it has to exist.
        title: The first line of every picture.
        spent: In order, epochs trained so far in the whole search, and the latest or best score by then.
        objectives: The names of the study's values.

    Raises:
        AgrError: There are not as many objectives as values.
    """
    from search.optuna_search import plots

    if len(objectives) != len(study.directions):
        raise AgrError(
            f"objectives {', '.join(objectives)}: expected {len(study.directions)}, as many as the study has"
        )
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
    """The pictures that look at hyperparameters, the most important first. own: the study's own trials alone."""
    from search.optuna_search import plots

    shares = importances(own)
    ranked = sorted(view.names, key=lambda name: -shares.get(name, 0.0))
    plots.slices(view, ranked, folder / "slice.png")
    plots.parallel(view, ranked, folder / "parallel.png")
    if len(ranked) > 1 and not view.flat:
        plots.contour(view, ranked[0], ranked[1], folder / "contour.png")
    if shares:
        plots.importances(own, evaluator(own), quantile(own), folder / "importances.png")


def write_pareto(study: Study, objectives: Sequence[str], path: Path) -> None:
    """A table of the trials that no other one beats in every aim, best of the first aim first."""
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
    """Draw without windows, and without warnings of experimental plots (Optuna) or missing fonts (matplotlib)."""
    import matplotlib
    import optuna
    from optuna.exceptions import ExperimentalWarning

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

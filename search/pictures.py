"""The pictures of a search with Optuna: Optuna's plots in this project's style, and the best score against epochs.

    draw(study, folder, "name of the search", spent=[(5, 0.81), (12, 0.86)], aims=["val_balanced_accuracy"])

best_so_far.png    drawn if `spent` is not empty
history.png        if a trial has a score
slice.png          if a hyperparameter differs between such trials
parallel.png       as slice.png
contour.png        as slice.png, if two hyperparameters do, and not all scores are the same
importances.png    as contour.png, of the study's own trials, if the best can be told from the others
pareto.png         if a trial finished, and there are two or three aims
pareto.csv         if a trial finished, and there are two aims or more

What cannot be drawn is left out silently. A pruned trial counts with the best score that it reported; Optuna's own
plots leave such trials out, which are most of a search that prunes. With several aims, all pictures but pareto.png show
the first.

Importances are PED-ANOVA's (Watanabe, Bansal and Hutter, 2023): how much the density of a hyperparameter among the best
trials differs from that among all. It shows what makes a trial one of the best; what separates bad trials from worse
ones, mostly learning rates that are far too high, does not count. It needs Parzen estimators only, while fANOVA's
random forest needs more than some tens of trials.
"""

from __future__ import annotations

import csv
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agr.errors import AgrError

if TYPE_CHECKING:
    from optuna import Study
    from optuna.importance import PedAnovaImportanceEvaluator
    from optuna.trial import FrozenTrial

BEST_TRIALS = 5  # at least so many count as the best for PED-ANOVA


@dataclass(frozen=True)
class View:
    """What a picture shows of a study."""

    study: Study  # a copy that has the first aim only, and in which pruned trials are finished
    trials: Sequence[FrozenTrial]  # those with finite scores
    names: Sequence[str]  # the hyperparameters that differ between them
    pruned: int  # how many of them were pruned
    aim: str  # the name of the score
    title: str  # the first line of every picture

    @property
    def sign(self) -> float:
        """The factor that makes lower scores better."""
        return -1.0 if self.study.direction.name == "MAXIMIZE" else 1.0

    @property
    def flat(self) -> bool:
        """Whether all trials have the same score."""
        return len({trial.value for trial in self.trials}) < 2

    @property
    def counted(self) -> str:
        """How many trials a picture shows."""
        cut = f" ({self.pruned} pruned)" if self.pruned else ""
        return f"{len(self.trials)} of {len(self.study.get_trials(deepcopy=False))} trials{cut}"


def draw(study: Study, folder: Path, title: str, spent: Sequence[tuple[int, float]], aims: Sequence[str]) -> None:
    """Write every picture that can be drawn into `folder`. Matplotlib is set to draw without a window system.

    Args:
        study: The study.
        folder: Where the pictures go; it has to exist.
        title: The first line of every picture.
        spent: In order, epochs trained so far in the whole search, and the latest or best score by then.
        aims: The names of the study's values.

    Raises:
        AgrError: There are not as many aims as values.
    """
    from search import optuna_plots as plots

    if len(aims) != len(study.directions):
        raise AgrError(f"aims {', '.join(aims)}: expected {len(study.directions)}, as many as the study has")
    with _quiet():
        view = view_of(study, aims[0], title)
        if spent:
            plots.best_so_far(view, spent, folder / "best_so_far.png")
        if view.trials:
            plots.history(view, folder / "history.png")
        if view.names:
            _by_hyperparameter(view, view_of(own(study), aims[0], title), folder)
        if len(aims) > 1 and study.best_trials:
            write_pareto(study, aims, folder / "pareto.csv")
            if len(aims) <= 3:
                plots.pareto(study, aims, title, folder / "pareto.png")


def _by_hyperparameter(view: View, own: View, folder: Path) -> None:
    """The pictures that look at hyperparameters, the most important first. own: the study's own trials alone."""
    from search import optuna_plots as plots

    shares = importances(own)
    ranked = sorted(view.names, key=lambda name: -shares.get(name, 0.0))
    plots.slices(view, ranked, folder / "slice.png")
    plots.parallel(view, ranked, folder / "parallel.png")
    if len(ranked) > 1 and not view.flat:
        plots.contour(view, ranked[0], ranked[1], folder / "contour.png")
    if shares:
        plots.importances(own, evaluator(own), quantile(own), folder / "importances.png")


def own(study: Study) -> Study:
    """A study without the trials of other searches, for importances.

    A grid's trials differ in few hyperparameters, so those that they have in common would seem important.
    """
    import optuna

    copy = optuna.create_study(directions=study.directions)
    copy.add_trials([trial for trial in study.get_trials(deepcopy=False) if "run_id" not in trial.user_attrs])
    return copy


def view_of(study: Study, aim: str, title: str) -> View:
    """A copy of a study for its pictures: the first aim only, with the same trial numbers.

    Optuna's plots have an argument `target` for this, but with it they, and PED-ANOVA, assume that lower is better.
    """
    import optuna
    from optuna.trial import TrialState

    copy = optuna.create_study(direction=study.directions[0])
    for trial in study.get_trials(deepcopy=False):
        copy.add_trial(_finished(trial, study))
    trials = copy.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    trials = [trial for trial in trials if trial.value is not None and math.isfinite(trial.value)]
    first = trials[0].params if trials else {}
    shared = [name for name in first if all(name in trial.params for trial in trials)]
    names = [name for name in shared if any(trial.params[name] != first[name] for trial in trials)]
    states = [trial.state for trial in study.get_trials(deepcopy=False)]
    pruned = sum(states[trial.number] == TrialState.PRUNED for trial in trials)
    return View(copy, trials, names, pruned, aim, title)


def _finished(trial: FrozenTrial, study: Study) -> FrozenTrial:
    """The trial as a finished one with its score; as a failed one if it has none."""
    from optuna.trial import TrialState, create_trial

    better = max if study.directions[0].name == "MAXIMIZE" else min
    reported = [value for value in trial.intermediate_values.values() if math.isfinite(value)]
    if trial.state == TrialState.COMPLETE:
        value = trial.values[0]
    elif trial.state == TrialState.PRUNED and reported:
        value = better(reported)
    else:
        return create_trial(state=TrialState.FAIL)
    return create_trial(value=value, params=trial.params, distributions=trial.distributions)


def importances(view: View) -> dict[str, float]:
    """PED-ANOVA's shares by name, largest first; {} if there is too little to compare."""
    import optuna

    if len(view.names) < 2 or not quantile(view):
        return {}
    return optuna.importance.get_param_importances(view.study, evaluator=evaluator(view), params=list(view.names))


def evaluator(view: View) -> PedAnovaImportanceEvaluator:
    """PED-ANOVA with the share of best trials that suits this study."""
    from optuna.importance import PedAnovaImportanceEvaluator

    return PedAnovaImportanceEvaluator(target_quantile=quantile(view))


def quantile(view: View) -> float:
    """The share of trials that count as the best: a tenth or five, at most half; 0 if equal scores make it all."""
    if len(view.trials) < 2:
        return 0.0
    share = min(0.5, max(0.1, BEST_TRIALS / len(view.trials)))
    losses = sorted(view.sign * (trial.value or 0.0) for trial in view.trials)
    return share if losses[math.ceil(share * len(losses)) - 1] < losses[-1] else 0.0


def write_pareto(study: Study, aims: Sequence[str], path: Path) -> None:
    """A table of the trials that no other one beats in every aim, best of the first aim first."""
    sign = -1.0 if study.directions[0].name == "MAXIMIZE" else 1.0
    front = sorted(study.best_trials, key=lambda trial: sign * trial.values[0])
    names = list(dict.fromkeys(name for trial in front for name in trial.params))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["trial", *aims, *names])
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

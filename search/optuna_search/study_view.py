"""A view of an Optuna study for its plots: the trials that count, and the importance of hyperparameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import optuna
from optuna import Study
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState, create_trial

BEST_TRIALS = 5  # the fewest trials that PED-ANOVA compares with the others


@dataclass(frozen=True)
class View:
    """What a plot shows of a study."""

    study: Study  # a copy with the first objective only, in which pruned trials count as finished
    trials: Sequence[FrozenTrial]  # those with finite scores
    names: Sequence[str]  # the hyperparameters that differ between them
    pruned: int  # how many of them were pruned
    objective: str  # the name of the score
    title: str  # the first line of every plot

    @property
    def sign(self) -> float:
        """The factor by which lower scores become better."""
        return -1.0 if self.study.direction.name == "MAXIMIZE" else 1.0

    @property
    def colours(self) -> str:
        """The colour map of scores, in which better ones are brighter."""
        return "viridis" if self.sign < 0 else "viridis_r"

    @property
    def flat(self) -> bool:
        """Whether all trials have the same score."""
        return len({trial.value for trial in self.trials}) < 2

    @property
    def trial_counts(self) -> str:
        """How many trials a plot shows, as text."""
        cut = f" ({self.pruned} pruned)" if self.pruned else ""
        return f"{len(self.trials)} of {len(self.study.get_trials(deepcopy=False))} trials{cut}"


def own_trials(study: Study) -> Study:
    """A copy without the trials of other searches, whose common hyperparameters would seem important."""
    copy = optuna.create_study(directions=study.directions)
    copy.add_trials([trial for trial in study.get_trials(deepcopy=False) if "run_id" not in trial.user_attrs])
    return copy


def view_of(study: Study, objective: str, title: str) -> View:
    """A copy of a study with the first objective only and the same trial numbers.

    Optuna's plots have an argument `target` for this, but with it they, and PED-ANOVA, assume that lower is better.
    """
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
    return View(copy, trials, names, pruned, objective, title)


def _finished(trial: FrozenTrial, study: Study) -> FrozenTrial:
    """A finished trial with the trial's score, or a failed one if it has none."""
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
    """PED-ANOVA's importances by name, largest first; {} if there are too few trials or hyperparameters."""
    if len(view.names) < 2 or not quantile(view):
        return {}
    return optuna.importance.get_param_importances(view.study, evaluator=evaluator(view), params=list(view.names))


def evaluator(view: View) -> PedAnovaImportanceEvaluator:
    """PED-ANOVA with this study's share of best trials."""
    return PedAnovaImportanceEvaluator(target_quantile=quantile(view))


def quantile(view: View) -> float:
    """The share of trials that count as the best: a tenth, at least BEST_TRIALS, at most half; 0 if all would."""
    if len(view.trials) < 2:
        return 0.0
    share = min(0.5, max(0.1, BEST_TRIALS / len(view.trials)))
    losses = sorted(view.sign * (trial.value or 0.0) for trial in view.trials)
    return share if losses[math.ceil(share * len(losses)) - 1] < losses[-1] else 0.0

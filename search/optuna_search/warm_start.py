"""Warm start: a study continues after a kill, and learns the trials of earlier searches from MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import optuna
from optuna.trial import TrialState, create_trial

from agr.common.processes import driver, is_dead
from agr.errors import SettingsError
from search.driver.context import SearchContext
from search.optuna_search.ask_tell import AskTell, Expand
from search.optuna_search.ranges import Value
from search.optuna_search.space import Space
from search.tasks.base import Config, Objective, Point, pluralize

if TYPE_CHECKING:
    from agr.registry.records import FinishedTrial

TAGS = ("data_digest", "split_digest", "recipe")  # must be equal for one search to learn from another
Types = Mapping[str, type[Value]]


def replay_study(context: SearchContext, ask_tell: AskTell, expand: Expand) -> int:
    """Replay finished trials from their stages, enqueue again those that a dead driver was running, count all."""
    known = ask_tell.study.get_trials(deepcopy=False)
    for trial in known:
        if trial.state == TrialState.RUNNING and _left(trial.user_attrs.get("driver", "")):
            wanted = trial.system_attrs.get("fixed_params", {}) | trial.params  # of an enqueued trial; what was drawn
            ask_tell.study.enqueue_trial(wanted, {"driver": driver()})  # before the next line: a kill then loses none
            ask_tell.study.tell(trial.number, state=TrialState.FAIL)
        ask_tell.spent += int(trial.user_attrs.get("spent", 0))
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and "config" in trial.user_attrs:
            _replay(context, trial, expand(trial.user_attrs["config"]))
    return len(known)


def _left(maker: str) -> bool:
    """Whether the driver of a trial is dead; also if this process has its process id now."""
    return maker == driver() or is_dead(maker)


def _replay(context: SearchContext, trial: optuna.trial.FrozenTrial, points: Sequence[Point]) -> None:
    context.claim(points)
    for fold, point in enumerate(points):
        stage = context.store.deepest(context.lineage(point), point.rates()) if context.store else None
        if stage is not None:
            context.replay(f"recalled-{trial.number}-{fold}", point, stage, trial.user_attrs["reached"])


def add_finished(
    study: optuna.Study, space: Space, base: Config, found: Sequence[FinishedTrial], objective: Objective, types: Types
) -> list[dict[str, Value]]:
    """Add the finished trials of other searches to a study; returns their hyperparameters, best first.

    Trials outside the space, or with other values of the settings in `base`, are left out.
    """
    distributions = space.distributions()
    trials = study.get_trials(deepcopy=False)
    known = {trial.user_attrs.get("run_id") for trial in trials}
    own = {_besides_epochs(trial.params) for trial in trials if "config" in trial.user_attrs}
    seen = {(frozenset(trial.params.items()), trial.values[0]) for trial in trials if "run_id" in trial.user_attrs}
    added = []
    for run in found:
        config, value = _read(run, objective, types)
        if config is None or value is None or run.run_id in known or mismatches(config, space, base):
            continue
        params = {name: config[name] for name in distributions}
        trace = frozenset(params.items()), value
        if _besides_epochs(params) in own or trace in seen:  # a repeated search logs the same trials
            continue
        seen.add(trace)
        study.add_trial(
            create_trial(params=params, distributions=distributions, value=value, user_attrs={"run_id": run.run_id})
        )
        added.append((value if objective.highest else -value, params))
    return [params for _, params in sorted(added, key=lambda pair: -pair[0])]


def _besides_epochs(params: Config) -> frozenset[tuple[str, object]]:
    return frozenset((name, value) for name, value in params.items() if name != "epochs")


def _read(run: FinishedTrial, objective: Objective, types: Types) -> tuple[dict[str, Value] | None, float | None]:
    """The settings of a run and its value of the objective; None for what cannot be read."""
    try:
        found = ((name, text, types[name]) for name, text in run.params.items() if name in types)
        config = {name: text == "True" if kind is bool else kind(text) for name, text, kind in found}
    except ValueError:
        return None, None
    if "fold" in run.params:
        return None, None
    if "chosen_epoch" in run.metrics:
        config["epochs"] = int(run.metrics["chosen_epoch"])
    return config, run.metrics.get(f"chosen_{objective.metric}", run.metrics.get(objective.metric))


def mismatches(config: Config, space: Space, base: Config) -> list[str]:
    """The settings that keep a trial out of this search: outside its space, or different from its fixed settings."""
    others = {name: value for name, value in base.items() if name in config and name not in space.varied}
    return space.outside(config) + [n for n, value in others.items() if n != "seed" and config[n] != value]


def describe_mismatches(
    space: Space, base: Config, found: Sequence[FinishedTrial], objective: Objective, types: Types
) -> str:
    """The message that no earlier trial fits this search, and which settings keep them out."""
    configs = [config for config, _ in (_read(run, objective, types) for run in found) if config is not None]
    names = {name for config in configs for name in mismatches(config, space, base)}
    why = f"; outside its space, or different: {', '.join(sorted(names))}" if names else ""
    return f"known: none of {pluralize(len(found), 'finished trial')} of earlier searches fits this one{why}"


def check_space(space: Space, expand: Expand) -> None:
    """Raises: SettingsError if the space allows a value that the task refuses."""
    for config in space.edges():
        try:
            expand(config)
        except SettingsError as error:
            raise SettingsError(f"--space: {error}") from error

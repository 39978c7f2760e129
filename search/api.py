"""Searches from Python; `import search` has both.

    result = search.grid("voices.csv", epochs=[5, 10], lr=[0.001], workers=4)
    result = search.optuna("voices.csv", budget=150)
    result.scores, result.version                     # of the champion, on the test speakers and in the registry

They do what `run_grid.py` and `run_optuna.py` do, and print what those print. A search trains in processes of its own:
a script needs `if __name__ == "__main__":`.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

from agr.errors import AgrError, SettingsError
from search import grid_search
from search.driver.earlier import EarlierSearch
from search.driver.run import Ending, conduct
from search.options import DEFAULTS, plan_of
from search.optuna_search import options as optuna_options
from search.optuna_search.ranges import Value
from search.outbox.mlflow_process import MlflowProcess

if TYPE_CHECKING:
    from search.results.champion import SearchResult

Sources = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


class Running(TypedDict, total=False):
    """Options of every search, as the flags of these names; `trainable` is `MODULE:FUNCTION`."""

    recipe: str | None
    split: str
    folds: int | None
    fold: int | None
    leave_out: str | None
    seed: int
    workers: int | None
    gpus_per_trial: float
    cuda: bool
    mps: bool
    address: str | None
    storage: str | None
    stage_store: str | None
    name: str | None
    tracking_uri: str | None
    experiment: str | None
    promote: bool
    trainable: str | None
    temperature: float | None


def grid(
    data: Sources = "demo",
    *,
    epochs: Sequence[int] | None = None,
    lr: Sequence[float] | None = None,
    gamma: Sequence[float] | None = None,
    model: str = "cnn",
    start: str | None = None,
    axes: Mapping[str, Sequence[Value]] | None = None,
    augmentation: bool = True,
    augment: Mapping[str, float] | None = None,
    lanes: str = "separate",
    precision: Sequence[str] | None = None,
    again: bool = False,
    **running: Unpack[Running],
) -> SearchResult:
    """Train every point of a grid, test the best one and register it.

    Args:
        data: One or more sources: demo, audiomnist, a folder, a CSV manifest.
        epochs, lr, gamma: The values of these axes; by default those of the paper.
        model: cnn, pooled or towers; cnn is replaced by towers for recipe voice112.
        start: champion begins every trial with the weights of the one that comes with AGR.
        axes: Values of further settings, by name.
        augmentation: False trains on the unchanged clips, without dropout.
        augment: Strengths of augmentation that differ from the default, by name.
        precision: float32, bf16 or both.
        lanes: fused trains points together as one batch of models, for GPUs.
        again: Log the search once more though it is there already; by default its result is returned.
        **running: See `Running`.

    Raises:
        AgrError: The options do not fit together, the data cannot be used, or no trial finished.
        KeyboardInterrupt: After Ctrl-C; the same call goes on where this one ended.
    """
    asked = _options(data, running)
    vars(asked).update(
        epochs=epochs, lr=lr, gamma=gamma, model=model, start=start, lanes=lanes, no_augmentation=not augmentation
    )
    asked.precision, asked.again = precision, again
    asked.axis = [(name, *map(str, values)) for name, values in (axes or {}).items()]
    asked.augment = [f"{name}={strength}" for name, strength in (augment or {}).items()]
    with MlflowProcess() as mlflow_process:
        return _result(conduct(*grid_search.build_search(asked, "search.grid"), mlflow_process)[1])


def optuna(
    data: Sources = "demo",
    *,
    budget: int | None = None,
    seconds: float | None = None,
    sampler: str = "tpe",
    scheduler: str | None = None,
    space: str | os.PathLike[str] | None = None,
    objectives: Sequence[str] = (),
    warm_start: bool = True,
    study_storage: str | None = None,
    score_folds: int = 0,
    repeat_best: int = 0,
    **running: Unpack[Running],
) -> SearchResult:
    """Let Optuna propose trials within a budget, test the best one and register it.

    Args:
        data: One or more sources: demo, audiomnist, a folder, a CSV manifest.
        budget: Train at most this many epochs; by default 150, or none with `seconds`.
        seconds: Stop after this time.
        sampler: tpe, gp, cmaes, random or nsga2.
        scheduler: asha, hyperband or none; by default asha, and none with several objectives or folds.
        space: A TOML file with the search space.
        objectives: balanced_accuracy (the default), loss, calibration or latency.
        warm_start: Learn from the trials of earlier searches.
        study_storage: A journal file or a database URL.
        score_folds: Score trials on this many folds of all but the test speakers.
        repeat_best: Train this many of the best points with two more seeds.
        **running: See `Running`.

    Raises:
        AgrError: The options do not fit together, the data cannot be used, or no trial finished.
        KeyboardInterrupt: After Ctrl-C; the same call goes on where this one ended.
    """
    asked = _options(data, running)
    vars(asked).update(budget=budget, time=seconds, sampler=sampler, scheduler=scheduler, objective=list(objectives))
    vars(asked).update(space=Path(space) if space else None, no_warm_start=not warm_start, study_storage=study_storage)
    vars(asked).update(score_folds=score_folds, repeat_best=repeat_best)
    with MlflowProcess() as mlflow_process:
        plan = plan_of(asked, "search.optuna")
        made = optuna_options.custom_search(asked) if asked.trainable else optuna_options.agr_search(asked, plan)
        return _result(conduct(plan, *made, mlflow_process)[1])


def _options(data: Sources, running: Running) -> Namespace:
    """What a command line with these options gives. Raises: SettingsError for an unknown one."""
    names = Running.__annotations__
    if unknown := sorted(set(running) - set(names)):
        raise SettingsError(f"{unknown[0]}: no option of a search; expected one of {', '.join(names)}")
    usual: dict[str, object] = {"gpus_per_trial": 1.0, "cuda": True, "mps": True, "promote": False}
    sources = [data] if isinstance(data, str | os.PathLike) else data
    given = dict.fromkeys(names) | DEFAULTS | usual | running
    return Namespace(**given | {"data": [os.fspath(source) for source in sources]})


def _result(ending: Ending) -> SearchResult:
    if ending is None:
        raise KeyboardInterrupt
    if isinstance(ending, AgrError):
        raise ending
    return ending.result() if isinstance(ending, EarlierSearch) else ending

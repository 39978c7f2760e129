"""The problem of a trainable: its points, the description of its trials, and its champion in the registry.

The champion is registered under the module's name, as `weights.safetensors`, the state that `fit` reported, and
`config.json`. The alias `best` moves to it if its score is better than that of the best version so far.
"""

from __future__ import annotations

import functools
import itertools
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import save_file
from torch import Tensor

from agr.errors import AgrError, SettingsError, TrainingError
from agr.registry.records import FinishedSearch
from agr.registry.uri import BEST
from search.problems.problem import Problem
from search.results.promotion import Decision, promote_version
from search.session.session import Record, Session
from search.tasks.base import Config, TrialSchema
from search.tasks.custom import (
    RESERVED,
    CustomEpoch,
    CustomPoint,
    CustomTask,
    custom_point,
    function_of,
    module_of,
    objective_of,
    source_digest,
)

if TYPE_CHECKING:
    from search.results.champion import SearchResult

WEIGHTS, CONFIG = "weights.safetensors", "config.json"


def problem(path: str, axes: Sequence[str] | None = None, optuna: bool = False) -> Problem:
    """The problem of a trainable, `module:function`. Raises: SettingsError if the module lacks something.

    axes: The settings that name trials; by default those of GRID.
    optuna: Whether Optuna proposes the trials, and may prune them.
    """
    function_of(path)
    objective = objective_of(path)
    schema = TrialSchema(
        functools.partial(custom_point, path),
        CustomEpoch,
        objective,
        tie="",
        columns={objective.metric: objective.label},
        axes=tuple(axes or grid_of(path)),
        best_epoch=optuna,
        prunes=optuna,
    )
    source = source_digest(path)[:16]
    model = str(getattr(module_of(path), "MODEL", path.partition(":")[0].rpartition(".")[2]))
    return Problem(
        task=CustomTask(path, schema),
        name=path.partition(":")[0],
        tags={"trainable": path, "data_digest": source},
        params={},
        digest=source,
        source=path,
        lines=(f"{path}, {objective.label}",),
        conclude=functools.partial(conclude, path=path),
        recall=functools.partial(recall, model=model),
        experiment=model,
        model=model,
    )


def grid_of(path: str, given: Mapping[str, Sequence[object] | None] | None = None) -> dict[str, Sequence[object]]:
    """The axes of the grid: the module's GRID, with some values replaced. Raises: SettingsError."""
    grid = getattr(module_of(path), "GRID", None)
    if not isinstance(grid, Mapping) or "epochs" not in grid or not all(grid.values()):
        raise SettingsError(f"--trainable {path}: GRID {grid!r}; expected lists of values by name, epochs among them")
    known: dict[str, Sequence[object]] = {name: list(values) for name, values in grid.items()}
    for name, values in (given or {}).items():
        if values and name not in known:
            raise SettingsError(f"--{name}: not in GRID of {path}; expected one of {', '.join(known)}")
        known |= {name: list(values)} if values else {}
    return known


def points_of(path: str, grid: Mapping[str, Sequence[object]]) -> tuple[CustomPoint, ...]:
    """Every combination of the values, once."""
    every = itertools.product(*(dict.fromkeys(values) for values in grid.values()))
    return tuple(custom_point(path, dict(zip(grid, values, strict=True))) for values in every)


def conclude(
    session: Session, tags: Mapping[str, object], promote: bool, ranking: Sequence[Record] | None, path: str
) -> SearchResult:
    """Test the champion if the module has `test`, register it, move `best` if it is better. Raises: AgrError."""
    from search.results.champion import SearchResult

    ranking = session.ranking(ranking)
    session.settle()
    champion = ranking[0]
    if champion.weights is None:
        raise AgrError(f"trial {champion.run_id}: no state kept; expected its final stage")
    state = dict(champion.weights())
    config = champion.settings.config() | {"epochs": champion.chosen.epoch}
    numbers = {name: float(value) for name, value in vars(champion.chosen).items() if name not in RESERVED}
    tested = _tested(path, config, state)
    session.tracker.log_metrics(session.parent, numbers | tested)
    session.tracker.set_tags(session.parent, {f"champion_{name}": value for name, value in champion.named.items()})
    with tempfile.TemporaryDirectory() as folder:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, str(Path(folder) / WEIGHTS))
        card = {"trainable": path, "config": config, "validation": numbers, "test": tested}
        (Path(folder) / CONFIG).write_text(json.dumps(card, indent=1), encoding="utf-8")
        score, judged = _score(champion, numbers, tested)
        marks = {"score": repr(score), "judged_by": judged, "search": session.name}
        version = session.tracker.register_files(champion.run_id, Path(folder), marks)
    alias, reason = promote_version(session.tracker, version, lambda: _judge(session, score, judged), promote)
    return SearchResult(ranking, None, version, alias, reason, model=session.tracker.model, tested=tested)


def recall(found: FinishedSearch, ranking: Sequence[Record], tags: Mapping[str, object], model: str) -> SearchResult:
    """The result of a search that was done before; what `test` returned is read from the run."""
    from search.results.champion import SearchResult

    chosen, best = vars(ranking[0].chosen), f"best_{ranking[0].schema.objective.metric}"
    tested = {name: value for name, value in found.metrics.items() if name != best and chosen.get(name) != value}
    return SearchResult(ranking, None, found.version, found.alias, "it is there already", model, tested)


def _tested(path: str, config: Config, state: Mapping[str, Tensor]) -> dict[str, float]:
    """The metrics of the module's `test`, which gets copies of the arrays; {} without `test`."""
    if not hasattr(module_of(path), "test"):
        return {}
    found = function_of(path, "test")(dict(config), {name: tensor.numpy().copy() for name, tensor in state.items()})
    if not isinstance(found, Mapping):
        raise TrainingError(f"--trainable {path}: test returned {found!r}; expected numbers by name")
    return {str(name): float(value) for name, value in found.items()}


def _score(champion: Record, numbers: Mapping[str, float], tested: Mapping[str, float]) -> tuple[float, str]:
    """The score that versions are compared by, higher is better, and its name; on test data if `test` returns it."""
    objective = champion.schema.objective
    for where, found in (("test", tested), ("validation", numbers)):
        for name in (objective.metric, objective.metric.replace("val_", "test_", 1)):
            if name in found:
                return (found[name] if objective.highest else -found[name]), f"{where} {name}"
    return champion.score, f"validation {objective.metric}"


def _judge(session: Session, score: float, judged: str) -> tuple[int | None, Decision]:
    """The best version so far, and whether this score beats it."""
    found = session.tracker.tags_by_alias(BEST)
    if found is None:
        return None, Decision(True, "the first registered version")
    best, marks = found
    if marks.get("judged_by") != judged:
        return best, Decision(False, f"the best was judged by {marks.get('judged_by')}, this one by {judged}")
    other = float(marks["score"])
    return best, Decision(score > other, f"{judged} {abs(score):.4f} against {abs(other):.4f}")

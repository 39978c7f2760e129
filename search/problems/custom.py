"""A search of your own trainable: its points, how its trials are read, and its champion in the registry.

The champion is registered under the module's own name: `weights.safetensors`, the state that `fit` reported, and
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
from agr.registry.uri import BEST
from search.problems.problem import Problem
from search.results.promotion import Decision, award
from search.session.session import Record, Session
from search.tasks.base import Config, Kind
from search.tasks.custom import (
    OWN,
    Custom,
    CustomPoint,
    Reported,
    function_of,
    module_of,
    objective_of,
    point_of,
    source_digest,
)

if TYPE_CHECKING:
    from search.results.champion import Ending

WEIGHTS, CONFIG = "weights.safetensors", "config.json"


def subject(path: str, axes: Sequence[str] | None = None, hunts: bool = False) -> Problem:
    """What is searched.

    Args:
        path: The trainable, `module:function`.
        axes: The settings by which trials are named; by default those of GRID.
        hunts: Whether Optuna chooses the trials, and may end them early.

    Raises:
        SettingsError: The module does not have what `search.tasks.custom` asks for.
    """
    function_of(path)
    aim = objective_of(path)
    kind = Kind(
        functools.partial(point_of, path),
        Reported,
        aim,
        tie="",
        columns={aim.metric: aim.says},
        axes=tuple(axes or grid_of(path)),
        best_epoch=hunts,
        prunes=hunts,
    )
    source = source_digest(path)[:16]
    model = str(getattr(module_of(path), "MODEL", path.partition(":")[0].rpartition(".")[2]))
    return Problem(
        task=Custom(path, kind),
        name=path.partition(":")[0],
        tags={"trainable": path, "data_digest": source},
        params={},
        digest=source,
        source=path,
        lines=(f"{path}, {aim.says}",),
        conclude=functools.partial(conclude, path=path),
        experiment=model,
        model=model,
    )


def grid_of(path: str, given: Mapping[str, Sequence[object] | None] | None = None) -> dict[str, Sequence[object]]:
    """The axes of a grid: the module's GRID, or the values given in its place. Raises: SettingsError."""
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
    names = tuple(grid)
    every = itertools.product(*(dict.fromkeys(values) for values in grid.values()))
    return tuple(point_of(path, dict(zip(names, values, strict=True))) for values in every)


def conclude(
    session: Session, tags: Mapping[str, object], promote: bool, ranking: Sequence[Record] | None, path: str
) -> Ending:
    """Test the champion if the module can, register it, move `best` if it is better. Raises: AgrError."""
    from search.results.champion import Ending

    ranking = session.ranking(ranking)
    session.settle()
    champion = ranking[0]
    if champion.weights is None:
        raise AgrError(f"trial {champion.run_id}: no state kept; expected its final stage")
    state = dict(champion.weights())
    config = champion.settings.config() | {"epochs": champion.chosen.epoch}
    numbers = {name: float(value) for name, value in vars(champion.chosen).items() if name not in OWN}
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
    alias, reason = award(session.tracker, version, lambda: _judge(session, score, judged), promote)
    return Ending(ranking, None, version, alias, reason, model=session.tracker.model, tested=tested)


def _tested(path: str, config: Config, state: Mapping[str, Tensor]) -> dict[str, float]:
    """What the module's `test` says; {} without one. It gets copies: what it changes is not registered."""
    if not hasattr(module_of(path), "test"):
        return {}
    found = function_of(path, "test")(dict(config), {name: tensor.numpy().copy() for name, tensor in state.items()})
    if not isinstance(found, Mapping):
        raise TrainingError(f"--trainable {path}: test returned {found!r}; expected numbers by name")
    return {str(name): float(value) for name, value in found.items()}


def _score(champion: Record, numbers: Mapping[str, float], tested: Mapping[str, float]) -> tuple[float, str]:
    """What versions are compared by, more is better, and its name: the aim on test data if `test` gave it."""
    aim = champion.kind.aim
    for where, found in (("test", tested), ("validation", numbers)):
        for name in (aim.metric, aim.metric.replace("val_", "test_", 1)):
            if name in found:
                return (found[name] if aim.highest else -found[name]), f"{where} {name}"
    return champion.score, f"validation {aim.metric}"


def _judge(session: Session, score: float, judged: str) -> tuple[int | None, Decision]:
    """The best version so far, and whether one with this score replaces it."""
    found = session.tracker.tags_by_alias(BEST)
    if found is None:
        return None, Decision(True, "the first registered version")
    best, marks = found
    if marks.get("judged_by") != judged:
        return best, Decision(False, f"the best was judged by {marks.get('judged_by')}, this one by {judged}")
    other = float(marks["score"])
    return best, Decision(score > other, f"{judged} {abs(score):.4f} against {abs(other):.4f}")

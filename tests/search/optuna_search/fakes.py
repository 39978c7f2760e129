"""Fakes for the tests of Optuna's strategy: small images, and trials that are read from the stage store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agr.data.splits import inner
from agr.registry.records import FinishedTrial
from search import run_optuna
from search.driver.context import SearchContext
from search.options import plan_of
from search.optuna_search.ask_tell import AskTell, Budget
from search.optuna_search.ranges import Range
from search.optuna_search.space import Space, known_settings
from search.optuna_search.strategy import OptunaStrategy
from search.problems.problem import Problem
from search.session.session import Session
from search.stages.leases import Leaseholder
from search.stages.store import Stage, StageStore
from search.tasks.agr_task import AGR_SCHEMA, AgrPoint, AgrTask
from search.tasks.base import ACCURACY, Point, TrialSchema
from tests.search.fakes import FakeTracker, epoch, made_stage, small_split

OPTUNA_SCHEMA = replace(AGR_SCHEMA, best_epoch=True, prunes=True)
SPACE = Space({"epochs": Range(2, 6), "lr": Range(0.001, 0.1, log=True)}, {"gamma": 0.5})
BASE = {"seed": 0, "batch_size": 32, "model": "cnn"}


@dataclass
class FakeTrackerWithTrials(FakeTracker):
    """A tracker that has finished trials of other searches."""

    found: list[FinishedTrial] = field(default_factory=list)
    asked_for: list[Mapping[str, str]] = field(default_factory=list)

    def finished_trials(self, tags: Mapping[str, str]) -> list[FinishedTrial]:
        self.asked_for.append(tags)
        return self.found


def forbidden(*_: object, **__: object) -> Any:
    raise AssertionError("neither Ray nor a result is wanted here")


def context(folder: Path, kind: TrialSchema[AgrPoint] = OPTUNA_SCHEMA) -> SearchContext:
    """An context of which nothing may be trained. Its tracker is a `FakeTrackerWithTrials`."""
    data, split = small_split()
    tracker, store = FakeTrackerWithTrials(), StageStore(str(folder))
    session = Session("search", tracker, tracker.start_run("search", {}, {}), {}, 0, kind)
    tags = {"data_digest": data.digest, "split_digest": split.digest, "recipe": "mfcc", "split": split.name}
    task = AgrTask(data, split, inner(data, split, 2), kind)
    problem = Problem(task, "made", tags, {}, data.digest, "made", (), forbidden, forbidden)
    plan = plan_of(run_optuna.parse([]), "search/run_optuna.py")
    return SearchContext(plan, problem, session, "cpu", store, Leaseholder(store, session.id, ()), forbidden)


def keep(where: SearchContext, point: Point, scores: Sequence[float], **metrics: float) -> None:
    """Store a stage after each epoch of a point, with these validation scores."""
    assert where.store is not None
    for count in range(1, len(scores) + 1):
        known = enumerate(scores[:count], start=1)
        history = tuple(epoch(number, val_balanced_accuracy=score, **metrics) for number, score in known)
        state = replace(made_stage(count, seed=count).state, history=history)
        where.store.put(where.lineage(point).key(point.rates()[:count]), Stage(state, ("old",) * count, {}))


def strategy(storage: Path | str, epochs: int | None = 20, **others: Any) -> OptunaStrategy:
    """A strategy on the space above, with the study in this file."""
    known: dict[str, Any] = {
        "space": SPACE,
        "base": BASE,
        "first": {"epochs": 4, "lr": 0.01},
        "budget": Budget(epochs),
        "sampler": "random",
        "scheduler": "none",
        "objectives": (ACCURACY,),
        "folds": 0,
        "repeat_best": 0,
        "warm_start": True,
        "storage": str(storage),
        "seed": 0,
        "kinds": known_settings(),
    }
    return OptunaStrategy(**(known | others))


def ask_tell(made: OptunaStrategy, where: SearchContext) -> AskTell:
    """The ask-and-tell that a strategy makes."""
    return made.ask_tell(where, made.study(where.problem))

"""What the tests of hunts share: an arena over small images whose trials are read from the stage store, not trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import quiet  # noqa: F401
from parts import FakeTracker, epoch, made_stage, small_split

from agr.logged import Finished
from agr.splits import inner
from search import run_optuna
from search.hunt import Hunt
from search.leases import Leaseholder
from search.ledger import Budget, Ledger
from search.options import plan_of
from search.outbox import Outbox
from search.ranges import Range
from search.session import Session
from search.space import Space, known_settings
from search.stages import Stage, StageStore
from search.study import Arena
from search.subject import Subject
from search.task import ACCURACY, VOICES, AgrPoint, Kind, Point, Voices

HUNTED = replace(VOICES, best_epoch=True, prunes=True)
SPACE = Space({"epochs": Range(2, 6), "lr": Range(0.001, 0.1, log=True)}, {"gamma": 0.5})
BASE = {"seed": 0, "batch_size": 32, "model": "cnn"}


@dataclass
class Finding(FakeTracker):
    """A tracker that has finished trials of other searches."""

    found: list[Finished] = field(default_factory=list)
    asked_for: list[Mapping[str, str]] = field(default_factory=list)

    def finished(self, tags: Mapping[str, str]) -> list[Finished]:
        self.asked_for.append(tags)
        return self.found


def forbidden(*_: object, **__: object) -> Any:
    raise AssertionError("neither Ray nor an ending is wanted here")


def arena(folder: Path, kind: Kind[AgrPoint] = HUNTED) -> Arena:
    """An arena of which nothing may be trained. Its tracker is a `Finding`."""
    data, split = small_split()
    tracker, store = Finding(), StageStore(str(folder))
    session = Session("hunt", cast(Outbox, tracker), tracker.start_run("hunt", {}, {}), {}, 0, kind)
    tags = {"data_digest": data.digest, "split_digest": split.digest, "recipe": "mfc", "split": split.name}
    task = Voices(data, split, inner(data, split, 2), kind)
    subject = Subject(task, "made", tags, {}, data.digest, "made", (), forbidden)
    plan = plan_of(run_optuna.parse([]), "search/run_optuna.py")
    return Arena(plan, subject, session, "cpu", store, Leaseholder(store, session.id, ()), forbidden)


def keep(where: Arena, point: Point, scores: Sequence[float], **metrics: float) -> None:
    """Store a stage after each epoch of a point, with these validation scores."""
    assert where.store is not None
    for count in range(1, len(scores) + 1):
        known = enumerate(scores[:count], start=1)
        history = tuple(epoch(number, val_balanced_accuracy=score, **metrics) for number, score in known)
        state = replace(made_stage(count, seed=count).state, history=history)
        where.store.put(where.lineage(point).key(point.rates()[:count]), Stage(state, ("old",) * count, {}))


def hunt(storage: Path | str, epochs: int | None = 20, **others: Any) -> Hunt:
    """A hunt on the space above, whose study is in this file."""
    known: dict[str, Any] = {
        "space": SPACE,
        "base": BASE,
        "first": {"epochs": 4, "lr": 0.01},
        "budget": Budget(epochs),
        "sampler": "random",
        "scheduler": "none",
        "aims": (ACCURACY,),
        "folds": 0,
        "repeat_best": 0,
        "warm_start": True,
        "storage": str(storage),
        "seed": 0,
        "kinds": known_settings(),
    }
    return Hunt(**(known | others))


def ledger(made: Hunt, where: Arena) -> Ledger:
    """A hunt's ledger, as it makes it itself."""
    return made.ledger(where, made.study(where.subject))

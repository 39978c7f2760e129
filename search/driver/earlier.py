"""A search that was done before: the same points on the same data, whose trials and champion MLflow has already."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agr import __version__
from agr.errors import AgrError, StoreError
from agr.registry.records import VERSION, FinishedSearch, Store, as_text
from agr.registry.uri import BEST
from search.plan import Plan
from search.problems.problem import Problem
from search.session.session import FINISHED, Record, Session, ranked
from search.stages.store import Lineage, StageStore, final_weights
from search.tasks.base import EpochMetrics, Point, lineage_of

if TYPE_CHECKING:
    from search.results.champion import SearchResult

TAG = "plan"  # of a search's run, once it is whole: `identity`


def identity(plan: Plan, problem: Problem, points: Sequence[Point], device: str) -> str:
    """16 hex digits for all that determines a search and its champion, and its name; "" if that is not known.

    The lineages hold data, split, recipe, settings, training code and device.
    """
    lineages = [problem.task.lineage(point, device) for point in points]
    known: list[Lineage] = [lineage for lineage in lineages if lineage is not None]
    if not points or len(known) < len(points):
        return ""
    each = zip(known, points, strict=True)
    what = sorted((lineage.key(point.rates()), sorted(as_text(point.config()).items())) for lineage, point in each)
    about = __version__, plan.name, problem.model, problem.digest, sorted(as_text(problem.tags).items())
    return hashlib.sha256(repr((what, about, plan.temperature)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class EarlierSearch:
    """A finished search that the same plan would only repeat."""

    found: FinishedSearch
    problem: Problem
    points: Sequence[Point]
    device: str
    stages: StageStore  # has the last stage of every point
    tags: Mapping[str, object]

    def result(self) -> SearchResult:
        """What the search returned; its champion is tested again. Raises: AgrError if one of its stages is gone."""
        ranking = ranked([self._record(point) for point in self.points])
        return self.problem.recall(self.found, ranking, self.tags)

    def _record(self, point: Point) -> Record:
        params, schema = as_text(point.config()), self.problem.task.schema
        run = next((trial.run_id for trial in self.found.trials if params.items() <= trial.params.items()), "")
        key = lineage_of(self.problem.task, point, self.device, "").key(point.rates())
        stage = self.stages.outline(key)
        if stage is None:
            raise AgrError(f"{self.stages.uri}: stage {key[:12]} is gone; expected it; with `again` it is made anew")
        history: list[EpochMetrics] = list(stage.state.history)
        weights = functools.partial(final_weights, self.stages.uri, key)
        return Record(point, run, schema, FINISHED, history, earlier=len(history), weights=weights)


def mark(session: Session, identity: str, result: SearchResult) -> None:
    """Let `find` find this search later, if all of its trials finished and MLflow took everything."""
    if identity and len(session.finished()) == session.planned and not session.tracker.refused:
        version = {} if result.version is None else {VERSION: result.version}
        session.tracker.set_tags(session.parent, {TAG: identity, **version})


def find(identity: str, store: Store, promote: bool) -> FinishedSearch | None:
    """The search of this identity that is whole in MLflow. promote: whether its champion becomes `best`.

    Raises: ModelError if the store cannot be opened.
    """
    if not identity:
        return None
    print("no epoch is missing; asking MLflow whether this search is there already", flush=True)
    with suppress(StoreError):  # it will be logged anew, and whatever is the matter told there
        found = store.finished_search({TAG: identity})
        if found and found.version is not None and promote and BEST not in found.aliases:
            store.set_alias(BEST, found.version)
            return replace(found, aliases=(BEST, *found.aliases))
        return found
    return None

"""The problem that a search solves: a task, its description, and what happens at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agr.registry.records import FinishedSearch
from agr.registry.uri import EXPERIMENT, REGISTERED_MODEL
from search.session.session import Record, Session
from search.tasks.base import AnyTask

if TYPE_CHECKING:
    from search.results.champion import SearchResult

# Tests, draws and registers the champion, from: session, tags of its runs, whether `best` moves in any case, ranking
# (best first; None for the default). Raises: AgrError if the ranking is empty.
Conclude = Callable[[Session, Mapping[str, object], bool, Sequence[Record] | None], "SearchResult"]
# The result of a finished search, without logging anything, from: its run, its ranking, tags of its runs.
Recall = Callable[[FinishedSearch, Sequence[Record], Mapping[str, object]], "SearchResult"]


@dataclass(frozen=True)
class Problem:
    """A task and its description."""

    task: AnyTask
    name: str  # the default name of a search begins with it
    tags: Mapping[str, object]  # of every MLflow run
    params: Mapping[str, object]  # of the MLflow run of the search
    digest: str  # of the data
    source: str  # of the data, as it was typed
    lines: Sequence[str]  # printed when the search begins
    conclude: Conclude  # ends the search
    recall: Recall
    experiment: str = EXPERIMENT  # in MLflow
    model: str = REGISTERED_MODEL  # in MLflow's registry
    profile: str = "{}"  # of the data, JSON

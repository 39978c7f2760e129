"""What a search is about, whether it trains AGR's models or somebody's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agr.registry.uri import EXPERIMENT, REGISTERED_MODEL
from search.session.session import Record, Session
from search.tasks.base import AnyTask

if TYPE_CHECKING:
    from search.results.champion import SearchResult

# Of a session, the tags of its runs, whether `best` moves in any case, and a ranking, best first, or None for the usual
# one: tests, draws and registers the best. Raises: AgrError for an empty ranking.
Conclude = Callable[[Session, Mapping[str, object], bool, Sequence[Record] | None], "SearchResult"]


@dataclass(frozen=True)
class Problem:
    """A task and its description."""

    task: AnyTask
    name: str  # begins the name of a search that is given none
    tags: Mapping[str, object]  # of every run in MLflow
    params: Mapping[str, object]  # of the search's own run
    digest: str  # of the data
    source: str  # of the data, as it was typed
    lines: Sequence[str]  # printed when the search begins
    conclude: Conclude  # ends the search
    experiment: str = EXPERIMENT  # in MLflow
    model: str = REGISTERED_MODEL  # in MLflow's registry
    profile: str = "{}"  # of the data, JSON
    close: Callable[[], None] = field(default=lambda: None)  # frees what the subject holds, once the search is over

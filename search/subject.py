"""What a search is about, whatever it trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from agr.registry import EXPERIMENT, REGISTERED_MODEL
from search.session import Record, Session
from search.task import Task

if TYPE_CHECKING:
    from search.champion import Ending


class Conclude(Protocol):
    """Test the first of a ranking, draw, register. Raises: AgrError for an empty ranking."""

    def __call__(
        self, session: Session, *, tags: Mapping[str, object], promote: bool, ranking: Sequence[Record] | None = None
    ) -> Ending:
        """ranking: best first; by default of all finished trials, by what their kind says."""


@dataclass(frozen=True)
class Subject:
    """A task, and what is told of it.

    name: of a search that is given none, before the time. tags: of every run. params: of the search's own run.
    digest, source, profile: of the data, the last as JSON. lines: printed when the search begins. experiment, model:
    names in MLflow. close: of what it holds, once the search is over.
    """

    task: Task
    name: str
    tags: Mapping[str, object]
    params: Mapping[str, object]
    digest: str
    source: str
    lines: Sequence[str]
    conclude: Conclude
    experiment: str = EXPERIMENT
    model: str = REGISTERED_MODEL
    profile: str = "{}"
    close: Callable[[], None] = field(default=lambda: None)

"""What a search is about, whether it trains AGR's models or somebody's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from agr.registry import EXPERIMENT, REGISTERED_MODEL
from search.session import Record, Session
from search.task import AnyTask

if TYPE_CHECKING:
    from search.champion import Ending


class Conclude(Protocol):
    """Test, draw and register the best of a ranking. Raises: AgrError for an empty ranking."""

    def __call__(
        self, session: Session, *, tags: Mapping[str, object], promote: bool, ranking: Sequence[Record] | None = None
    ) -> Ending:
        """ranking: best first; by default all finished trials, as their kind ranks them."""


@dataclass(frozen=True)
class Subject:
    """A task and its description.

    Attributes:
        task: What is trained.
        name: Begins the name of a search that is given none.
        tags: For every run in MLflow.
        params: For the search's own run.
        digest, source, profile: Of the data; the profile is JSON.
        lines: Printed when the search begins.
        conclude: Ends the search.
        experiment, model: Their names in MLflow.
        close: Frees what the subject holds, once the search is over.
    """

    task: AnyTask
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

"""Which alias a registered version gets: `best` if it beats the current one, else `challenger`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from agr.promotion import Decision
from agr.registry import BEST, CHALLENGER

if TYPE_CHECKING:
    from search.outbox import Outbox


def award(
    tracker: Outbox, version: int, judge: Callable[[], tuple[int | None, Decision]], forced: bool
) -> tuple[str, str]:
    """Give a version its alias; returns that and why.

    judge: the version that is best now, if any, and whether this one takes its place; asked again when another search
    has moved `best` meanwhile. forced: it takes it in any case.
    """
    while True:
        best, decision = judge()
        if not (decision.promote or forced):
            tracker.set_alias(CHALLENGER, version)
            return CHALLENGER, decision.reason
        if tracker.move_alias(BEST, best, version):
            was = f" (was version {best})" if best else ""
            return BEST, decision.reason + ("" if decision.promote else "; promoted by --promote") + was

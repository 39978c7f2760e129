"""The champion that comes with AGR is version 1 of a new store, so that a search has to beat it to become `best`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agr.common.cli import complain
from agr.common.places import champion_folder
from agr.registry.uri import BEST, REGISTERED_MODEL
from search.results.promotion import register

if TYPE_CHECKING:
    from search.outbox.outbox import Outbox


def adopt(tracker: Outbox, run_id: str) -> int | None:
    """Register the champion as a model of this run and name it `best` if nothing is; returns its version if it did."""
    folder = champion_folder()
    if folder is None or tracker.model != REGISTERED_MODEL or tracker.version_by_alias(BEST) is not None:
        return None
    version = register(tracker, run_id, folder, "comes with AGR")
    if tracker.move_alias(BEST, None, version):
        complain(f"version {version} is the champion that comes with AGR, tested on people; it is {BEST} until beaten")
    return version

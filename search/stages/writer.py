"""Write a trial's stages to the store, and keep training when that fails.

A stage that cannot be stored, because the disk is full or the network fails, stays in memory and is written again after
the next epoch. Until then, other trials cannot use it.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from search.stages.store import Stage, StageStore


class StageWriter:
    """Writes the stages of one trial."""

    def __init__(self, store: StageStore, elsewhere: str) -> None:
        """`elsewhere` is the URI of a second store, for a stage that the driver needs while the first one fails."""
        self.trouble = ""  # why the last stage could not be stored
        self._store, self._elsewhere = store, elsewhere
        self._waiting: dict[str, Stage] = {}

    def keep(self, key: str, stage: Stage, obsolete: Iterable[str]) -> None:
        """Store a stage, and then delete those whose keys are in `obsolete`."""
        deleted = list(obsolete)
        self._waiting = {other: stage for other, stage in self._waiting.items() if other not in deleted} | {key: stage}
        self.trouble = ""
        for waiting, unsaved in list(self._waiting.items()):
            try:
                self._store.put(waiting, unsaved)
            except OSError as error:
                self.trouble = error.strerror or str(error)
                return
            del self._waiting[waiting]
        with suppress(OSError):
            for other in deleted:
                self._store.drop(other)

    def home(self, key: str) -> str:
        """The URI of the store that takes a stage, the second one if it waits. Raises: OSError if neither does."""
        if key not in self._waiting:
            return self._store.uri
        StageStore(self._elsewhere).put(key, self._waiting[key])
        return self._elsewhere

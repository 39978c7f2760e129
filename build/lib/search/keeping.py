"""A trial's stages on their way into the store.

What the store does not take, because its disk is full or the line to it is cut, waits in memory and is tried again
after the next epoch. Training goes on; all that is lost meanwhile is that other trials could have read these epochs.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from search.stages import Stage, StageStore


class Keeper:
    """The stages of one trial. `trouble` says why the store does not take them, "" while it does."""

    def __init__(self, store: StageStore, elsewhere: str) -> None:
        """elsewhere: URI of the place for a stage whose weights the driver wants while the store does not take it."""
        self.trouble = ""
        self._store = store
        self._elsewhere = elsewhere
        self._waiting: dict[str, Stage] = {}

    def keep(self, key: str, stage: Stage, spare: Iterable[str]) -> None:
        """Store a stage, and then drop those that nobody needs any longer."""
        names = list(spare)
        self._waiting = {name: kept for name, kept in self._waiting.items() if name not in names} | {key: stage}
        self.trouble = ""
        for name, kept in list(self._waiting.items()):
            try:
                self._store.put(name, kept)
            except OSError as error:
                self.trouble = error.strerror or str(error)
                return
            del self._waiting[name]
        with suppress(OSError):
            for name in names:
                self._store.drop(name)

    def home(self, key: str) -> str:
        """The URI of the store that has a stage. Raises: OSError if no place takes it."""
        if key not in self._waiting:
            return self._store.uri
        StageStore(self._elsewhere).put(key, self._waiting[key])
        return self._elsewhere

"""Write a trial's stages into the store, and go on when the store does not accept them.

A stage that cannot be stored, because the disk is full or the network fails, stays in memory and is tried again after
the next epoch. Training continues; until then, other trials cannot use these epochs.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from search.stages.store import Stage, StageStore


class StageWriter:
    """Writes the stages of one trial.

    Attributes:
        trouble: Why the store did not accept the last stage, or "".
    """

    def __init__(self, store: StageStore, elsewhere: str) -> None:
        """`elsewhere` is the URI of a second store, for a stage that the driver needs while the first accepts none."""
        self.trouble = ""
        self._store = store
        self._elsewhere = elsewhere
        self._waiting: dict[str, Stage] = {}

    def keep(self, key: str, stage: Stage, spare: Iterable[str]) -> None:
        """Store a stage, and then delete those whose keys are in `spare`."""
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
        """The URI of the store that holds a stage, which is written to the second one if it still waits.

        Raises:
            OSError: If neither store accepts the stage.
        """
        if key not in self._waiting:
            return self._store.uri
        StageStore(self._elsewhere).put(key, self._waiting[key])
        return self._elsewhere

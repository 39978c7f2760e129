"""Optuna's samplers by name, and the storage of studies."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import optuna
from optuna.storages.journal import JournalFileOpenLock

from agr.common.credentials import hide
from agr.common.waiting import locked
from agr.errors import SettingsError
from search.optuna_search.torn_journal import mend

STUDIES = "studies.journal"  # in the store's folder
WRITES = "write to the journal of studies"
STARTUP = 5  # random trials before a sampler uses its model


def sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """Optuna's sampler of this name."""
    samplers = optuna.samplers
    if name == "tpe":
        return samplers.TPESampler(seed=seed, n_startup_trials=STARTUP, multivariate=True, constant_liar=True)
    if name == "gp":
        return samplers.GPSampler(seed=seed, n_startup_trials=STARTUP)
    if name == "cmaes":
        return samplers.CmaEsSampler(seed=seed, n_startup_trials=STARTUP, warn_independent_sampling=False)
    return samplers.NSGAIISampler(seed=seed) if name == "nsga2" else samplers.RandomSampler(seed=seed)


class KernelLock(JournalFileOpenLock):
    """A lock that ends with its process; Optuna's own lock files stay behind when a process is killed."""

    def __init__(self, path: str) -> None:
        """path: An empty file, which is locked and never deleted."""
        super().__init__(path)
        self._path, self._held = Path(path), ExitStack()

    def acquire(self) -> bool:
        """Wait for the lock."""
        self._held.enter_context(locked(self._path, WRITES))
        return True

    def release(self) -> None:
        """Release the lock."""
        self._held.close()


def study_storage(where: str) -> optuna.storages.BaseStorage:
    """A journal file, whose torn records are left out, or a database by its URL.

    Raises: SettingsError if it cannot be opened.
    """
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    try:
        if "://" in where:
            return RDBStorage(where)
        Path(where).parent.mkdir(parents=True, exist_ok=True)
        with locked(Path(f"{where}.flock"), WRITES):
            mend(Path(where))
        return JournalStorage(JournalFileBackend(where, KernelLock(f"{where}.flock")))
    except Exception as error:  # whatever the database's driver raises
        where, reason = hide(where, where), hide((str(error).splitlines() or [type(error).__name__])[0], where)
        raise SettingsError(f"--study-storage {where}: {reason}; expected a file, or a database's URL") from None

"""Logging to MLflow without waiting for it, and without losing anything in an outage. The way of a metric:

1. A trial reports an epoch; the driver calls `Outbox.log_epochs`, which returns at once.
2. `Journal.append` (entries.py) writes it as one line of JSON, an `Entry`, into mlflow_store/outbox/FILE.jsonl.
3. The thread of the `Deliverer` (deliverer.py) takes the oldest entry and calls the `Store` (mlflow_process.py).
4. The MLflow process makes the call; while MLflow does not answer, step 3 is repeated.
5. `Journal.done` notes the entry as delivered. What a search left, the next one in the folder delivers before its own.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from agr.common.cli import complain
from agr.errors import AgrError
from agr.registry.records import FinishedTrial, Store, Version, as_text, metric_points
from search.outbox.deliverer import Deliverer
from search.outbox.entries import SUFFIX, Journal
from search.outbox.outage import grace_seconds

CLOSING_SECONDS, HURRY_SECONDS = 5.0, 0.7  # the latter after Ctrl-C


class Outbox:
    """Logs runs and queries the registry. Its run ids are local; `run_id` translates them to MLflow's."""

    def __init__(self, store: Store, folder: Path, first: Callable[[Store], None] | None = None) -> None:
        """Start to deliver. folder: of the journal. store, first: as for `Deliverer`."""
        self.uri, self.model = store.uri, store.model
        self._id = uuid.uuid4().hex
        self._journal = Journal(folder.resolve() / f"{self._id}{SUFFIX}", store.uri, store.experiment)
        self._deliverer = deliverer = Deliverer(store, self._journal, first)
        self.wait_until_open, self.flush, self._query = deliverer.wait_until_open, deliverer.flush, deliverer.query

    def start_run(
        self, name: str, params: Mapping[str, object], tags: Mapping[str, object], parent: str | None = None
    ) -> str:
        """Start a run, nested under `parent` if given; returns its local id. The first run is that of the search."""
        run = self._id if parent is None else uuid.uuid4().hex
        values = {"name": name, "params": as_text(params), "tags": as_text(tags), "parent": parent}
        self._journal.append("start_run", run, values)
        return run

    def log_dataset(self, run_id: str, name: str, digest: str, source: str, profile: str) -> None:
        """Record which data a run used."""
        values = {"name": name, "digest": digest, "source": source, "profile": profile}
        self._journal.append("log_dataset", run_id, values)

    def log_epochs(self, run_id: str, epochs: Sequence[object], totals: Mapping[str, float] | None = None) -> None:
        """Log every metric of every epoch, and `totals` at step 0."""
        self._journal.append("log_points", run_id, {"points": metric_points(epochs, totals)})

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Log metrics at step 0."""
        self.log_epochs(run_id, (), metrics)

    def set_tags(self, run_id: str, tags: Mapping[str, object]) -> None:
        """Add or change tags of a run."""
        self._journal.append("set_tags", run_id, as_text(tags))

    def log_folder(self, run_id: str, folder: Path, name: str | None = None) -> None:
        """Log every file of a folder as an artifact; the folder is copied and may be deleted at once."""
        self._journal.append("log_folder", run_id, {"folder": str(self._journal.keep_files(folder)), "name": name})

    def end_run(self, run_id: str, status: str) -> None:
        """End a run as FINISHED, FAILED or KILLED."""
        self._journal.append("end_run", run_id, {"status": status})

    def finished_trials(self, tags: Mapping[str, str]) -> list[FinishedTrial]:
        """Finished trials with these tags, oldest first. Raises: OutageError."""
        return self._query(lambda store, again: store.finished_trials(tags))

    def version_by_alias(self, alias: str) -> Version | None:
        """The version that an alias points at; None if there is no such alias. Raises: OutageError."""
        return self._query(lambda store, again: store.version_by_alias(alias))

    def tags_by_alias(self, alias: str) -> tuple[int, Mapping[str, str]] | None:
        """Number and tags of the version that an alias points at, or None. Raises: OutageError."""
        return self._query(lambda store, again: store.tags_by_alias(alias))

    def set_alias(self, alias: str, version: int) -> None:
        """Point an alias at a version. Raises: OutageError."""
        self._query(lambda store, again: store.set_alias(alias, version))

    def move_alias(self, alias: str, expected: int | None, version: int) -> bool:
        """Point an alias at a version if it points at the expected one; returns whether it does now."""

        def move(store: Store, again: bool) -> bool:
            now = store.version_by_alias(alias) if again else None
            return (now is not None and now.version == version) or store.move_alias(alias, expected, version)

        return self._query(move)

    def register(self, run_id: str, folder: Path, tags: Mapping[str, object], description: str = "") -> int:
        """Register a bundle; a repeated call registers it once. Raises: OutageError."""
        return self._register(run_id, lambda store, run: store.register(run, folder, tags, description))

    def register_files(self, run_id: str, folder: Path, tags: Mapping[str, object]) -> int:
        """Register a folder; a repeated call registers it once. Raises: OutageError."""
        return self._register(run_id, lambda store, run: store.register_files(run, folder, tags))

    def _register(self, run_id: str, call: Callable[[Store, str], int]) -> int:
        def register(store: Store, again: bool) -> int:
            run = self.run_id(run_id)
            known = store.version_of_run(run) if again else None
            return call(store, run) if known is None else known

        return self._query(register)

    @property
    def open_error(self) -> str:
        """Why the store could not be opened; empty if it could or was not tried yet."""
        return self._deliverer.open_error

    @property
    def refused(self) -> int:
        """How many calls MLflow has refused so far."""
        return len(self._journal.refused)

    def run_id(self, run: str) -> str:
        """MLflow's id of a run; its local id until it is delivered."""
        return self._deliverer.ids.get(run, run)

    def run_page(self, run: str) -> str:
        """The address of a run's page in MLflow's UI, behind that of the server. Raises: OutageError."""
        return self._query(lambda store, again: store.run_page(self.run_id(run)))

    def close(self, hurry: bool = False) -> None:
        """Deliver what is left. What MLflow does not take stays in the file, and a line on stderr says so.

        hurry: after Ctrl-C, what MLflow has not taken within HURRY_SECONDS stays there too.
        """
        with suppress(AgrError):
            if not (hurry and self._deliverer.lags(HURRY_SECONDS)):
                self.flush(0.0 if self._deliverer.outage.given_up else min(CLOSING_SECONDS, grace_seconds()))
        with self._journal.changed:
            refused, points = len(self._journal.refused), self._journal.points
            undelivered = bool((self._journal.pending or refused) and not self.open_error)
            self._journal.close(keep=undelivered)
        if undelivered:
            path = os.path.relpath(self._journal.path)
            calls = f", with {refused} refused calls," if refused else ""
            complain(f"{points} points{calls} are in {path}; `python -m search.outbox deliver {path}` delivers them")

"""What a search logs, on its way to MLflow: training never waits for it, and an outage loses none of it.

    log = Outbox(clerk.open(uri, "agr", "agr"), Path("mlflow_store/outbox"))   # each call returns at once
    python -m search.outbox deliver mlflow_store/outbox/FILE.jsonl    # what a search could not deliver itself

Three parts: this one turns calls into entries, `Journal` keeps them in a file, `Deliverer` makes the calls of MLflow in
a thread of its own. While MLflow does not answer, entries wait. The next search in this folder delivers what a killed
one left.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from agr.common.cli import complain
from agr.errors import AgrError
from agr.registry.records import FinishedTrial, Store, Version, metric_points
from search.outbox.deliverer import Deliverer
from search.outbox.entries import SUFFIX, Journal
from search.outbox.outage import grace_seconds

CLOSING_SECONDS = 5.0


class Outbox:
    """A `RunLog`. The ids of runs that it returns are the search's own; `run_id` tells MLflow's."""

    def __init__(self, store: Store, folder: Path, first: Callable[[Store], None] | None = None) -> None:
        """Begin to deliver. folder: of the journal. store, first: as for `Deliverer`."""
        self.uri, self.model = store.uri, store.model
        self._id = uuid.uuid4().hex
        self._journal = Journal(folder.resolve() / f"{self._id}{SUFFIX}", store.uri)
        self._deliverer = Deliverer(store, self._journal, first)
        self.wait_until_open, self.flush, self._ask = (
            self._deliverer.wait_until_open,
            self._deliverer.flush,
            self._deliverer.ask,
        )

    def start_run(
        self, name: str, params: Mapping[str, object], tags: Mapping[str, object], parent: str | None = None
    ) -> str:
        """Begin a run, nested under `parent` if given; returns its local id. The first run is the search's own."""
        run = self._id if parent is None else uuid.uuid4().hex
        values = {"name": name, "params": _text(params), "tags": _text(tags), "parent": parent}
        self._journal.append("start_run", run, values)
        return run

    def log_dataset(self, run_id: str, name: str, digest: str, source: str, profile: str) -> None:
        """Record which data a run used."""
        values = {"name": name, "digest": digest, "source": source, "profile": profile}
        self._journal.append("log_dataset", run_id, values)

    def log_epochs(self, run_id: str, epochs: Sequence[object], totals: Mapping[str, float] | None = None) -> None:
        """Log every metric of every epoch, and single numbers, see `metric_points`."""
        self._journal.append("log_points", run_id, {"points": metric_points(epochs, totals)})

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Log single numbers of a run."""
        self.log_epochs(run_id, (), metrics)

    def set_tags(self, run_id: str, tags: Mapping[str, object]) -> None:
        """Add or change tags of a run."""
        self._journal.append("set_tags", run_id, _text(tags))

    def log_folder(self, run_id: str, folder: Path, name: str | None = None) -> None:
        """Log a copy of every file of a folder as an artifact; the folder may go afterwards."""
        self._journal.append("log_folder", run_id, {"folder": str(self._journal.keep_files(folder)), "name": name})

    def end_run(self, run_id: str, status: str) -> None:
        """End a run: FINISHED, FAILED or KILLED."""
        self._journal.append("end_run", run_id, {"status": status})

    def finished_trials(self, tags: Mapping[str, str]) -> list[FinishedTrial]:
        """Finished trials with these tags, the oldest first. Raises: OutageError."""
        return self._ask(lambda store, again: store.finished_trials(tags))

    def version_by_alias(self, alias: str) -> Version | None:
        """The version that an alias names, None if there is no such alias. Raises: OutageError."""
        return self._ask(lambda store, again: store.version_by_alias(alias))

    def tags_by_alias(self, alias: str) -> tuple[int, Mapping[str, str]] | None:
        """Number and tags of the version that an alias names, None if there is none. Raises: OutageError."""
        return self._ask(lambda store, again: store.tags_by_alias(alias))

    def set_alias(self, alias: str, version: int) -> None:
        """Let an alias name a version. Raises: OutageError."""
        self._ask(lambda store, again: store.set_alias(alias, version))

    def move_alias(self, alias: str, expected: int | None, version: int) -> bool:
        """Let an alias name a version if it names the expected one; returns whether it does. Raises: OutageError."""

        def move(store: Store, again: bool) -> bool:
            now = store.version_by_alias(alias) if again else None
            return (now is not None and now.version == version) or store.move_alias(alias, expected, version)

        return self._ask(move)

    def register(self, run_id: str, folder: Path, tags: Mapping[str, object], description: str = "") -> int:
        """Register a bundle, once for a run however often the call is repeated. Raises: OutageError."""
        return self._register(run_id, lambda store, run: store.register(run, folder, tags, description))

    def register_files(self, run_id: str, folder: Path, tags: Mapping[str, object]) -> int:
        """Register a folder, once for a run however often the call is repeated. Raises: OutageError."""
        return self._register(run_id, lambda store, run: store.register_files(run, folder, tags))

    def _register(self, run_id: str, call: Callable[[Store, str], int]) -> int:
        def register(store: Store, again: bool) -> int:
            run = self.run_id(run_id)
            known = store.version_of_run(run) if again else None
            return call(store, run) if known is None else known

        return self._ask(register)

    @property
    def open_error(self) -> str:
        """Why the store could not be opened; empty if it could, or nobody knows yet."""
        return self._deliverer.open_error

    def run_id(self, run: str) -> str:
        """MLflow's id of a run; the local one until it is delivered."""
        return self._deliverer.ids.get(run, run)

    def close(self) -> None:
        """Deliver what is left; what cannot be stays in the file, and one line on stderr says so."""
        with suppress(AgrError):
            self.flush(0.0 if self._deliverer.outage.given_up else min(CLOSING_SECONDS, grace_seconds()))
        with self._journal.changed:
            left, points = bool(self._journal.pending and not self.open_error), self._journal.points
            self._journal.close(keep=left)
        if left:
            path = os.path.relpath(self._journal.path)
            complain(f"{points} points are in {path}; `python -m search.outbox deliver {path}` delivers them")


def _text(values: Mapping[str, object]) -> dict[str, str]:
    return {key: str(value) for key, value in values.items()}

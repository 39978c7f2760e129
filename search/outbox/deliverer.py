"""Delivers a journal to MLflow in one thread: entry after entry, each repeated until MLflow has it.

    undelivered = deliver_file(store, Path("mlflow_store/outbox/FILE.jsonl"))

What MLflow refuses stays in the file. Delivering an entry twice changes nothing: every run has a local id in its tag
LOCAL_ID, which finds a run that was created although the answer was lost, and metrics carry the time at which they were
measured.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from agr.common.cli import complain
from agr.common.waiting import POLL_SECONDS, Wait
from agr.errors import ModelError, SettingsError, StoreError
from agr.registry.records import Store
from search.outbox.entries import LOCAL_ID, SUFFIX, Entry, Journal, Undelivered, claimed, delete, note, read
from search.outbox.outage import Outage, grace_seconds

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 4.0  # seconds between two attempts
T = TypeVar("T")


class Deliverer:
    """Delivers a journal while it is being written, and makes calls whose answer is needed."""

    def __init__(self, store: Store, journal: Journal, first: Callable[[Store], None] | None = None) -> None:
        """Start the thread. Journals that other searches left beside this one come first, then the call of `first`."""
        self.ids: dict[str, str] = {}  # local run ids to MLflow's
        self.open_error = ""  # why the store could not be opened
        self.outage = Outage(store.uri)
        self._store, self._journal, self._first = store, journal, first
        self._doubtful: set[str] = set()  # runs that may have been created more than once
        self._begun = threading.Event()
        threading.Thread(target=self._work, name="outbox", daemon=True).start()

    def wait_until_open(self) -> None:
        """Wait until the store is open. Raises: ModelError if it cannot be opened."""
        wait = Wait()
        while not self._begun.wait(POLL_SECONDS):
            wait.tick(f"{self._store.uri} to open")
        if self.open_error:
            raise ModelError(self.open_error)

    def lags(self, seconds: float) -> bool:
        """Wait for at most so many seconds; returns whether MLflow still lacks something."""
        with self._journal.changed:
            done = self._journal.changed.wait_for(lambda: self.open_error or not self._journal.pending, seconds)
        return not done or bool(self._doubtful)

    def flush(self, seconds: float | None = None) -> None:
        """Wait until MLflow has everything.

        Raises: ModelError if the store could not be opened; OutageError if it does not answer for longer than
            `seconds`, by default `grace_seconds`.
        """
        self._drain(grace_seconds() if seconds is None else seconds)
        while self._doubtful:
            run = next(iter(self._doubtful))
            self.query(lambda store, again: delete_duplicates(store, run, self.ids), seconds)  # noqa: B023
            self._doubtful.discard(run)

    def query(self, call: Callable[[Store, bool], T], seconds: float | None = None) -> T:
        """Make a call whose answer is needed, of the store and whether it may have been made before, after all logging.

        Raises: ModelError if the store refuses the call or could not be opened; OutageError as `flush`.
        """
        seconds = grace_seconds() if seconds is None else seconds
        self._drain(seconds)
        began, pause = time.monotonic(), FIRST_PAUSE
        for attempt in itertools.count():
            try:
                answer = call(self._store, attempt > 0)
            except StoreError as error:
                if not error.passing:
                    raise ModelError(self._refused(error)) from None
                self.outage.unanswered(error.reason)
                self.outage.check(began, seconds)
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                self.outage.answered(0)
                return answer
        raise AssertionError

    def _drain(self, seconds: float) -> None:
        self.wait_until_open()
        began, wait = time.monotonic(), Wait()
        with self._journal.changed:
            while self._journal.pending:
                self.outage.check(began, seconds)
                self._journal.changed.wait(POLL_SECONDS)
                wait.tick(f"{self._store.uri} to take what is logged")

    def _work(self) -> None:
        self._begin()
        pause, again = FIRST_PAUSE, False
        while not self.open_error and (entry := self._journal.next()) is not None:
            try:
                deliver(self._store, entry, self.ids, again)
            except Exception as error:  # the other entries are still delivered
                if isinstance(error, StoreError) and error.passing:
                    if entry.call == "start_run":
                        self._doubtful.add(entry.run)
                    self.outage.unanswered(error.reason)
                    self._journal.sync()
                    self._journal.closed.wait(pause)
                    pause, again = min(2 * pause, LONGEST_PAUSE), True
                    continue
                if not self._journal.refused:
                    kept = f"what it refuses stays in {os.path.relpath(self._journal.path)}"
                    complain(f"{self._refused(error)} ({entry.call}); {kept}")
                self._journal.refuse(entry)
            else:
                self._journal.done(entry, self.ids.get(entry.run) if entry.call == "start_run" else None)
            self.outage.answered(self._journal.points)
            pause, again = FIRST_PAUSE, False

    def _begin(self) -> None:
        """Deliver what killed searches left in this folder for the same store, then call `first`."""
        try:
            for path in sorted(self._journal.path.parent.glob(f"*{SUFFIX}")):
                with suppress(SettingsError, StoreError, OSError):  # still in use, refused, just deleted
                    left = read(path)
                    ours = (left.uri, left.experiment) == (self._store.uri.whole, self._store.experiment)
                    if ours or not (left.uri or left.runs):
                        deliver_file(self._store, path, known=left.refused)
            if self._first is not None:
                self._first(self._store)
        except Exception as error:  # passed on to whoever waits
            self.open_error = str(error) if isinstance(error, ModelError) else self._refused(error)
        self._begun.set()

    def _refused(self, error: Exception) -> str:
        try:
            self._store.require_experiment()  # whoever deleted it meanwhile is told how to restore it
        except ModelError as deleted:
            return str(deleted)
        except StoreError:
            pass
        return f"{self._store.uri}: refused: {error}"


def deliver_file(store: Store, path: Path, known: Collection[int] = ()) -> Undelivered:
    """Deliver the journal of a search that has ended, and delete it unless MLflow refuses an entry.

    Refusals are told in one line on stderr, unless only entries with `known` numbers are refused. Returns: the entries
    that were delivered, and the numbers of the refused ones.

    Raises: SettingsError if the search still runs or the file is no journal; StoreError if the store does not answer:
        the file then stays as it was.
    """
    with claimed(path) as undelivered:
        ids, refused = dict(undelivered.ids), dict[int, str]()
        for entry in undelivered.entries:
            try:
                deliver(store, entry, ids, again=True)
            except StoreError as error:
                if error.passing:
                    raise
                refused[entry.number] = f"{entry.call}: {error}"
        for run in undelivered.runs:
            delete_duplicates(store, run, ids)
        delivered = tuple(entry for entry in undelivered.entries if entry.number not in refused)
        if refused:
            note(
                path, {each.number: ids[each.run] if each.call == "start_run" else None for each in delivered}, refused
            )
        else:
            delete(path)
    if set(refused) - set(known):
        first = next(iter(refused.values()))
        complain(f"{path}: {store.uri} refused {len(refused)} calls, which stay in it; the first is {first}")
    return replace(undelivered, entries=delivered, refused=frozenset(refused))


def delete_duplicates(store: Store, run: str, ids: Mapping[str, str]) -> None:
    """Delete the duplicates of a run, which arise if an answer is lost and the call is repeated."""
    found = store.find_runs(LOCAL_ID, run)
    for duplicate in found:
        if duplicate != ids.get(run, found[0]):
            store.delete_run(duplicate)


def deliver(store: Store, entry: Entry, ids: dict[str, str], again: bool) -> None:
    """Make the call of an entry, perhaps again; a run that it starts is added to `ids`, local run ids to MLflow's."""
    values: dict[str, Any] = dict(entry.values)
    run = ids.get(entry.run, entry.run)
    match entry.call:
        case "start_run":
            if found := store.find_runs(LOCAL_ID, entry.run) if again else []:
                store.set_params(found[0], values["params"])
            else:
                tags, parent = values["tags"] | {LOCAL_ID: entry.run}, ids.get(values["parent"], values["parent"])
                found = [store.start_run(values["name"], values["params"], tags, parent, entry.at)]
            ids[entry.run] = found[0]
        case "log_points":
            store.log_points(run, [(key, value, step) for key, value, step in values["points"]], entry.at)
        case "set_tags":
            store.set_tags(run, values)
        case "log_dataset":
            store.log_dataset(run, **values)
        case "log_folder":
            store.log_folder(run, Path(values["folder"]), values["name"])
        case "end_run":
            store.end_run(run, values["status"], entry.at)
        case other:
            raise SettingsError(f"entry {entry.number}: {other}; expected a call that a search makes")

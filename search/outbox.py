"""What a search logs, on its way to MLflow: training never waits for it, and an outage loses none of it.

    tracker = Outbox(clerk.open(uri, "agr", "agr"), Path("mlflow_store/outbox"))   # takes its calls, returns at once
    python -m search.outbox deliver mlflow_store/outbox/FILE.jsonl    # what a search could not deliver itself

A thread makes the calls, in their order. While the store does not answer they wait, in memory and in a file that
outlives the search; the next search in this folder delivers what a killed one left.
"""

from __future__ import annotations

import itertools
import os
import shutil
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from agr.credentials import hide
from agr.errors import AgrError, ModelError, SettingsError, StoreError
from agr.logged import Finished, Version, points_of
from agr.terminal import complain
from search.entries import SUFFIX, Entry, Journal, deliver, deliver_file, discard_doubles, read
from search.outage import Outage, grace

if TYPE_CHECKING:
    from agr.tracking import Tracker

CLOSING_SECONDS = 5.0
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 4.0  # seconds between two attempts
T = TypeVar("T")


class Outbox:
    """Stands before a `clerk.store`. The ids that it hands out are the search's own; see `run_id` for MLflow's."""

    def __init__(self, tracker: Tracker, folder: Path, first: Callable[[Tracker], None] | None = None) -> None:
        """folder: where the file of this search is made, and where others may have left theirs, to be delivered first.

        first: done after that and before anything of this search is delivered, by the thread that delivers.
        """
        self.uri = tracker.uri
        self._id = uuid.uuid4().hex
        self._tracker = tracker
        self._folder = folder.resolve()
        self._journal = Journal(self._folder / f"{self._id}{SUFFIX}", tracker.uri)
        self._numbers = itertools.count()
        self._ids: dict[str, str] = {}
        self._doubtful: set[str] = set()  # runs whose beginning was sent more than once
        self._queue: deque[Entry] = deque()
        self._changed = threading.Condition()
        self._outage = Outage(hide(tracker.uri, tracker.uri))
        self._stopping = threading.Event()
        self._first = first
        self._begun = threading.Event()
        self.failed = ""  # why the store could not be opened
        threading.Thread(target=self._work, name="outbox", daemon=True).start()

    def start_run(
        self, name: str, params: Mapping[str, object], tags: Mapping[str, object], parent: str | None = None
    ) -> str:
        """See `Tracker`; returns the run's local id."""
        run = self._id if parent is None else uuid.uuid4().hex
        self._put("start_run", run, {"name": name, "params": _text(params), "tags": _text(tags), "parent": parent})
        return run

    def log_dataset(self, run_id: str, name: str, digest: str, source: str, profile: str) -> None:
        """See `Tracker`."""
        self._put("log_dataset", run_id, {"name": name, "digest": digest, "source": source, "profile": profile})

    def log_epochs(self, run_id: str, epochs: Sequence[Any], totals: Mapping[str, float] | None = None) -> None:
        """See `Tracker`."""
        self._put("log_points", run_id, {"points": points_of(epochs, totals)})

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """See `Tracker`."""
        self.log_epochs(run_id, (), metrics)

    def set_tags(self, run_id: str, tags: Mapping[str, object]) -> None:
        """See `Tracker`."""
        self._put("set_tags", run_id, _text(tags))

    def log_folder(self, run_id: str, folder: Path, name: str | None = None) -> None:
        """See `Tracker`; the files are copied, so that theirs may go."""
        kept = self._folder / self._id / str(next(self._numbers))
        shutil.copytree(folder, kept)
        self._put("log_folder", run_id, {"folder": str(kept), "name": name})

    def end_run(self, run_id: str, status: str) -> None:
        """See `Tracker`."""
        self._put("end_run", run_id, {"status": status})

    def finished(self, tags: Mapping[str, str]) -> list[Finished]:
        """See `Tracker`. Raises: OutageError."""
        return self._ask(lambda tracker, again: tracker.finished(tags))

    def aliased(self, alias: str) -> Version | None:
        """See `Tracker`. Raises: OutageError."""
        return self._ask(lambda tracker, again: tracker.aliased(alias))

    def set_alias(self, alias: str, version: int) -> None:
        """See `Tracker`. Raises: OutageError."""
        self._ask(lambda tracker, again: tracker.set_alias(alias, version))

    def move_alias(self, alias: str, expected: int | None, version: int) -> bool:
        """See `Tracker`. Raises: OutageError."""

        def move(tracker: Tracker, again: bool) -> bool:
            now = tracker.aliased(alias) if again else None
            return (now is not None and now.version == version) or tracker.move_alias(alias, expected, version)

        return self._ask(move)

    def register(self, run_id: str, folder: Path, tags: Mapping[str, object], description: str = "") -> int:
        """See `Tracker`; one version for a run, however often the call is repeated. Raises: OutageError."""

        def register(tracker: Tracker, again: bool) -> int:
            run = self.run_id(run_id)
            known = tracker.registered(run) if again else None
            return known if known is not None else tracker.register(run, folder, tags, description)

        return self._ask(register)

    def register_files(self, run_id: str, folder: Path, tags: Mapping[str, object]) -> int:
        """See `Tracker`; one version for a run, however often the call is repeated. Raises: OutageError."""

        def register(tracker: Tracker, again: bool) -> int:
            run = self.run_id(run_id)
            known = tracker.registered(run) if again else None
            return known if known is not None else tracker.register_files(run, folder, tags)

        return self._ask(register)

    def marks_of(self, alias: str) -> tuple[int, Mapping[str, str]] | None:
        """See `Tracker`. Raises: OutageError."""
        return self._ask(lambda tracker, again: tracker.marks_of(alias))

    @property
    def model(self) -> str:
        """See `Tracker`."""
        return self._tracker.model

    def run_id(self, run: str) -> str:
        """MLflow's id of a run; the local one until it is delivered."""
        return self._ids.get(run, run)

    def opened(self) -> None:
        """Wait until the store takes calls. Raises: ModelError if it does not."""
        self._begun.wait()
        if self.failed:
            raise ModelError(self.failed)

    def settle(self, seconds: float | None = None) -> None:
        """Wait until MLflow has everything. Raises: ModelError if the store could not be opened.

        seconds: how long a store may not answer, AGR_OUTAGE_GRACE or 60 if it is None. Raises: OutageError after them.
        """
        self._drain(grace() if seconds is None else seconds)
        while self._doubtful:
            run = next(iter(self._doubtful))
            self._ask(lambda tracker, again: discard_doubles(tracker, run, self._ids), seconds)  # noqa: B023
            self._doubtful.discard(run)

    def close(self) -> None:
        """Deliver what is left; what cannot be stays in the file, and one line on stderr says so."""
        with suppress(AgrError):
            self.settle(0.0 if self._outage.given_up else min(CLOSING_SECONDS, grace()))
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
            left = [] if self.failed else list(self._queue)
            self._journal.close(keep=bool(left))
        if left:
            points, path = sum(entry.points for entry in left), os.path.relpath(self._journal.path)
            complain(f"{points} points are in {path}; `python -m search.outbox deliver {path}` delivers them")
        else:
            shutil.rmtree(self._folder / self._id, ignore_errors=True)

    def _put(self, call: str, run: str, values: Mapping[str, Any]) -> None:
        entry = Entry(next(self._numbers), call, run, int(time.time() * 1000), values)
        with self._changed:
            with suppress(OSError):  # a full disk; the entry is in memory
                self._journal.append(entry)
            self._queue.append(entry)
            self._changed.notify_all()

    def _work(self) -> None:
        """Deliver one entry after the other, each until it is done."""
        if not self._begin():
            return
        pause, again = FIRST_PAUSE, False
        while (entry := self._next()) is not None:
            try:
                deliver(self._tracker, entry, self._ids, again)
            except Exception as error:  # whatever it is, the other entries are still delivered
                if isinstance(error, StoreError) and error.passing:
                    self._wait(entry, error, pause)
                    pause, again = min(2 * pause, LONGEST_PAUSE), True
                    continue
                complain(f"{self._refused(error)} ({entry.call})")
            self._delivered(entry)
            pause, again = FIRST_PAUSE, False

    def _begin(self) -> bool:
        """Deliver what killed searches left and do what comes first; returns whether the store takes calls."""
        try:
            self._recover()
            if self._first is not None:
                self._first(self._tracker)
        except Exception as error:  # whatever it is, nobody waits for ever
            self.failed = str(error) if isinstance(error, ModelError) else self._refused(error)
        self._begun.set()
        return not self.failed

    def _recover(self) -> None:
        """Deliver what killed searches left in this folder for the same store; what cannot be delivered stays.

        Raises: ModelError if the store cannot be opened.
        """
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            with suppress(SettingsError, StoreError, OSError):  # its search runs, it is refused, another delivered it
                if read(path).uri == self.uri:
                    deliver_file(self._tracker, path)

    def _refused(self, error: Exception) -> str:
        return f"{hide(self.uri, self.uri)}: refused: {error}"

    def _next(self) -> Entry | None:
        with self._changed:
            while not self._queue and not self._stopping.is_set():
                self._changed.wait()
            return None if self._stopping.is_set() else self._queue[0]

    def _delivered(self, entry: Entry) -> None:
        with self._changed:
            if self._stopping.is_set():
                return  # the file is closed; delivering an entry twice does no harm
            with suppress(OSError):
                self._journal.done(entry, self._ids.get(entry.run) if entry.call == "start_run" else None)
            self._queue.popleft()
            self._outage.ends(sum(entry.points for entry in self._queue))
            self._changed.notify_all()

    def _wait(self, entry: Entry, error: StoreError, pause: float) -> None:
        if entry.call == "start_run":
            self._doubtful.add(entry.run)
        with self._changed:
            self._outage.goes_on(error.reason)
            if not self._stopping.is_set():
                with suppress(OSError):
                    self._journal.sync()
        self._stopping.wait(pause)

    def _drain(self, seconds: float) -> None:
        self.opened()
        began = time.monotonic()
        with self._changed:
            while self._queue:
                self._outage.check(began, seconds)
                self._changed.wait(0.1)

    def _ask(self, call: Callable[[Tracker, bool], T], seconds: float | None = None) -> T:
        """Make a call whose answer is needed, after all that were made before. Raises: OutageError."""
        seconds = grace() if seconds is None else seconds
        self._drain(seconds)
        began, pause = time.monotonic(), FIRST_PAUSE
        for attempt in itertools.count():
            try:
                answer = call(self._tracker, attempt > 0)
            except StoreError as error:
                if not error.passing:
                    raise ModelError(self._refused(error)) from None
                self._outage.goes_on(error.reason)
                self._outage.check(began, seconds)
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                self._outage.ends(0)
                break
        return answer


def _text(values: Mapping[str, object]) -> dict[str, str]:
    return {key: str(value) for key, value in values.items()}


if __name__ == "__main__":
    from agr.terminal import run
    from search.deliver import main

    run(main)

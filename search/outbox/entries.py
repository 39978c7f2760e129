"""The journal of a search: a file with everything that it logs, one line of JSON each, until MLflow has it.

    {"uri": "http://...", "experiment": "agr"}                  of the store; null if the URI contains a password
    {"number": 0, "call": "start_run", "run": "5c3...", ...}    one entry
    {"done": 0, "id": "9f1..."}                                 it is delivered; the id that MLflow gave the run
    {"refused": 3}                                              MLflow refused it, and somebody was told

The folder FILE contains copies of logged files. FILE.jsonl.lock is locked until the process ends, however it does.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from agr.common.credentials import user_and_password
from agr.common.files import write_atomic
from agr.errors import SettingsError
from agr.registry.uri import EXPERIMENT, StoreUri

SUFFIX, HEAD = ".jsonl", '{"uri": '
LOCAL_ID = "local_id"  # tag of a run: the id that the search gave it


@dataclass(frozen=True)
class Entry:
    """One line of the outbox: a call of a `Store`."""

    number: int
    call: str  # the method's name
    run: str  # local id
    at: int  # ms since 1970
    values: Mapping[str, object]  # arguments

    @property
    def points(self) -> int:
        """Number of metric points in it."""
        points = self.values.get("points")
        return len(points) if self.call == "log_points" and isinstance(points, list) else 0


class Journal:
    """What a search has logged and MLflow lacks; thread-safe. What cannot be written to the file is still in memory."""

    def __init__(self, path: Path, uri: StoreUri, experiment: str = EXPERIMENT) -> None:
        """Create the file and lock it."""
        self.path = path
        self.changed = threading.Condition()
        self.closed = threading.Event()
        self._numbers = itertools.count()
        self._clock = time.time() - time.monotonic()  # what is logged is in its order, though the clock be set
        self._pending: deque[Entry] = deque()
        self.refused: list[Entry] = []  # they stay in the file
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(path)
        self._lock.acquire(timeout=0)
        self._file = path.open("x", encoding="utf-8")
        shown = None if any(user_and_password(uri.whole)) else uri.whole
        self._write({"uri": shown, "experiment": experiment})

    def append(self, call: str, run: str, values: Mapping[str, object]) -> None:
        """Add an entry."""
        with self.changed:
            entry = Entry(next(self._numbers), call, run, int((self._clock + time.monotonic()) * 1000), values)
            self._write(asdict(entry))
            self._pending.append(entry)
            self.changed.notify_all()

    def keep_files(self, folder: Path) -> Path:
        """Copy a folder into that of the journal, so that the original may be deleted; returns the copy."""
        return Path(shutil.copytree(folder, self.path.with_suffix("") / str(next(self._numbers))))

    def next(self) -> Entry | None:
        """Wait for the oldest undelivered entry; None once the journal is closed."""
        with self.changed:
            self.changed.wait_for(lambda: self._pending or self.closed.is_set())
            return None if self.closed.is_set() else self._pending[0]

    def done(self, entry: Entry, run_id: str | None) -> None:
        """Note that the oldest entry is delivered. run_id: MLflow's id of the run that it started."""
        with self.changed:
            if self.closed.is_set():
                return  # it will be delivered twice, which does no harm
            self._write({"done": entry.number} | ({"id": run_id} if run_id else {}))
            self._pending.popleft()
            self.changed.notify_all()

    def refuse(self, entry: Entry) -> None:
        """Note that MLflow refused the oldest entry, which stays in the file."""
        with self.changed:
            if self.closed.is_set():
                return
            self._write({"refused": entry.number})
            self.refused.append(self._pending.popleft())
            self.changed.notify_all()

    @property
    def pending(self) -> int:
        """Number of undelivered entries."""
        return len(self._pending)

    @property
    def points(self) -> int:
        """Number of undelivered metric points."""
        with self.changed:
            return sum(entry.points for entry in (*self.refused, *self._pending))

    def sync(self) -> None:
        """Make the file survive a power cut."""
        with self.changed, suppress(OSError):
            if not self.closed.is_set():
                os.fsync(self._file.fileno())

    def close(self, keep: bool) -> None:
        """Release the file. keep: leave it to be delivered later, else delete it."""
        with self.changed:
            self.closed.set()
            self.changed.notify_all()
            with suppress(OSError):
                self._file.close()
        if not keep:
            delete(self.path)
        _release(self._lock, self.path)

    def _write(self, values: Mapping[str, object]) -> None:
        with suppress(OSError):
            self._file.write(json.dumps(values) + "\n")
            self._file.flush()


@dataclass(frozen=True)
class Undelivered:
    """What a journal contains."""

    uri: str | None  # of the store
    entries: tuple[Entry, ...]  # undelivered
    runs: tuple[str, ...]  # local ids of all runs
    ids: dict[str, str]  # local run ids to MLflow's
    refused: frozenset[int] = frozenset()  # numbers of the entries that MLflow has refused
    experiment: str = EXPERIMENT

    @property
    def points(self) -> int:
        """Number of metric points in the entries."""
        return sum(entry.points for entry in self.entries)


def read(path: Path) -> Undelivered:
    """Read a journal; a line that is cut short is skipped. Raises: SettingsError if the file is no journal."""
    try:
        text = path.read_text(encoding="utf-8")
        if "\n" not in text and text.startswith(HEAD[: len(text)]):  # cut short before its first entry
            return Undelivered(None, (), (), {})
        head, *lines = text.splitlines()
        about = json.loads(head)
        uri, experiment = about["uri"], about.get("experiment", EXPERIMENT)
        rows = [row for row in map(_parsed, lines) if row]
        entries = {row["number"]: Entry(**row) for row in rows if "number" in row}
        done = {row["done"]: row.get("id") for row in rows if "done" in row}
        refused = frozenset(row["refused"] for row in rows if "refused" in row)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise SettingsError(f"{path}: {error}; expected a file that a search left in mlflow_store/outbox") from error
    ids = {entries[number].run: id_ for number, id_ in done.items() if id_ and number in entries}
    runs = tuple(entry.run for entry in entries.values() if entry.call == "start_run")
    left = tuple(entry for number, entry in sorted(entries.items()) if number not in done)
    return Undelivered(uri, left, runs, ids, refused, experiment)


def note(path: Path, delivered: Mapping[int, str | None], refused: Iterable[int]) -> None:
    """Add to a journal, whose lock the caller holds, which entries are delivered (run ids by number) or refused."""
    rows: list[Mapping[str, object]] = [{"done": number, "id": run} for number, run in delivered.items()]
    lines = "".join(json.dumps(row) + "\n" for row in (*rows, *({"refused": number} for number in refused)))
    write_atomic(path, path.read_bytes() + f"\n{lines}".encode())  # its last line may be cut short


@contextmanager
def claimed(path: Path) -> Iterator[Undelivered]:
    """Lock the journal of a search that has ended.

    Raises: SettingsError if the search is running or the file is no journal.
    """
    read(path)  # refuses other files before a lock is created beside them
    lock = _lock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise SettingsError(f"{path}: its search is running; expected one that has ended") from None
    try:
        yield read(path)  # another process may have delivered it meanwhile
    finally:
        _release(lock, path)


def _lock(path: Path) -> FileLock:
    return FileLock(f"{path}.lock", thread_local=False)


def _release(lock: FileLock, path: Path) -> None:
    lock.release()
    if not path.exists():  # who locks it now finds no journal
        Path(lock.lock_file).unlink(missing_ok=True)


def delete(path: Path) -> None:
    """Delete a journal, whose lock the caller holds, and its files."""
    path.unlink(missing_ok=True)
    shutil.rmtree(path.with_suffix(""), ignore_errors=True)


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None

"""What a search logs, as lines of JSON in a file, and how a line becomes a call of MLflow.

    {"uri": "http://..."}                                       where it goes; null if its URI holds a password
    {"number": 0, "call": "start_run", "run": "5c3...", ...}    one entry
    {"done": 0, "id": "9f1..."}                                 delivered; the id that MLflow gave the run

A run has an id of the search's own from the moment it begins, kept in its tag LOCAL_ID; MLflow's id for it is known
once it is delivered. The tag finds a run that was made although nobody heard of it, and metrics carry the time at
which they were measured, so that delivering an entry twice changes nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agr.credentials import user_and_password
from agr.errors import SettingsError, StoreError
from agr.terminal import complain

if TYPE_CHECKING:
    from agr.tracking import Tracker

LOCAL_ID = "local_id"
SUFFIX = ".jsonl"


@dataclass(frozen=True)
class Entry:
    """One call of `Tracker`: `run` is a local id, `at` the time of the call in ms since 1970."""

    number: int
    call: str
    run: str
    at: int
    values: Mapping[str, Any]

    @property
    def points(self) -> int:
        """How many numbers it carries."""
        return len(self.values["points"]) if self.call == "log_points" else 0


class Journal:
    """The entries of one running search, in a file that is locked while the search lives."""

    def __init__(self, path: Path, uri: str) -> None:
        """Make the file. A disk that takes no more is no reason to stop: the entries are in memory too."""
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("x", encoding="utf-8")
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._write({"uri": None if any(user_and_password(uri)) else uri})

    def append(self, entry: Entry) -> None:
        """Note what is to be delivered."""
        self._write(asdict(entry))

    def done(self, entry: Entry, run_id: str | None) -> None:
        """Note that it was. run_id: MLflow's id of a run that it started."""
        self._write({"done": entry.number} | ({"id": run_id} if run_id else {}))

    def sync(self) -> None:
        """Make what was noted survive a power cut."""
        os.fsync(self._file.fileno())

    def close(self, keep: bool) -> None:
        """Let go of the file, and delete it if nothing of it is wanted any longer."""
        if not keep:
            self.path.unlink(missing_ok=True)
        self._file.close()

    def _write(self, values: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(values) + "\n")
        self._file.flush()


@dataclass(frozen=True)
class Left:
    """What a file holds: where it was to go, what was not delivered, its runs by local id, and MLflow's ids of them."""

    uri: str | None
    entries: tuple[Entry, ...]
    runs: tuple[str, ...]
    ids: dict[str, str]

    @property
    def points(self) -> int:
        """How many numbers were not delivered."""
        return sum(entry.points for entry in self.entries)


def read(path: Path) -> Left:
    """Raises: SettingsError if it is no such file. A last line that is cut short is passed over."""
    try:
        head, *lines = path.read_text(encoding="utf-8").splitlines()
        uri = json.loads(head)["uri"]
        rows = [row for row in map(_parsed, lines) if row]
        entries = {row["number"]: Entry(**row) for row in rows if "number" in row}
        done = {row["done"]: row.get("id") for row in rows if "done" in row}
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise SettingsError(f"{path}: {error}; expected a file that a search left in mlflow_store/outbox") from error
    ids = {entries[number].run: id_ for number, id_ in done.items() if id_ and number in entries}
    runs = tuple(entry.run for entry in entries.values() if entry.call == "start_run")
    return Left(uri, tuple(entry for number, entry in sorted(entries.items()) if number not in done), runs, ids)


def deliver_file(tracker: Tracker, path: Path) -> Left:
    """Deliver what a search left and delete the file; returns what it held. tracker: of `clerk.store`.

    An entry that MLflow refuses for good is named on stderr. Raises: SettingsError if the search still runs or it is
    no such file; StoreError if the store does not answer, and then the file stays as it was.
    """
    left = read(path)
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SettingsError(f"{path}: its search is running; expected one that has ended") from error
        ids = dict(left.ids)
        for entry in left.entries:
            try:
                deliver(tracker, entry, ids, again=True)
            except StoreError as error:
                if error.passing:
                    raise
                complain(f"{path}: {entry.call} refused: {error}")
        for run in left.runs:
            discard_doubles(tracker, run, ids)
        path.unlink(missing_ok=True)
        shutil.rmtree(path.with_suffix(""), ignore_errors=True)
    return left


def discard_doubles(tracker: Tracker, run: str, ids: Mapping[str, str]) -> None:
    """Delete the other runs that were made of one, when an answer got lost and the call was repeated."""
    found = tracker.tagged(LOCAL_ID, run)
    for double in found:
        if double != ids.get(run, found[0]):
            tracker.discard(double)


def deliver(tracker: Tracker, entry: Entry, ids: dict[str, str], again: bool) -> None:
    """Make the call; `ids`, from local ids to MLflow's, learns of a run that it starts.

    again: whether it may have been made before.
    """
    values = entry.values
    if entry.call == "start_run":
        ids[entry.run] = _start(tracker, entry, ids, again)
        return
    run = ids.get(entry.run, entry.run)
    match entry.call:
        case "log_points":
            tracker.log_points(run, [(key, value, step) for key, value, step in values["points"]], entry.at)
        case "set_tags":
            tracker.set_tags(run, values)
        case "log_dataset":
            tracker.log_dataset(run, **values)
        case "log_folder":
            tracker.log_folder(run, Path(values["folder"]), values["name"])
        case "end_run":
            tracker.end_run(run, values["status"], entry.at)
        case other:
            raise SettingsError(f"entry {entry.number}: {other}; expected a call that a search makes")


def _start(tracker: Tracker, entry: Entry, ids: Mapping[str, str], again: bool) -> str:
    name, params, tags, parent = (entry.values[key] for key in ("name", "params", "tags", "parent"))
    if again and (found := tracker.tagged(LOCAL_ID, entry.run)):
        tracker.set_params(found[0], params)
        return found[0]
    parent = ids.get(parent, parent)
    return tracker.start_run(name, params, tags | {LOCAL_ID: entry.run}, parent, entry.at)


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None

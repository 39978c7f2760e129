"""The journal of a preparation: a line of JSON for each clip that is done, written as soon as its image is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agr.data.clips import Corpus
from agr.recipes.base import Recipe

JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class Outcome:
    """What became of one clip: its image and its recording's digest, or the `reason` why there is none.

    `stamp` is the recording's `stat` and `recipe` the recipe's digest; while both stay the same, so does the outcome.
    """

    name: str
    stamp: str
    recipe: str
    image: str = ""
    recording: str = ""
    reason: str = ""


def stamp(path: Path) -> str:
    """Size and times of a file, which `make` and git also compare to find changes; empty if there is no file."""
    try:
        stat = path.stat()
    except OSError:
        return ""
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"


def still_valid(source: Corpus, out: Path, wanted: Recipe) -> dict[str, Outcome]:
    """Journal entries whose recipe and recording are unchanged and whose image is there, by clip name."""
    entries = {entry.name: entry for entry in read(out / JOURNAL)}
    valid = {}
    for clip in source.clips:
        entry = entries.get(clip.name)
        if entry is None or (entry.recipe, entry.stamp) != (wanted.digest, stamp(clip.path)):
            continue
        if entry.stamp and (entry.reason or (out / entry.image).is_file()):
            valid[clip.name] = entry
    return valid


def read(path: Path) -> Iterator[Outcome]:
    """The outcomes in a journal, oldest first; a line that a kill cut short is skipped."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            yield Outcome(**json.loads(line))
        except (ValueError, TypeError):
            continue

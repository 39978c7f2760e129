"""What a preparation has already dealt with: a line of JSON for each clip, written as soon as its image stands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agr.corpus import Corpus
from agr.recipe import Recipe

JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class Outcome:
    """What became of one clip: its image and its recording's digest, or the `reason` why there is none.

    `stamp` is the recording's `stat`, `recipe` the digest of the recipe: both unchanged, it need not be redone.
    """

    name: str
    stamp: str
    recipe: str
    image: str = ""
    recording: str = ""
    reason: str = ""


def stamp(path: Path) -> str:
    """Size and times of a file, as `make` and git use them to see that it changed; empty if it is not there."""
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
    """The clips dealt with, oldest first; a line torn by a kill is passed over."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            yield Outcome(**json.loads(line))
        except (ValueError, TypeError):
            continue

"""The journal of `prepare`: one JSON line for each finished clip, written right after its image."""

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
    """What became of one clip: its image and the digests of `copies.Heard`, or the `reason` why it was skipped.

    Valid while `stamp`, from the file's `stat`, and `recipe`, the recipe's digest, are unchanged.
    """

    name: str
    stamp: str
    recipe: str
    image: str = ""
    recording: str = ""
    reason: str = ""
    samples: str = ""
    note: str = ""  # what is missing of a recording that is used all the same


def stamp(path: Path) -> str:
    """Size and times of a file, by which changes are detected; empty if there is no file."""
    try:
        stat = path.stat()
        return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"
    except OSError:
        return ""


def valid_outcomes(source: Corpus, out: Path, wanted: Recipe) -> dict[str, Outcome]:
    """The outcomes whose recipe and recording are unchanged and whose image exists, by clip name."""
    found = {outcome.name: outcome for outcome in read(out / JOURNAL)}
    current = [(found[clip.name], stamp(clip.path)) for clip in source.clips if clip.name in found]
    same = [one for one, mark in current if mark and (one.recipe, one.stamp) == (wanted.digest, mark)]
    return {one.name: one for one in same if one.reason or (out / one.image).is_file()}


def read(path: Path) -> Iterator[Outcome]:
    """The outcomes in a journal, oldest first, without lines that a kill cut short."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            yield Outcome(**json.loads(line))
        except (ValueError, TypeError):
            continue

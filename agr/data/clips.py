"""Clips, corpora, and the interface of the modules that read corpus layouts."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from agr.errors import CorpusError

PLAUSIBLE_AGE = range(3, 120)  # years
NO_AGE = frozenset({"-", "?", "na", "n/a", "nan", "none", "null", "unknown"})  # says that no age is known
MOST_AGES = 3  # that are shown
DECADES = ("twent", "thirt", "fort", "fift", "sixt", "sevent", "eight", "ninet")
AGE_GROUPS = {f"{decade}ies": (10 * tens, 10 * tens + 9) for tens, decade in enumerate(DECADES, 2)} | {
    "teens": (13, 19),
    "teenager": (13, 19),
    "fourties": (40, 49),  # as Common Voice spells it
    "child": (PLAUSIBLE_AGE[0], 13),
    "adult": (18, PLAUSIBLE_AGE[-1]),
}
AGE_SPANS: dict[str, Callable[..., tuple[int, int]]] = {
    r"(\d+)(?:\.\d+)?(?: ?(?:y|yr|yrs|year|years)(?: old)?)?": lambda low: (low, low),
    r"(\d+) ?(?:-|\u2013|\.\.|to) ?(\d+)": lambda low, high: (low, high),
    r"(\d+) ?(?:\+|-|\u2013|and over|and older|or older)": lambda low: (low, PLAUSIBLE_AGE[-1]),
    r"(?:>=|over|from) ?(\d+)": lambda low: (low, PLAUSIBLE_AGE[-1]),
    r"> ?(\d+)": lambda low: (low + 1, PLAUSIBLE_AGE[-1]),
    r"(?:<|under|below) ?(\d+)": lambda high: (PLAUSIBLE_AGE[0], high - 1),
    r"(?:<=|up to) ?(\d+)": lambda high: (PLAUSIBLE_AGE[0], high),
    r"(\d0)'?s": lambda low: (low, low + 9),
}


@dataclass(frozen=True)
class Clip:
    """A labelled recording or published image; `name` is unique in the corpus, `extra` holds further columns.

    `extra["age"]`, where the corpus has ages, is as the corpus writes it; `age_range` reads it.
    """

    path: Path
    name: str
    speaker: str
    gender: str
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Corpus:
    """The clips of one source.

    `skipped` lists (name, reason) for clips that cannot be used, as those without a speaker or gender. `ready_images`:
    the clips are images that the paper published, not recordings. `synthetic`: the voices are. `notes`: what whoever
    uses the corpus should know, a line each.
    """

    name: str
    root: Path
    clips: tuple[Clip, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    ready_images: bool = False
    synthetic: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reading:
    """How a source is read.

    `workspace` holds what is made or downloaded. `allow_outside`: a table may name files outside its folder, by `..`, a
    full path or a link. `columns`: what a table's columns mean, by role (`path`, `speaker`, `gender`, `age`), and which
    label is `female` and which `male`.
    """

    workspace: Path = Path("data")
    allow_outside: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)


def age_range(extra: Mapping[str, str]) -> tuple[int, int] | None:
    """The youngest and oldest that the speaker of a clip may be, in whole years; None where no age is known.

    Understands a number of years ("23"), decades ("twenties", "20s"), spans ("20-29") and open ones ("18+", "<18").
    An age below 3 or above 119 is a slip, and not known.
    """
    text = extra.get("age", "").strip().lower()
    span = AGE_GROUPS.get(text)
    for pattern, bounds in AGE_SPANS.items():
        if span is None and (match := re.fullmatch(pattern, text)):
            span = bounds(*map(int, match.groups()))
    return span if span and span[0] <= span[1] in PLAUSIBLE_AGE else None


class Layout(Protocol):
    """A module that reads one corpus layout; `agr.data.corpus.LAYOUTS` lists them.

    NAME is what the layout is called, EXPECTED describes such a folder. TABLE: it reads columns that
    `Reading.columns` can name.
    """

    NAME: str
    EXPECTED: str
    TABLE: bool

    def recognises(self, folder: Path) -> bool:
        """Whether a folder has this layout, judged by file names and at most the first line of a file."""

    def read(self, folder: Path, name: str, reading: Reading) -> Corpus:
        """List the clips of a folder that `recognises` accepts, without opening them. Raises: CorpusError."""


def verified(corpus: Corpus, source: Path) -> Corpus:
    """The corpus without clips that contradict one another.

    Of a clip that is listed several times for one speaker the first is kept; one listed for several speakers, and every
    clip of a speaker of two genders, is skipped. Raises: CorpusError that names `source` if no clip is left.
    """
    listed = Counter(clip.name for clip in corpus.clips)
    owners: defaultdict[str, set[str]] = defaultdict(set)
    genders: defaultdict[str, set[str]] = defaultdict(set)
    for clip in corpus.clips:
        owners[clip.name].add(clip.speaker)
        genders[clip.speaker].add(clip.gender)
    kept: dict[str, Clip] = {}
    skipped = list(corpus.skipped)
    for clip in corpus.clips:
        if len(owners[clip.name]) > 1:
            skipped.append((clip.name, f"listed for speakers {', '.join(sorted(owners[clip.name]))}; expected one"))
        elif len(genders[clip.speaker]) > 1:
            skipped.append((clip.name, f"speaker {clip.speaker} is both female and male; expected one"))
        elif clip.name in kept:
            skipped.append((clip.name, f"listed {listed[clip.name]} times; expected once, so the first is kept"))
        else:
            kept[clip.name] = clip
    if not kept:
        reason = f", the first of {len(skipped)} skipped: {skipped[0][1]}" if skipped else ""
        raise CorpusError(f"{source}: no labelled clips{reason}; expected recordings or images")
    notes = (*corpus.notes, *_odd_ages(kept.values(), source))
    return replace(corpus, clips=tuple(kept.values()), skipped=tuple(skipped), notes=notes)


def _odd_ages(clips: Iterable[Clip], source: Path) -> list[str]:
    """A line about clips whose age is there and says nothing, as "abc", "-3" or "1234"."""
    ages = [clip.extra.get("age", "").strip() for clip in clips if age_range(clip.extra) is None]
    odd = [age for age in ages if age and age.lower() not in NO_AGE]
    if not odd:
        return []
    some = ", ".join(map(repr, [*dict.fromkeys(odd)][:MOST_AGES]))
    return [f"{source}: {len(odd)} clips have an age that says nothing, as {some}; their age counts as unknown"]

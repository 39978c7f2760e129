"""Clips, corpora, and the interface of the modules that read corpus layouts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from agr.errors import CorpusError

PLAUSIBLE_AGE = range(3, 120)  # years
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
    r"(?:<=|-|up to) ?(\d+)": lambda high: (PLAUSIBLE_AGE[0], high),
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

    `skipped` lists (name, reason) for clips without a speaker or gender. `ready_images`: the clips are images that the
    paper published, not recordings. `synthetic`: the voices are.
    """

    name: str
    root: Path
    clips: tuple[Clip, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    ready_images: bool = False
    synthetic: bool = False


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

    EXPECTED describes such a folder, for the message about a folder that no layout recognises.
    """

    EXPECTED: str

    def recognises(self, folder: Path) -> bool:
        """Whether a folder has this layout, judged by file names and at most the first line of a file."""

    def read(self, folder: Path, name: str, allow_outside: bool = False) -> Corpus:
        """List the clips of a folder that `recognises` accepts, without opening them.

        `allow_outside` lets a manifest name files outside the folder. Raises: CorpusError.
        """


def verified(corpus: Corpus, source: Path) -> Corpus:
    """Return the corpus if it is consistent.

    Raises: CorpusError that names `source` if it has no clips, a clip twice, or a speaker of two genders.
    """
    if not corpus.clips:
        reason = f", the first of {len(corpus.skipped)} skipped: {corpus.skipped[0][1]}" if corpus.skipped else ""
        raise CorpusError(f"{source}: no labelled clips{reason}; expected recordings or images")
    name, count = Counter(clip.name for clip in corpus.clips).most_common(1)[0]
    if count > 1:
        raise CorpusError(f"{source}: {name} is listed {count} times; expected once")
    genders: dict[str, str] = {}
    for clip in corpus.clips:
        if genders.setdefault(clip.speaker, clip.gender) != clip.gender:
            raise CorpusError(f"{source}: speaker {clip.speaker} is both female and male; expected one")
    return corpus

"""Clips, a corpus of them, and what a reader of a corpus layout has to offer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from agr.errors import CorpusError


@dataclass(frozen=True)
class Clip:
    """One recording (or study image): its file, a name unique in the corpus, its speaker and gender, and the rest."""

    path: Path
    name: str
    speaker: str
    gender: str
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Corpus:
    """The clips of one source; `skipped` lists (name, reason) of those without a speaker or gender.

    `ready_images` tells images that the study published from recordings, `synthetic` that the voices are.
    """

    name: str
    root: Path
    clips: tuple[Clip, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    ready_images: bool = False
    synthetic: bool = False


class Layout(Protocol):
    """A module that reads corpora laid out on disk in one way; `agr.data.corpus.LAYOUTS` lists them all.

    EXPECTED names what such a folder holds, for the message about a folder that no layout recognises.
    """

    EXPECTED: str

    def recognises(self, folder: Path) -> bool:
        """Whether a folder is laid out so, judged by names and at most the first line of a file."""

    def read(self, folder: Path, name: str, allow_outside: bool = False) -> Corpus:
        """The corpus in a folder that `recognises` accepts, its clips listed without opening them.

        `allow_outside` lets a list of clips name files outside the folder. Raises: CorpusError, as `verified` does too.
        """


def verified(corpus: Corpus, source: Path) -> Corpus:
    """The corpus itself; `source` is the file or folder to name in messages.

    Raises: CorpusError if it has no clips, a clip twice, or a speaker of two genders.
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

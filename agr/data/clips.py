"""Clips, corpora, and the interface of the modules that read corpus layouts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from agr.errors import CorpusError


@dataclass(frozen=True)
class Clip:
    """A labelled recording or published image; `name` is unique in the corpus, `extra` holds further columns."""

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

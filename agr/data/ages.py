"""Leave out clips by the age of their speakers.

adults = within(corpus, parse("18-"))
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agr.common.cli import complain
from agr.data.clips import PLAUSIBLE_AGE, Corpus, age_range
from agr.errors import CorpusError

if TYPE_CHECKING:
    from agr.data.image_set import ImageSet

HELP = "leave out speakers who may be younger or older: 18-, 18-65, -17; clips without an age stay (default: none)"


@dataclass(frozen=True)
class Ages:
    """The youngest and the oldest age to keep, in whole years."""

    youngest: int
    oldest: int

    def __str__(self) -> str:
        """As it is typed: `18-`, `18-65`, `-17`."""
        low, high = PLAUSIBLE_AGE[0], PLAUSIBLE_AGE[-1]
        return f"{self.youngest if self.youngest > low else ''}-{self.oldest if self.oldest < high else ''}"

    def reason(self, extra: Mapping[str, str]) -> str:
        """Why a clip is left out, from its further columns; empty if it stays.

        A speaker of whom only a span of ages is known stays if all of it is within these: "twenties" is not within 25-.
        """
        known = age_range(extra)
        if known is None or (self.youngest <= known[0] and known[1] <= self.oldest):
            return ""
        return f"age {extra['age']!r}; expected {self}, by --ages"


def parse(text: str) -> Ages:
    """The value of --ages. Raises: argparse.ArgumentTypeError."""
    match = re.fullmatch(r"(\d{0,3})-(\d{0,3})", text.strip())
    found = Ages(int(match[1] or PLAUSIBLE_AGE[0]), int(match[2] or PLAUSIBLE_AGE[-1])) if match else None
    if match is None or found is None or not any(match.groups()) or found.youngest > found.oldest:
        raise argparse.ArgumentTypeError(f"{text}: expected ages in years, as 18- or 18-65 or -17")
    return found


def add_ages(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add the flag --ages."""
    parser.add_argument("--ages", type=parse, metavar="AGES", help=HELP)


def within(source: Corpus, ages: Ages | None) -> Corpus:
    """The corpus without clips whose speakers are known to be, or may be, of another age; these join `skipped`.

    Raises: CorpusError if no clip is left.
    """
    if ages is None:
        return source
    reasons = {clip.name: reason for clip in source.clips if (reason := ages.reason(clip.extra))}
    clips = tuple(clip for clip in source.clips if clip.name not in reasons)
    _tell(ages, source.name, [clip.extra for clip in source.clips], len(reasons))
    return replace(source, clips=clips, skipped=(*source.skipped, *reasons.items()))


def images_within(data: ImageSet, ages: Ages | None) -> ImageSet:
    """The images of a prepared corpus without those that `within` would leave out. Raises: CorpusError as it does."""
    if ages is None:
        return data
    import numpy as np  # only a command that reads images needs it

    from agr.common.rows import column
    from agr.data.image_set import subset

    extras = [{"age": age} for age in column(data.rows, "age")]
    keep = np.array([at for at, extra in enumerate(extras) if not ages.reason(extra)], dtype=np.int64)
    _tell(ages, data.name, extras, len(data) - len(keep))
    return data if len(keep) == len(data) else subset(data, keep)


def _tell(ages: Ages, name: str, extras: Sequence[Mapping[str, str]], left_out: int) -> None:
    """Say on stderr how many clips are left out, and how many stay because their age is not known."""
    if left_out == len(extras):
        raise CorpusError(f"--ages {ages}: all {left_out} clips of {name} are of other ages; expected some within")
    unknown = sum(1 for extra in extras if age_range(extra) is None)
    complain(f"--ages {ages}: {left_out} of {len(extras)} clips of {name} left out; {unknown} have no age and stay")

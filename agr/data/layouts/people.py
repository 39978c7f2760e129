"""Finds the recordings of a folder, and labels them by what a corpus says of their speakers, alike in every layout."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from agr.audio.files import walk
from agr.data.clips import Clip, age_range
from agr.labels import CLASSES, genders_of, is_child

ADULT = 14  # years; a child's voice has not broken yet, and says little of a gender
CODE = re.compile(r"\d+|[a-zA-Z]")  # a label that may mean anything
Skipped = tuple[str, str]  # the clip's name, and why it is left out


def recordings(folder: Path) -> tuple[dict[str, Path], list[Skipped]]:
    """The sound files below a folder by their names, which are relative to it, in sorted order.

    Beside them what cannot be looked into, such as a link to a folder or a pipe; other files are no recordings.
    """
    found = {each.path.relative_to(folder).as_posix(): each for each in walk(folder)}
    sounds = {name: each.path for name, each in found.items() if each.other is None}
    return sounds, [(name, f"{each.other}; expected a sound file") for name, each in found.items() if each.closed]


def labelled(
    found: Iterable[Clip | Skipped], declared: Mapping[str, str] | None = None
) -> tuple[tuple[Clip, ...], tuple[Skipped, ...]]:
    """The clips that can be used, with a class for a gender, and those that cannot, with the reason, in order.

    found: clips whose `gender` is as the corpus spells it, and clips that are skipped already.
    declared: `female` and `male` as this corpus spells them, where its user says so.
    """
    found = list(found)
    genders = genders_of(each.gender for each in found if isinstance(each, Clip))
    if declared:
        genders = {**genders, **{declared[gender]: gender for gender in CLASSES if gender in declared}}
    clips, skipped = [], []
    for each in found:
        if not isinstance(each, Clip):
            skipped.append(each)
        elif reason := _reason(each, genders[each.gender]):
            skipped.append((each.name, reason))
        else:
            clips.append(replace(each, gender=str(genders[each.gender])))
    return tuple(clips), tuple(skipped)


def _reason(clip: Clip, gender: str | None) -> str:
    """Why a clip cannot be used; empty if it can."""
    if is_child(clip.gender):
        return f"gender {clip.gender!r}, a child; expected female or male"
    if gender is None:
        declare = ", or --columns female=LABEL male=LABEL" if CODE.fullmatch(clip.gender) else ""
        return f"gender {clip.gender!r}; expected female or male{declare}"
    if not clip.speaker:
        return "no speaker; expected a name or number"
    age = age_range(clip.extra)
    return f"age {clip.extra['age']}, a child; expected {ADULT} or older" if age and age[1] < ADULT else ""

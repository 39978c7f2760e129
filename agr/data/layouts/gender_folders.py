"""Folders named after a gender, `female/` and `male/` or what else women and men are called.

Who speaks is told by a folder below (`female/ann/1.wav`), else by what stands before the first `_` or `-` of the names
(`female/ann_1.wav`), where that can be a speaker's name: the files of each gender have several such beginnings, fewer
than files, and none that the other gender has too. Else every file counts as a speaker of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from agr.data.clips import Clip, Corpus, Reading, verified
from agr.data.layouts.people import Skipped, labelled, recordings
from agr.labels import CLASSES, genders_of

NAME, TABLE = "folders of women and men", False
EXPECTED = "folders female and male, with a folder or the beginning of a name for each speaker"


def recognises(folder: Path) -> bool:
    """Whether folders in it, or in a folder of it (`train/female`), are named after a gender."""
    names = [path.name for path in (*folder.glob("*/"), *folder.glob("*/*/")) if path.is_dir()]
    return any(gender for gender in genders_of(names).values())


def read(folder: Path, name: str, reading: Reading) -> Corpus:
    """The recordings below folders named after a gender. Raises: CorpusError."""
    files, closed = recordings(folder)
    genders = genders_of(part for file in files for part in file.split("/")[:-1])
    below = {file: known for file in files if (known := _gender(file, genders))}
    flat = {file: gender for file, (gender, rest) in below.items() if len(rest) == 1}
    beginnings = _beginnings(flat)

    def labelled_as(file: str, path: Path) -> Clip | Skipped:
        if file not in below:
            return file, "not in a folder of women or men; expected one named female or male"
        gender, rest = below[file]
        who = rest[0] if len(rest) > 1 else beginnings.get(file, Path(file).with_suffix("").as_posix())
        return Clip(path, file, f"{gender}/{who}", gender)

    clips, skipped = labelled([*closed, *(labelled_as(*pair) for pair in files.items())])
    notes = _notes(folder, flat, beginnings)
    return verified(Corpus(name, folder, clips, skipped, notes=notes), folder)


def _gender(file: str, genders: Mapping[str, str | None]) -> tuple[str, list[str]] | None:
    """The gender of the first folder that is named after one, and what follows it in the path."""
    *folders, last = file.split("/")
    for at, part in enumerate(folders):
        if gender := genders[part]:
            return gender, [*folders[at + 1 :], last]
    return None


def _beginnings(flat: Mapping[str, str]) -> dict[str, str]:
    """What stands before the first `_` or `-` of each file's name, where that can be a speaker's name; else nothing."""
    found = {file: re.split(r"[_-]", Path(file).stem)[0] for file in flat}
    names = [{found[file] for file in flat if flat[file] == gender} for gender in CLASSES]
    counts = [sum(each == gender for each in flat.values()) for gender in CLASSES]
    told = all(1 < len(each) < count for each, count in zip(names, counts, strict=True) if count)
    return found if told and not names[0] & names[1] else {}


def _notes(folder: Path, flat: Mapping[str, str], beginnings: Mapping[str, str]) -> tuple[str, ...]:
    if not flat:
        return ()
    if beginnings:
        speakers = len(set(beginnings.values()))
        return (f"{folder}: {len(flat)} files of {speakers} speakers, by what their names begin with",)
    what = "a speaker is told neither by a folder nor by a name"
    return (f"{folder}: {what}, so each of {len(flat)} files counts as a speaker of its own",)

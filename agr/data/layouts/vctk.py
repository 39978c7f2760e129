"""VCTK's layout: `speaker-info.txt`, and `wav48_silence_trimmed/p225/p225_001_mic1.flac` or `wav48/p225/p225_001.wav`.

Each utterance was recorded by two microphones at once: of `_mic1` and `_mic2` the first that is there is taken.
"""

from __future__ import annotations

from pathlib import Path

from agr.data.clips import Clip, Corpus, Reading, verified
from agr.data.layouts.dialect import text_lines
from agr.data.layouts.people import Skipped, labelled, recordings

NAME, TABLE = "VCTK", False
INFO = "speaker-info.txt"
EXPECTED = f"{INFO} and wav48_silence_trimmed/SPEAKER/*_mic1.flac"
FIRST, SECOND = "_mic1", "_mic2"


def recognises(folder: Path) -> bool:
    """Whether a folder has VCTK's table of speakers."""
    return (folder / INFO).is_file()


def read(folder: Path, name: str, reading: Reading) -> Corpus:
    """The recordings of a folder in VCTK's layout. Raises: CorpusError."""
    rows = [line.split() for line in text_lines(folder / INFO)]
    people = {row[0].removeprefix("p"): (row[1], row[2]) for row in rows if len(row) > 2}
    found, closed = recordings(folder)
    paths = list(found.values())
    first = {path.with_name(path.stem.removesuffix(FIRST)) for path in paths if path.stem.endswith(FIRST)}
    taken = [path for path in paths if path.with_name(path.stem.removesuffix(SECOND)) not in first]
    clips, skipped = labelled([*closed, *(_found(folder, path, people) for path in taken)])
    again = len(paths) - len(taken)
    notes = (f"{folder}: {again} recordings {SECOND} hold the utterances of {FIRST} once more, and are not used",)
    return verified(Corpus(name, folder, clips, skipped, notes=notes if again else ()), folder / INFO)


def _found(folder: Path, path: Path, people: dict[str, tuple[str, str]]) -> Clip | Skipped:
    name, speaker = path.relative_to(folder).as_posix(), path.parent.name
    if speaker.removeprefix("p") not in people:
        return name, f"speaker {speaker} is not in {INFO}; expected SPEAKER/{path.name}"
    age, gender = people[speaker.removeprefix("p")]
    return Clip(path, name, speaker, gender, {"age": age})

"""CREMA-D's layout: `VideoDemographics.csv` (ActorID, Age, Sex) and `AudioWAV/1001_DFA_ANG_XX.wav`.

`AudioMP3/` holds the same recordings again, and is read only where there is no `AudioWAV/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from agr.data.clips import Clip, Corpus, Reading, verified
from agr.data.layouts.dialect import read_table
from agr.data.layouts.people import Skipped, labelled, recordings

NAME, TABLE = "CREMA-D", False
PEOPLE = "VideoDemographics.csv"
FOLDERS = ("AudioWAV", "AudioMP3")
COLUMNS = {"speaker": "ActorID", "gender": "Sex", "age": "Age"}
EXPECTED = f"{PEOPLE} and AudioWAV/ACTOR_SENTENCE_EMOTION_LEVEL.wav"


def recognises(folder: Path) -> bool:
    """Whether a folder has CREMA-D's table of actors."""
    return (folder / PEOPLE).is_file()


def read(folder: Path, name: str, reading: Reading) -> Corpus:
    """The recordings of a folder in CREMA-D's layout. Raises: CorpusError."""
    rows = read_table(folder / PEOPLE, COLUMNS, wanted=()).rows
    actors = {row[COLUMNS["speaker"]]: row for row in rows}
    places = [folder / place for place in FOLDERS if (folder / place).is_dir()] or [folder]
    paths, closed = recordings(places[0])
    clips, skipped = labelled([*closed, *(_found(folder, path, actors) for path in paths.values())])
    notes = tuple(f"{place}: the recordings of {places[0].name} once more, not used" for place in places[1:])
    return verified(Corpus(name, folder, clips, skipped, notes=notes), folder / PEOPLE)


def _found(folder: Path, path: Path, actors: Mapping[str, Mapping[str, str]]) -> Clip | Skipped:
    name, (actor, *words) = path.relative_to(folder).as_posix(), path.stem.split("_")
    if actor not in actors:
        return name, f"actor {actor} is not in {PEOPLE}; expected ACTOR_SENTENCE_EMOTION_LEVEL.wav"
    extra = dict(zip(("sentence", "emotion", "level"), words, strict=False)) | {"age": actors[actor][COLUMNS["age"]]}
    return Clip(path, name, actor, actors[actor][COLUMNS["gender"]], extra)

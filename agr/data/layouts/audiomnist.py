"""AudioMNIST's layout: `data/SS/DIGIT_SS_REPETITION.wav` and `data/audioMNIST_meta.txt`, a JSON object of speakers.

The `data` folder itself is accepted too, and other sound formats.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agr.data.clips import PLAUSIBLE_AGE, Clip, Corpus, Reading, verified
from agr.data.layouts.people import Skipped, labelled, recordings
from agr.errors import CorpusError
from agr.labels import normalise_gender

METADATA = "audioMNIST_meta.txt"
NAME, TABLE = "AudioMNIST", False
EXPECTED = f"data/{METADATA}"
WAV_NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>\w+)_(?P<repetition>\d+)\.\w+")


def recognises(folder: Path) -> bool:
    """Whether a folder or its `data` folder has AudioMNIST's metadata."""
    return (_data(folder) / METADATA).is_file()


def read(folder: Path, name: str, reading: Reading) -> Corpus:
    """The recordings of a folder in AudioMNIST's layout, which names no file outside. Raises: CorpusError."""
    data = _data(folder)
    people = _metadata(data / METADATA)
    paths, closed = recordings(data)
    clips, skipped = labelled([*closed, *(_found(path, clip_name, people) for clip_name, path in paths.items())])
    synthetic = any(person.get("synthetic") for person in people.values())
    return verified(Corpus(name, data, clips, skipped, synthetic=synthetic), data)


def _data(folder: Path) -> Path:
    return folder / "data" if (folder / "data" / METADATA).is_file() else folder


def _found(path: Path, name: str, people: Mapping[str, Mapping[str, Any]]) -> Clip | Skipped:
    """The clip, with its gender as the metadata spell it, or its name and the reason why it has none."""
    match = WAV_NAME.fullmatch(path.name)
    if match is None:
        return name, f"named {path.name}; expected DIGIT_SPEAKER_REPETITION.wav"
    speaker = path.parent.name
    if match["speaker"] != speaker:
        return name, f"speaker {match['speaker']} in the name, {speaker} in the folder; expected the same"
    if speaker not in people:
        return name, f"speaker {speaker} is not in {METADATA}"
    person = people[speaker]
    gender = str(person.get("gender", ""))
    if normalise_gender(gender) is None:
        return name, f"speaker {speaker} has gender {person.get('gender')!r}; expected female or male"
    accent, age = str(person.get("accent", "")).strip(), str(person.get("age")).strip()
    age = age if age.isdecimal() and int(age) in PLAUSIBLE_AGE else ""  # AudioMNIST has one of 1234
    extra = {"digit": match["digit"], "repetition": match["repetition"], "accent": accent, "age": age}
    return Clip(path, name, speaker, gender, extra)


def _metadata(path: Path) -> dict[str, dict[str, Any]]:
    try:
        people = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise CorpusError(f"{path}: {error}; expected a JSON object of speakers") from error
    if not isinstance(people, dict) or not all(isinstance(person, dict) for person in people.values()):
        raise CorpusError(f"{path}: not a JSON object of speakers, each an object itself")
    return {str(speaker).strip(): person for speaker, person in people.items()}

"""Where voices come from: any SOURCE that `prepare`, `evaluate` and the search accept, as one list of clips.

    corpus = open_corpus("demo", Path("data"))

SOURCE is `demo` (synthetic voices), `audiomnist` (fetched), a folder in AudioMNIST's layout, a folder of ready
images, or a CSV manifest with the columns path, speaker and gender.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agr import __version__, audio, paths
from agr.errors import CorpusError

CLASSES = ("female", "male")  # a label is an index into this
GENDERS = {"female": "female", "f": "female", "woman": "female", "male": "male", "m": "male", "man": "male"}
METADATA = "audioMNIST_meta.txt"
WAV_NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>\w+)_(?P<repetition>\d+)\.\w+")
MANIFEST_COLUMNS = ("path", "speaker", "gender")
READY_COLUMNS = ("image", "speaker", "gender")
PLAUSIBLE_AGE = range(3, 120)
DEMO_SPEAKERS, DEMO_REPETITIONS = 40, 3


@dataclass(frozen=True)
class Clip:
    """One recording (or ready image) and what is known of it; `name` is unique within its corpus."""

    path: Path
    name: str
    speaker: str
    gender: str
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Corpus:
    """The clips of one source; `skipped` lists (name, reason) of those that cannot be labelled."""

    name: str
    root: Path
    clips: tuple[Clip, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    ready_images: bool = False
    synthetic: bool = False


def open_corpus(source: str, workspace: Path, allow_outside: bool = False) -> Corpus:
    """Find out what SOURCE is, fetch or make it under `workspace` if need be, and list its clips.

    allow_outside: whether a manifest may name files outside its own folder, by .., a whole path or a link.
    Raises: CorpusError, or FetchError when AudioMNIST cannot be had.
    """
    if source == "demo":
        return _demo(workspace / f"demo-voices-{__version__}")
    if source == "audiomnist":
        return _fetched(workspace / "audiomnist")
    path = Path(source)
    if path.is_dir():
        return _folder(path, allow_outside)
    if path.is_file() and path.suffix.lower() == ".csv":
        return read_manifest(path, allow_outside=allow_outside)
    found = "a file" if path.exists() else "no such file or folder"
    raise CorpusError(f"{source}: {found}; expected demo, audiomnist, a corpus folder or a CSV manifest")


def normalise_gender(value: object) -> str | None:
    """`female` or `male` for the usual spellings, None for anything else."""
    return GENDERS.get(str(value).strip().lower())


def _demo(root: Path) -> Corpus:
    from agr import synth
    from agr.progress import silent_progress, terminal_progress

    total = DEMO_SPEAKERS * len(synth.WORDS) * DEMO_REPETITIONS
    show = silent_progress if len(audio.find(root)) == total else terminal_progress
    with show("synthesising demo voices", total, unit="clips") as meter:
        synth.write_demo(root, DEMO_SPEAKERS, DEMO_REPETITIONS, progress=meter.at)
    return _audiomnist_layout(root, "demo")


def _fetched(root: Path) -> Corpus:
    from agr.fetch import fetch_audiomnist

    return _audiomnist_layout(fetch_audiomnist(root), "audiomnist")


def _folder(root: Path, allow_outside: bool) -> Corpus:
    name = root.resolve().name
    if (root / "data" / METADATA).is_file() or (root / METADATA).is_file():
        return _audiomnist_layout(root, name)
    manifest = root / "manifest.csv"
    if manifest.is_file():
        header = set(_rows(manifest)[0])
        return (_ready_images if "image" in header else read_manifest)(manifest, name, allow_outside)
    raise CorpusError(
        f"{root}: neither data/{METADATA} nor manifest.csv in it; expected AudioMNIST's layout, "
        "ready images with their manifest, or a prepared folder"
    )


def _audiomnist_layout(root: Path, name: str) -> Corpus:
    """`data/NN/DIGIT_NN_REP.wav` with `data/audioMNIST_meta.txt`; the `data` folder itself will do too."""
    data = root / "data" if (root / "data" / METADATA).is_file() else root
    people = _metadata(data / METADATA)
    clips, skipped = [], []
    for path in audio.find(data):
        clip = _labelled(path, path.relative_to(data).as_posix(), people)
        if isinstance(clip, Clip):
            clips.append(clip)
        else:
            skipped.append((path.relative_to(data).as_posix(), clip))
    synthetic = any(person.get("synthetic") for person in people.values())
    return _whole(Corpus(name, data, tuple(clips), tuple(skipped), synthetic=synthetic), data)


def _labelled(path: Path, name: str, people: Mapping[str, Mapping[str, Any]]) -> Clip | str:
    """The clip, or the reason why it has no label."""
    match = WAV_NAME.fullmatch(path.name)
    if match is None:
        return f"named {path.name}; expected DIGIT_SPEAKER_REPETITION.wav"
    speaker = path.parent.name
    if match["speaker"] != speaker:
        return f"speaker {match['speaker']} in the name, {speaker} in the folder; expected the same"
    if speaker not in people:
        return f"speaker {speaker} is not in {METADATA}"
    person = people[speaker]
    gender = normalise_gender(person.get("gender", ""))
    if gender is None:
        return f"speaker {speaker} has gender {person.get('gender')!r}; expected female or male"
    extra = {"digit": match["digit"], "repetition": match["repetition"]}
    extra |= {"accent": str(person.get("accent", "")).strip(), "age": _age(person.get("age"))}
    return Clip(path, name, speaker, gender, extra)


def _age(value: object) -> str:
    """Years as digits, or nothing when the number is not a person's age (AudioMNIST has one of 1234)."""
    text = str(value).strip()
    return text if text.isdecimal() and int(text) in PLAUSIBLE_AGE else ""


def _metadata(path: Path) -> dict[str, dict[str, Any]]:
    try:
        people = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise CorpusError(f"{path}: {error}; expected a JSON object of speakers") from error
    if not isinstance(people, dict) or not all(isinstance(person, dict) for person in people.values()):
        raise CorpusError(f"{path}: not a JSON object of speakers, each an object itself")
    return {str(speaker).strip(): person for speaker, person in people.items()}


def read_manifest(path: Path, name: str | None = None, allow_outside: bool = False) -> Corpus:
    """A CSV file with the columns path (relative to the file), speaker, gender, and any others, which are kept."""
    clips, skipped = [], []
    for row in _rows(path, MANIFEST_COLUMNS):
        person = _person(row)
        if isinstance(person, str):
            skipped.append((row["path"], person))
            continue
        extra = {key: value for key, value in row.items() if key not in MANIFEST_COLUMNS}
        clips.append(Clip(path.parent / row["path"], row["path"], *person, extra))
    synthetic = any(clip.extra.get("synthetic", "").lower() in ("1", "true", "yes") for clip in clips)
    found = Corpus(name or path.stem, path.parent, tuple(clips), tuple(skipped), synthetic=synthetic)
    paths.check(path, (clip.name for clip in clips), allow_outside)
    return _whole(found, path)


def _ready_images(manifest: Path, name: str, allow_outside: bool = False) -> Corpus:
    """`{train,val}/{female,male}/*.jpg`, as the study published them, with their manifest."""
    clips, skipped = [], []
    for row in _rows(manifest, READY_COLUMNS):
        person = _person(row)
        if isinstance(person, str):
            skipped.append((row["image"], person))
            continue
        extra = {key: value for key, value in row.items() if key not in READY_COLUMNS}
        extra["folder"] = row["image"].split("/")[0]
        clips.append(Clip(manifest.parent / row["image"], row["image"], *person, extra))
    found = Corpus(name, manifest.parent, tuple(clips), tuple(skipped), ready_images=True)
    paths.check(manifest, (clip.name for clip in clips), allow_outside)
    return _whole(found, manifest)


def _person(row: Mapping[str, str]) -> tuple[str, str] | str:
    """Speaker and gender of a manifest's row, or the reason why it has no label."""
    gender, speaker = normalise_gender(row["gender"]), row["speaker"].strip()
    if gender is None:
        return f"gender {row['gender']!r}; expected female or male"
    return (speaker, gender) if speaker else "no speaker; expected a name or number"


def _rows(path: Path, columns: Iterable[str] = ()) -> list[dict[str, str]]:
    """The rows of a CSV file, every value a string. Raises: CorpusError if it is empty or a column is missing."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restkey="", restval="")
            header = reader.fieldnames or ()  # read while the file is open
            rows = [{key: value for key, value in row.items() if key} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{path}: {error}; expected a CSV file in UTF-8") from error
    missing = [column for column in columns if column not in header]
    if missing:
        found = ",".join(header) or "nothing"
        raise CorpusError(f"{path}: columns {found}; expected also {', '.join(missing)}")
    if not rows:
        raise CorpusError(f"{path}: no rows; expected one a clip")
    if any("\0" in value for row in rows for value in row.values()):
        raise CorpusError(f"{path}: holds NUL bytes; expected a CSV file in UTF-8")
    return rows


def _whole(corpus: Corpus, where: Path) -> Corpus:
    """Refuse a corpus with no clips, with a clip twice, or with a speaker of two genders."""
    if not corpus.clips:
        reason = f", the first of {len(corpus.skipped)} skipped: {corpus.skipped[0][1]}" if corpus.skipped else ""
        raise CorpusError(f"{where}: no labelled clips{reason}; expected recordings or images")
    name, count = Counter(clip.name for clip in corpus.clips).most_common(1)[0]
    if count > 1:
        raise CorpusError(f"{where}: {name} is listed {count} times; expected once")
    genders: dict[str, str] = {}
    for clip in corpus.clips:
        if genders.setdefault(clip.speaker, clip.gender) != clip.gender:
            raise CorpusError(f"{where}: speaker {clip.speaker} is both female and male; expected one")
    return corpus

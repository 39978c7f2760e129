"""Hugging Face's data sets: a folder that `datasets` saved, Parquet files, or `hf:OWNER/NAME` from its hub.

A set needs a column of audio, one of speakers and one of genders. Its recordings are written below the workspace once,
beside a manifest, and are a corpus of files from then on. No decoder of theirs runs, and no code of a data set.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agr.common.files import write_atomic
from agr.common.progress import terminal_progress
from agr.data.clips import Clip, Corpus, Reading
from agr.data.layouts.dialect import ROLES, WANTED, find_columns
from agr.data.layouts.manifest import MANIFEST, read_manifest
from agr.data.layouts.people import labelled
from agr.data.layouts.table import check_files
from agr.errors import AgrError, CorpusError, FetchError
from agr.labels import CLASSES

NAME, TABLE = "Hugging Face data set", True
EXPECTED = "a folder that the package datasets saved, or Parquet files"
HUB, SUFFIX = "hf:", ".parquet"
OWN_FILES = (".json", ".arrow")  # of what `datasets` saves: in the folder, or in one for each split
SAVED = ("dataset_dict.json", "dataset_info.json")
RECORDINGS = ("audio", "string", "large_string", "binary", "large_binary")  # types of a column of them
WRITTEN = (*WANTED, "age", "split")  # columns of the manifest


def recognises(folder: Path) -> bool:
    """Whether a folder was saved by `datasets`, or it or folders in it hold Parquet files."""
    return _is_saved(folder) or bool(_files(folder, SUFFIX))


def read(folder: Path, name: str, reading: Reading) -> Corpus:
    """The recordings of a folder that `datasets` saved, or of its Parquet files. Raises: CorpusError."""
    if not _is_saved(folder):
        return read_parquet(_files(folder, SUFFIX), folder, name, reading)

    def load(cache: Path) -> Any:
        return _library(folder).load_from_disk(str(folder))

    return _read(load, str(folder), _identity(_files(folder, *OWN_FILES)), name, folder, reading)


def read_parquet(files: Sequence[Path], source: Path, name: str, reading: Reading) -> Corpus:
    """The recordings of Parquet files; `train-00000-of-00002.parquet` is of the split `train`. Raises: CorpusError."""
    splits: dict[str, list[str]] = {}
    for path in files:
        splits.setdefault(path.stem.split("-")[0], []).append(str(path))

    def load(cache: Path) -> Any:
        made = _library(source).Dataset.from_parquet
        from pyarrow.parquet import read_metadata  # comes with datasets, which refuses a file without rows

        filled = {split: [path for path in paths if read_metadata(path).num_rows] for split, paths in splits.items()}
        return {split: made(paths, cache_dir=str(cache)) for split, paths in filled.items() if paths}

    return _read(load, str(source), _identity(files), name, files[0].parent, reading)


def read_hub(source: str, reading: Reading) -> Corpus:
    """The recordings of `hf:OWNER/NAME` or `hf:OWNER/NAME:CONFIGURATION`. Raises: CorpusError, FetchError."""
    name, _, configuration = source.removeprefix(HUB).partition(":")
    if name.count("/") != 1 or not all(name.split("/")):
        raise CorpusError(f"{source}: not the name of a data set; expected {HUB}OWNER/NAME")

    def load(cache: Path) -> Any:
        try:
            return _library(source).load_dataset(name, configuration or None)
        except OSError as error:  # its own errors of connection too
            found = " ".join(str(error).split())
            raise FetchError(f"{source}: {found}; expected a data set of the Hugging Face hub") from error

    cached = Path(_library(source).config.HF_CACHE_HOME)  # where it puts what it downloads
    return _read(load, source, source, name.replace("/", "-"), cached, reading)


def _is_saved(folder: Path) -> bool:
    return any((folder / name).is_file() for name in SAVED)


def _files(folder: Path, *suffixes: str) -> list[Path]:
    """The files that end so in a folder and in folders in it, and no deeper: others, or recordings, may lie there."""
    patterns = [f"{where}*{suffix}" for suffix in suffixes for where in ("", "*/")]
    return sorted(path for pattern in patterns for path in folder.glob(pattern) if path.is_file())


def _library(source: object) -> Any:
    """The package `datasets`. Raises: CorpusError if it is not installed."""
    try:
        import datasets
    except ImportError as error:
        expected = "expected the package datasets, as `pip install agr[datasets]` brings it"
        raise CorpusError(f"{source}: a {NAME}, and no {error.name} to read it; {expected}") from error
    return datasets


def _identity(files: Sequence[Path]) -> str:
    """Changes with the names, sizes and times of files."""
    stats = ((str(path.resolve()), path.stat()) for path in files)
    return repr([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])


def _read(load: Callable[[Path], Any], source: str, identity: str, name: str, root: Path, reading: Reading) -> Corpus:
    """The recordings of a set, written below the workspace unless they are there.

    load: the set, or its splits by name, given a folder for what lies between. root: files that the set names instead
    of holding them must lie below it.
    """
    key = hashlib.sha256(repr((identity, sorted(reading.columns.items()))).encode()).hexdigest()[:8]
    out = reading.workspace / f"{name}-{key}"
    if not (out / MANIFEST).is_file():
        (out / "cache").mkdir(parents=True, exist_ok=True)
        try:
            loaded = load(out / "cache")
            splits = loaded if isinstance(loaded, Mapping) else {"all": loaded}
            if not any(map(len, splits.values())):
                raise CorpusError(f"{source}: 0 rows; expected recordings with their speakers and genders")
            _write(splits, out, source, root, reading)
        except (AgrError, OSError):
            raise
        except Exception as error:  # what a damaged set makes of pyarrow and datasets is told nowhere
            found = " ".join(f"{type(error).__name__} {error}".split())[:300]
            raise CorpusError(f"{source}: {found}; expected a {NAME}") from error
        shutil.rmtree(out / "cache", ignore_errors=True)
    labels = {label: reading.columns[label] for label in CLASSES if label in reading.columns}
    try:
        return read_manifest(out / MANIFEST, name, columns=labels)
    except CorpusError as error:  # the user knows the set, not what was written of it
        raise CorpusError(str(error).replace(str(out / MANIFEST), source)) from None


def _write(splits: Mapping[str, Any], out: Path, source: str, root: Path, reading: Reading) -> None:
    """Write the recordings of all labelled clips and, last, the manifest."""
    rows: list[dict[str, str]] = []
    for name, data in splits.items():
        split = re.sub(r"\W", "_", name)
        found, recordings = _people(data, split, source, reading)
        usable = {clip.name for clip in labelled(found, reading.columns)[0]}
        there = {path.stem: path.name for path in (out / split).glob("[0-9]*.*")}
        with terminal_progress(f"writing recordings of {source}, {split}", len(found), unit="clips") as advance:
            for at, clip in enumerate(found):
                file = there.get(Path(clip.name).name, "")
                if clip.name in usable and not file:
                    file = _write_recording(recordings[at], out / clip.name, root, reading.allow_outside)
                path = f"{split}/{file}" if file else clip.name * (clip.name not in usable)
                rows.append(
                    {"path": path, "speaker": clip.speaker, "gender": clip.gender, "split": split, **clip.extra}
                )
                advance(1)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, WRITTEN)
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(out / MANIFEST, text.getvalue().encode())


def _people(data: Any, split: str, source: str, reading: Reading) -> tuple[list[Clip], Sequence[Any]]:
    """The clips with what the set says of their speakers, and their recordings, undecoded."""
    features = data.features
    declared = {role: name for role, name in reading.columns.items() if role in ROLES}
    audio = next((name for name, feature in features.items() if type(feature).__name__ == "Audio"), None)
    if audio is not None:
        declared = {"path": audio, **declared}
    columns = find_columns(source, list(features), declared, WANTED, f"{NAME}, {split}")
    _check_kinds(source, features, columns)
    undecoded = _library(source).Audio(decode=False)
    recordings = data.select_columns([columns["path"]]).cast_column(columns["path"], undecoded)[columns["path"]]
    roles = [role for role in ("speaker", "gender", "age") if role in columns]
    texts = {role: list(_texts(data, columns[role])) for role in roles}
    ages = texts.get("age") or [""] * len(data)
    people = enumerate(zip(texts["speaker"], texts["gender"], ages, strict=True))
    return [
        Clip(Path(), f"{split}/{at:07d}", who, gender, {"age": age}) for at, (who, gender, age) in people
    ], recordings


def _check_kinds(source: str, features: Mapping[str, Any], columns: Mapping[str, str]) -> None:
    """Raises: CorpusError for a column of recordings that holds none, and for people told by a list or a structure."""
    for role, column in columns.items():
        kind = features[column]
        plain = type(kind).__name__ in ("Value", "ClassLabel")
        name = str(kind.dtype) if plain else type(kind).__name__.lower()
        if role == "path":
            fits = name in RECORDINGS or (isinstance(kind, Mapping) and bool(kind.keys() & {"bytes", "path"}))
            expected = "recordings or their paths"
        else:
            fits, expected = plain, "text or numbers"
        if not fits:
            raise CorpusError(f"{source}: column {column} is of type {name}; expected {expected}")


def _texts(data: Any, column: str) -> Iterator[str]:
    """A column as text; a class by its name, and what is missing as nothing."""
    names = getattr(data.features[column], "names", None)
    for value in data.select_columns([column])[column]:
        if names is not None and value is not None:
            value = names[value] if 0 <= value < len(names) else None
        yield "" if value is None else str(value)


def _write_recording(recording: Mapping[str, Any] | None, stem: Path, root: Path, allow_outside: bool) -> str:
    """Write a recording that a set holds, or names below `root`; the file's name, empty if there is neither."""
    named = str((recording or {}).get("path") or "")
    data = (recording or {}).get("bytes")
    if data is None and named:
        check_files(root / NAME, [named], allow_outside)
        data = (root / named).read_bytes() if (root / named).is_file() else None
    if data is None:
        return ""
    suffix = Path(named).suffix if Path(named).suffix[1:].isalnum() else ".audio"
    write_atomic(stem.with_suffix(suffix), data)
    return stem.name + suffix

"""Kaldi's layout, a data folder: `wav.scp`, `utt2spk` and `spk2gender`, each a line an entry, key and value.

A `wav.scp` may hold commands, whose output is the recording. AGR runs none of them.
"""

from __future__ import annotations

from pathlib import Path

from agr.data.clips import Clip, Corpus, Reading, verified
from agr.data.layouts.dialect import text_lines
from agr.data.layouts.people import Skipped, labelled
from agr.data.layouts.table import check_files
from agr.errors import CorpusError

NAME, TABLE = "Kaldi", False
RECORDINGS, SPEAKERS, GENDERS = "wav.scp", "utt2spk", "spk2gender"
AGES, SEGMENTS = "spk2age", "segments"
EXPECTED = f"{RECORDINGS}, {SPEAKERS} and {GENDERS}"


def recognises(folder: Path) -> bool:
    """Whether a folder has a Kaldi list of recordings."""
    return (folder / RECORDINGS).is_file()


def read(folder: Path, name: str, reading: Reading) -> Corpus:
    """The recordings of a Kaldi data folder, relative to it. Raises: CorpusError."""
    if (folder / SEGMENTS).is_file():
        raise CorpusError(f"{folder / SEGMENTS}: parts of recordings; expected a {RECORDINGS} with a file an utterance")
    files, speakers, genders = (_pairs(folder / each) for each in (RECORDINGS, SPEAKERS, GENDERS))
    ages = _pairs(folder / AGES) if (folder / AGES).is_file() else {}
    for utterance, file in files.items():
        if "|" in (file[:1], file[-1:]):
            raise CorpusError(
                f"{folder / RECORDINGS}: {utterance} is the command {file!r}; expected the path of a file"
            )

    def found(utterance: str, file: str) -> Clip | Skipped:
        if not file:
            return utterance, f"nothing behind it in {RECORDINGS}; expected a file"
        speaker = speakers.get(utterance)
        if speaker is None:
            return file, f"utterance {utterance} is not in {SPEAKERS}"
        extra = {"utterance": utterance, "age": ages.get(speaker, "")}
        return Clip(folder / file, file, speaker, genders.get(speaker, ""), extra)

    clips, skipped = labelled(found(*pair) for pair in files.items())
    check_files(folder / RECORDINGS, (clip.name for clip in clips), reading.allow_outside)
    return verified(Corpus(name, folder, clips, skipped), folder / RECORDINGS)


def _pairs(table: Path) -> dict[str, str]:
    """First word and rest of each line. Raises: CorpusError if a word stands twice with another rest."""
    pairs: dict[str, str] = {}
    for line in text_lines(table):
        key, *rest = line.split(maxsplit=1)
        value = "".join(rest).strip()
        if pairs.setdefault(key, value) != value:
            raise CorpusError(f"{table}: {key} is {pairs[key]} and {value}; expected one of them")
    return pairs

"""Public tools on the same people as the model: read the recordings, measure them, score every fold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from agr.audio import read as audio
from agr.baselines import classify, extractors
from agr.baselines.extractors import Extractor
from agr.common.cli import complain
from agr.common.files import content_digest
from agr.common.progress import terminal_progress
from agr.data import corpus
from agr.data.clips import Clip, Corpus
from agr.data.splits import Split
from agr.errors import AudioError, CorpusError, SplitError
from agr.labels import CLASSES

if TYPE_CHECKING:
    pass

WORKSPACE, CACHE = Path("data"), Path("data/rivals")
UNTRAINED_HZ = 155.0  # between the usual pitches of men and women


@dataclass(frozen=True)
class Voices:
    """Labelled recordings that can be read; implements `splits.Labelled`."""

    name: str
    labels: NDArray[np.int64]
    speakers: NDArray[np.str_]
    recordings: NDArray[np.str_]
    rows: Sequence[Mapping[str, str]]
    paths: Sequence[Path]
    synthetic: bool

    def __len__(self) -> int:
        return len(self.labels)


def listen(sources: Sequence[str], workspace: Path) -> Voices:
    """The readable recordings of one or more SOURCEs, each corpus in the order in which `prepare` puts its images.

    Raises: CorpusError for study images, for two corpora with one name, or if no clip of a corpus can be read.
    """
    found = [corpus.open_corpus(source, workspace) for source in sources]
    for one, count in Counter(one.name for one in found).items():
        if count > 1:
            raise CorpusError(f"{one}: {count} corpora have this name; expected different ones")
    heard = [(one.name, clip, digest) for one in found for clip, digest in _readable(one)]
    return Voices(
        name="+".join(one.name for one in found),
        labels=np.array([CLASSES.index(clip.gender) for _, clip, _ in heard], dtype=np.int64),
        speakers=np.array([f"{name}/{clip.speaker}" for name, clip, _ in heard]),
        recordings=np.array([digest for _, _, digest in heard]),
        rows=[dict(clip.extra) for _, clip, _ in heard],
        paths=[clip.path for _, clip, _ in heard],
        synthetic=any(one.synthetic for one in found),
    )


def _readable(found: Corpus) -> list[tuple[Clip, str]]:
    """The clips that `prepare` would use, sorted by name, with their digests; the others get a line on stderr."""
    if found.ready_images:
        raise CorpusError(f"{found.root}: holds images; expected recordings")
    good, bad = [], [reason for _, reason in found.skipped]
    with terminal_progress(f"reading {found.name}", len(found.clips), unit="clips") as advance:
        for clip in sorted(found.clips, key=lambda clip: clip.name):
            try:
                data = audio.read_bytes(clip.path)
                audio.decode(data, str(clip.path))
                good.append((clip, content_digest(data)))
            except AudioError as error:
                bad.append(str(error))
            advance(1)
    if bad:
        complain(f"{found.name}: {len(bad)} clip(s) left out, the first: {bad[0]}")
    if not good:
        raise CorpusError(f"{found.root}: none of {len(found.clips)} clips could be read; expected recordings")
    return good


def across(train: Voices, test: Voices) -> tuple[Voices, Split]:
    """Join two corpora and split them so that the first trains and the second tests.

    Raises: SplitError if they share a speaker or a recording, or if `train` has clips of one gender only.
    """
    for what, ours, theirs in (
        ("speaker", train.speakers, test.speakers),
        ("recording", train.recordings, test.recordings),
    ):
        shared = np.intersect1d(ours, theirs)
        if len(shared):
            raise SplitError(f"{what} {shared[0]} is in both --data and --test; expected different ones")
    if len(set(train.labels.tolist())) < len(CLASSES):
        raise SplitError(f"{train.name}: clips of one gender only; expected both to train on")
    both = Voices(
        f"{train.name} to {test.name}",
        np.concatenate([train.labels, test.labels]),
        np.concatenate([train.speakers, test.speakers]),
        np.concatenate([train.recordings, test.recordings]),
        [*train.rows, *test.rows],
        [*train.paths, *test.paths],
        train.synthetic or test.synthetic,
    )
    order = np.arange(len(both))
    return both, Split("across corpora", order[: len(train)], order[:0], order[len(train) :])


def rows(chosen: Sequence[Extractor], voices: Voices, sides: Sequence[Split], workers: int) -> list[classify.Result]:
    """A result for each tool; Praat has a second one, with a given threshold instead of a trained one."""
    clips = [extractors.Recording(*clip) for clip in zip(voices.paths, voices.recordings.tolist(), strict=True)]
    results = []
    for rival in chosen:
        features = extractors.measure(rival, clips, CACHE, workers, terminal_progress)
        results.append(classify.compete(rival, features, voices, sides))
        if rival.name == "praat":
            untrained = replace(rival, title=f"Praat at {UNTRAINED_HZ:g} Hz, nothing trained", hz=UNTRAINED_HZ)
            results.append(classify.compete(untrained, features, voices, sides))
    return results

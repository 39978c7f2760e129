"""Read the recordings of corpora, extract each tool's features and score it on every fold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from agr.audio import read as audio
from agr.baselines import classify, extractors
from agr.baselines.extractors import Extractor
from agr.common.cli import complain
from agr.common.files import content_digest
from agr.common.places import workspace
from agr.common.progress import terminal_progress
from agr.data import combine, corpus
from agr.data.clips import Clip, Corpus
from agr.data.splits import Labelled, Split
from agr.errors import AudioError, CorpusError, SplitError
from agr.labels import CLASSES

CACHE, FORMER_CACHE = "baselines", "rivals"  # folders below the workspace; the second of earlier versions
LEFT_OUT = "without "  # and a corpus: the name of a split
UNTRAINED_HZ = 155.0  # between the usual pitches of men and women


@dataclass(frozen=True)
class Recordings(Labelled):
    """Labelled, readable recordings."""

    paths: Sequence[Path]
    synthetic: bool


def read_recordings(sources: Sequence[str], workspace: Path) -> Recordings:
    """The readable recordings of one or more SOURCEs, in the order of prepared images.

    Raises: CorpusError for study images, for two corpora with one name, or if no clip of a corpus is readable.
    """
    found = [corpus.open_corpus(source, workspace) for source in sources]
    for name, count in Counter(one.name for one in found).items():
        if count > 1:
            raise CorpusError(f"{name}: {count} corpora have this name; expected different ones")
    clips = [(one.name, clip, digest) for one in found for clip, digest in _readable(one)]
    return Recordings(
        name="+".join(one.name for one in found),
        labels=np.array([CLASSES.index(clip.gender) for _, clip, _ in clips], dtype=np.int64),
        speakers=np.array([f"{name}/{clip.speaker}" for name, clip, _ in clips]),
        recordings=np.array([digest for _, _, digest in clips]),
        rows=[dict(clip.extra) for _, clip, _ in clips],
        paths=[clip.path for _, clip, _ in clips],
        synthetic=any(one.synthetic for one in found),
    )


def _readable(found: Corpus) -> list[tuple[Clip, str]]:
    """The clips that `prepare` would use, by name, with their digests; the number of the others goes to stderr."""
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


def join_train_and_test(train: Recordings, test: Recordings) -> tuple[Recordings, Split]:
    """Join two corpora, with a split that trains on the first and tests on the second.

    Raises: SplitError if they share a speaker or a recording, or if `train` has only one gender.
    """
    for what in ("speaker", "recording"):
        shared = np.intersect1d(getattr(train, f"{what}s"), getattr(test, f"{what}s"))
        if len(shared):
            raise SplitError(f"{what} {shared[0]} is in both --data and --test; expected different ones")
    if len(set(train.labels.tolist())) < len(CLASSES):
        raise SplitError(f"{train.name}: clips of one gender only; expected both to train on")
    pairs = {key: (getattr(train, key), getattr(test, key)) for key in ("labels", "speakers", "recordings")}
    arrays = {key: np.concatenate(pair) for key, pair in pairs.items()}
    rows, paths = [*train.rows, *test.rows], [*train.paths, *test.paths]
    name, synthetic = f"{train.name} to {test.name}", train.synthetic or test.synthetic
    both = Recordings(name=name, rows=rows, paths=paths, synthetic=synthetic, **arrays)
    order = np.arange(len(both))
    return both, Split("across corpora", order[: len(train)], order[:0], order[len(train) :])


def leave_out_each(recordings: Recordings) -> list[Split]:
    """For each corpus a split that tests on it and trains on all others. Raises: SplitError with a single corpus."""
    owner = combine.corpora(recordings)
    names = np.unique(owner).tolist()
    if len(names) < 2:
        raise SplitError(f"--split corpora: found {names[0]} alone; expected two corpora or more with --data")
    rows = np.arange(len(recordings))
    return [Split(f"{LEFT_OUT}{name}", rows[owner != name], rows[:0], rows[owner == name]) for name in names]


def name_of(split: Split, index: int) -> str:
    """How a table names a split: by the corpus that it leaves out, else by its number."""
    return split.name.removeprefix(LEFT_OUT) if split.name.startswith(LEFT_OUT) else f"fold {index}"


def compare(
    chosen: Sequence[Extractor], recordings: Recordings, folds: Sequence[Split], workers: int
) -> list[classify.Result]:
    """A result for each tool; Praat has a second one, with a fixed instead of a trained threshold."""
    cache, former = workspace() / CACHE, workspace() / FORMER_CACHE
    if former.is_dir() and not cache.exists():
        former.rename(cache)
    clips = [extractors.Recording(*clip) for clip in zip(recordings.paths, recordings.recordings.tolist(), strict=True)]
    results = []
    for extractor in chosen:
        features = extractors.extract_features(extractor, clips, cache, workers, terminal_progress)
        untrained = replace(extractor, title=f"Praat at {UNTRAINED_HZ:g} Hz, nothing trained", hz=UNTRAINED_HZ)
        for tool in (extractor, untrained) if extractor.name == "praat" else (extractor,):
            results.append(classify.cross_validate(tool, features, recordings, folds))
    return results

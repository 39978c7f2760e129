"""Combine several corpora into one image set and split its speakers; one corpus may be left out for testing.

    data = join([load(Path("data/az")), load(Path("data/demo"))])
    part = split(data, "speakers", seed=0, leave_out="fsdd")

If there are recordings of people, synthetic voices are used for training only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from agr.common.cli import complain
from agr.common.rows import Names, Rows, Texts, column, encoded, joined
from agr.data import shards, splits
from agr.data.copies import Heard, copies
from agr.data.image_set import ImageSet, subset
from agr.data.left_out import summarised
from agr.data.splits import Indices, Labelled, Split
from agr.data.tracks import Tracks
from agr.errors import CorpusError, SplitError
from agr.labels import CLASSES


def join(sets: Sequence[ImageSet]) -> ImageSet:
    """Concatenate sets in the order of their names, without copies of a recording; tells on stderr what is left out.

    Raises: CorpusError for equal names or different recipes, or if all clips are copies under several speakers.
    """
    ordered = sorted(sets, key=lambda data: data.name)
    names, first = [data.name for data in ordered], ordered[0]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise CorpusError(f"--data: two corpora named {', '.join(twice)}; expected different names of their folders")
    other = next((data for data in ordered if data.recipe != first.recipe), None)
    if other is not None:
        found = f"{first.name} has images of recipe {first.recipe.name}, {other.name} of {other.recipe.name}"
        raise CorpusError(f"--data: {found}; expected one recipe")
    ordered = _without_copies(ordered)
    if len(ordered) == 1:
        return ordered[0]
    tracks = [data.features for data in ordered if isinstance(data.features, Tracks)]
    arrays = [data.features for data in ordered if data.features is not None and not isinstance(data.features, Tracks)]
    return ImageSet(
        name="+".join(data.name for data in ordered),
        pixels=shards.join([data.pixels for data in ordered]),
        labels=np.concatenate([data.labels for data in ordered]),
        speakers=joined([data.speakers for data in ordered]),
        recordings=joined([data.recordings for data in ordered]),
        rows=_rows([data.rows for data in ordered]),
        recipe=first.recipe,
        digest=hashlib.sha256(" ".join(data.digest for data in ordered).encode()).hexdigest()[:16],
        synthetic=all(data.synthetic for data in ordered),
        features=Tracks.join(tracks) if tracks else shards.join(arrays) if arrays else None,
        made_up=frozenset(name for data in ordered for name in data.made_up),
    )


def _without_copies(sets: list[ImageSet]) -> list[ImageSet]:
    """The sets without the clips that are copies within one set or of another one.

    Speakers of the same name in two corpora who share a recording are one person. In the later corpus all their clips
    are left out: a split could put them on another side than those in the earlier one.
    """
    if not _repeated(sets):
        return sets
    heard = [each for data in sets for each in _heard(data)]
    found = copies(heard)
    if not found:
        return sets
    owners = np.concatenate([data.speakers for data in sets]).tolist()
    reasons = {index: copy.reason for index, copy in found.items()}
    shared = [(index, copy.twin) for index, copy in found.items() if heard[index].speaker == heard[copy.twin].speaker]
    twice = {owners[index]: owners[twin] for index, twin in shared if owners[index] != owners[twin]}
    for index, owner in enumerate(owners):
        if index not in reasons and owner in twice:
            reasons[index] = (
                f"speaker {owner} shares recordings with {twice[owner]}; expected each person in one corpus"
            )
    complain(f"--data: {len(reasons)} of {len(heard)} clips left out, as recordings are there more than once")
    for line in summarised((heard[index].name, reason) for index, reason in sorted(reasons.items())):
        complain(line)
    return _remaining(sets, reasons)


def _repeated(sets: Sequence[ImageSet]) -> bool:
    """Whether a recording, or its samples, is there more than once; quick for a million clips."""
    if any(len(data.takes[0]) < len(data) for data in sets):
        return True
    if len(sets) > 1 and len({each for data in sets for each in data.recordings.tolist()}) < sum(map(len, sets)):
        return True
    samples, numbers = encoded(_rows([data.rows for data in sets]), "samples")
    twice = np.flatnonzero(np.bincount(numbers) > 1)
    return any(str(samples[number]) for number in twice.tolist())


def _remaining(sets: Sequence[ImageSet], left_out: Container[int]) -> list[ImageSet]:
    """The sets without some clips, which are counted through all of them; without sets of which nothing is left."""
    remaining, start = [], 0
    for data in sets:
        keep = np.array([at for at in range(len(data)) if start + at not in left_out], dtype=np.int64)
        start += len(data)
        if len(keep):
            remaining.append(data if len(keep) == len(data) else subset(data, keep))
    if not remaining:
        raise CorpusError("--data: every clip is a copy of one of another speaker; expected each recording once")
    return remaining


def _heard(data: ImageSet) -> Iterator[Heard]:
    """What each clip is known by; a speaker of another gender is another one."""
    texts = data.speakers.tolist(), data.labels.tolist(), data.recordings.tolist()
    each = zip(*texts, column(data.rows, "source"), column(data.rows, "samples"), strict=True)
    for index, (speaker, label, recording, source, samples) in enumerate(each):
        name = f"{data.name}:{source or index}"
        yield Heard(name, f"{speaker.split('/', 1)[1]} ({CLASSES[label]})", recording, samples)


def _rows(parts: Sequence[Sequence[Mapping[str, str]]]) -> Sequence[Mapping[str, str]]:
    tables = [part for part in parts if isinstance(part, Rows)]
    return Rows.join(tables) if len(tables) == len(parts) else [row for part in parts for row in part]


def corpora(data: Labelled) -> Names:
    """The name of each clip's corpus, (n,)."""
    names, people = data.people
    values, of_name = np.unique([name.split("/", 1)[0] for name in names.tolist()], return_inverse=True)
    return Names(values, of_name.astype(np.int32)[people])


def split(
    data: ImageSet,
    method: str = "speakers",
    seed: int = 0,
    folds: int | None = None,
    fold: int | None = None,
    leave_out: str | None = None,
) -> Split:
    """Split one corpus or several with `splits.make`.

    All clips of the corpus `leave_out` are for testing, a fifth of the other speakers for validation.
    Raises: SplitError as `splits.make` does, and if the corpus to leave out is absent or synthetic.
    """
    owner = corpora(data)
    made_up = np.isin(owner, sorted(data.made_up)) & (not data.synthetic)
    if leave_out is None:
        people = np.flatnonzero(~made_up)
        return _back(splits.make(_part(data, people), method, seed, folds, fold), people, made_up, data)
    left = owner == leave_out
    if not left.any() or left.all():
        found = ", ".join(np.unique(owner).tolist())
        raise SplitError(f"--leave-out {leave_out}: expected one of several corpora, found {found}")
    made_up &= ~left
    if leave_out in data.made_up and not data.synthetic:
        raise SplitError(f"--leave-out {leave_out}: synthetic voices; expected people to test on")
    people = np.flatnonzero(~left & ~made_up)
    if not len(people):  # only synthetic voices are left: some of them are for validation
        people, made_up = np.flatnonzero(~left), np.zeros(len(data), dtype=np.bool_)
    inner = splits.make(_part(data, people), "speakers", seed)
    train = np.sort(np.concatenate([inner.train, inner.test]))
    chosen = replace(inner, name=f"leave-out-{leave_out}-seed{seed}", train=train, test=inner.test[:0])
    whole = _back(chosen, people, made_up, data, audited=False)
    result = replace(whole, test=np.flatnonzero(left).astype(np.int64))
    splits.audit(result, data, both=("train", "val"))
    return result


def _part(data: ImageSet, rows: Indices) -> Labelled:
    """What a split reads of the clips `rows`."""
    if len(rows) == len(data):
        return data
    named = (
        data.rows.take(rows) if isinstance(data.rows, Rows) else [data.rows[row] for row in rows] if data.rows else ()
    )
    speakers, recordings = (
        each.some(rows) if isinstance(each, Texts) else each[rows] for each in (data.speakers, data.recordings)
    )
    return Labelled(data.name, data.labels[rows], speakers, recordings, named)


def _back(inner: Split, rows: Indices, extra: NDArray[np.bool_], data: ImageSet, audited: bool = True) -> Split:
    """Turn a split of the clips `rows` into one of all clips, with the `extra` ones for training."""
    if len(rows) == len(data):
        return inner
    train = np.sort(np.concatenate([rows[inner.train], np.flatnonzero(extra)])).astype(np.int64)
    name = inner.name + "".join(f"+{corpus}" for corpus in np.unique(corpora(data)[extra]))
    result = replace(inner, name=name, train=train, val=rows[inner.val], test=rows[inner.test])
    if audited:
        splits.audit(result, data)
    return result

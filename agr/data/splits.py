"""Split a corpus into training, validation and test clips without sharing speakers.

split = make(data, "speakers", seed=0)
audit(split, data)                                # raises SplitError if it leaks
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agr.common.rows import Cells, Names, Rows, Texts, all_different, cells, column, encoded, numbered
from agr.errors import SplitError
from agr.labels import CLASSES

if TYPE_CHECKING:
    import pyarrow

METHODS = ("speakers", "folds", "audiomnist-4fold", "random")
SIDES = ("train", "val", "test")
SHARE = 0.2  # of the speakers of a gender, for validation and again for testing
# AudioMNIST's folds for gender: three women, then three men in each group (Becker et al., 2024).
AUDIOMNIST_GROUPS = (
    ((36, 47, 56), (2, 44, 50)),
    ((26, 12, 57), (25, 37, 45)),
    ((43, 28, 52), (48, 53, 41)),
    ((58, 59, 60), (7, 23, 38)),
)
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Labelled:
    """What a split reads of n clips, images or recordings."""

    name: str  # used in messages
    labels: NDArray[np.int64]  # indices into CLASSES, (n,)
    speakers: NDArray[np.str_] | Texts  # `corpus/speaker`, (n,)
    # `content_digest` of each recording, or of the image where there is none, (n,)
    recordings: NDArray[np.str_] | Texts
    rows: Sequence[Mapping[str, str]]  # the rows of the manifest

    def __len__(self) -> int:
        return len(self.labels)

    @functools.cached_property
    def people(self) -> tuple[NDArray[np.str_], NDArray[np.integer[Any]]]:
        """The distinct speakers, sorted, (k,), and the number of each clip's speaker among them, (n,)."""
        if isinstance(self.speakers, Names):
            return self.speakers.values, self.speakers.numbers
        return numbered(np.asarray(self.speakers))

    @functools.cached_property
    def takes(self) -> tuple[pyarrow.Array | NDArray[np.str_] | Texts, NDArray[np.int64]]:
        """The distinct recordings, not sorted, and the number of each clip's recording among them, (n,)."""
        if not isinstance(self.rows, Rows):
            return numbered(np.asarray(self.recordings))
        held = cells(self.rows, "recording")
        different = isinstance(held, Cells) and all_different(held.values)
        return (held, np.arange(len(held))) if different else encoded(self.rows, "recording")


@dataclass(frozen=True)
class Split:
    """Indices of clips, each (k,), int64, ascending; the sides of a `leaky` split may share speakers."""

    name: str
    train: Indices
    val: Indices
    test: Indices
    leaky: bool = False

    @functools.cached_property
    def digest(self) -> str:
        """16 hex digits of SHA-256 over the indices."""
        hasher = hashlib.sha256()
        for side in (self.train, self.val, self.test):
            hasher.update(side.astype("<i8").tobytes() + b"|")
        return hasher.hexdigest()[:16]


def make(
    data: Labelled, method: str = "speakers", seed: int = 0, folds: int | None = None, fold: int | None = None
) -> Split:
    """Split a corpus and audit the result; `seed` shuffles the speakers, or the clips of `random`.

    Methods: `speakers` (60/20/20 % of the speakers of each gender), `folds` (3 or more groups of speakers: `fold`, from
    0, is for testing, the next one for validation, the others for training), `audiomnist-4fold` (AudioMNIST's published
    groups) or `random` (the paper's, leaky: random clips, or the `train` and `val` folders of its images).
    Raises: SplitError if there are too few speakers, `fold` is out of range, or the split leaks.
    """
    if method == "random":
        split = _random(data, seed)
    elif method == "audiomnist-4fold":
        split = _audiomnist(data, _in_range(fold, 4))
    elif method == "folds":
        if folds is None or folds < 3:
            raise SplitError(f"--folds {folds}: expected 3 or more (one tests, one validates, the rest train)")
        split = _folds(data, seed, folds, _in_range(fold, folds))
    elif method == "speakers":
        split = _by_speaker(data, seed)
    else:
        raise SplitError(f"--split {method}: unknown; expected one of {', '.join(METHODS)}")
    audit(split, data)
    return split


def inner(data: Labelled, split: Split, folds: int, seed: int = 0) -> tuple[Split, ...]:
    """Cross-validation splits of the training and validation speakers, by groups of speakers; the test side is empty.

    Raises: SplitError if there are fewer speakers of a gender than folds, or if the split leaks.
    """
    if split.leaky:
        raise SplitError(f"--folds {folds}: found the leaky split {split.name}; expected one by speaker")
    if folds < 2:
        raise SplitError(f"--folds {folds}: expected 2 or more")
    rows = np.sort(np.concatenate([split.train, split.val]))
    numbers = data.people[1][rows]
    group_of = np.zeros(len(data.people[0]), dtype=np.int64)
    for label, gender in enumerate(CLASSES):
        people = np.unique(numbers[data.labels[rows] == label])
        if len(people) < folds:
            found = f"{len(people)} {gender} speaker(s) to train and choose on"
            raise SplitError(f"{split.name}: {found}; expected {folds}")
        group_of[np.random.default_rng([seed, label]).permutation(people)] = np.arange(len(people)) % folds
    groups = group_of[numbers]
    made = []
    for fold in range(folds):
        name = f"{split.name}-inner{folds}-fold{fold + 1}"
        made.append(Split(name, rows[groups != fold], rows[groups == fold], rows[:0]))
        audit(made[-1], data, ("train", "val"))
    return tuple(made)


def audit(split: Split, data: Labelled, both: Sequence[str] = SIDES) -> None:
    """Check a split for leaks; the sides in `both` need clips of both genders.

    Raises: SplitError if two sides share a recording or (unless it is `leaky`) a speaker, or if a side lacks a gender.
    """
    for what, (names, numbers) in (("speaker", data.people), ("recording", data.takes)):
        if what == "speaker" and split.leaky:
            continue
        found = {side: np.bincount(numbers[getattr(split, side)], minlength=len(names)) > 0 for side in SIDES}
        for first, side in combinations(SIDES, 2):
            if shared := np.flatnonzero(found[first] & found[side]).tolist():
                value, number = min((str(names[number]), number) for number in shared)
                rows = (getattr(split, each) for each in (first, side))
                clips = ", and ".join(_clip(data, int(some[numbers[some] == number][0])) for some in rows)
                raise SplitError(f"split {split.name}: {what} {value} is in both {first} and {side}: {clips}")
    for side in both[: 2 if split.leaky else 3]:
        genders = len(set(data.labels[getattr(split, side)].tolist()))
        if genders < len(CLASSES):
            raise SplitError(f"split {split.name}: {side} has clips of {genders} gender(s); expected both")


def _clip(data: Labelled, index: int) -> str:
    """A clip's file and speaker, for a message."""
    name = data.rows[index].get("source") if index < len(data.rows) else None
    return f"{name or f'clip {index}'} of {data.speakers[index]}"


def describe(split: Split, data: Labelled) -> dict[str, dict[str, int]]:
    """Numbers of clips and of speakers of each gender, by side."""
    found = {}
    for side in SIDES:
        rows = getattr(split, side)
        people, labels = data.people[1][rows], data.labels[rows]
        genders = {name: len(np.unique(people[labels == label])) for label, name in enumerate(CLASSES)}
        found[side] = {"clips": len(rows)} | genders
    return found


def _speakers(data: Labelled, seed: int, least: int) -> Iterator[list[str]]:
    """The speakers of each gender, shuffled. Raises: SplitError if a gender has fewer than `least`."""
    for label, gender in enumerate(CLASSES):
        names, people = data.people
        names = names[np.unique(people[data.labels == label])]
        if len(names) < least:
            raise SplitError(f"{data.name}: {len(names)} {gender} speaker(s); expected {least} or more")
        yield np.random.default_rng([seed, label]).permutation(names).tolist()


def _by_speaker(data: Labelled, seed: int) -> Split:
    side_of: dict[str, str] = {}
    for names in _speakers(data, seed, least=3):
        count = max(1, round(SHARE * len(names)))
        side_of |= dict.fromkeys(names, "train") | dict.fromkeys(names[:count], "val")
        side_of |= dict.fromkeys(names[count : 2 * count], "test")
    return _of(data, f"speakers-seed{seed}", side_of)


def _folds(data: Labelled, seed: int, folds: int, fold: int) -> Split:
    sides = {fold: "test", (fold + 1) % folds: "val"}
    every = [pair for names in _speakers(data, seed, folds) for pair in enumerate(names)]
    side_of = {name: sides.get(index % folds, "train") for index, name in every}
    return _of(data, f"folds{folds}-fold{fold}-seed{seed}", side_of)


def _audiomnist(data: Labelled, fold: int) -> Split:
    known = {str(name): int(label) for name, label in zip(data.speakers, data.labels, strict=True)}
    number = {int(tail): name for name in known if (tail := name.rsplit("/", 1)[-1]).isdecimal()}
    side_of = {}
    for index, group in enumerate(AUDIOMNIST_GROUPS):
        side = ("train", "train", "val", "test")[(index - fold) % 4]
        for label, people in enumerate(group):
            for person in people:
                if known.get(number.get(person, "")) != label:
                    raise SplitError(f"{data.name}: no {CLASSES[label]} speaker {person:02}; expected AudioMNIST's 60")
                side_of[number[person]] = side
    return _of(data, f"audiomnist-4fold-fold{fold}", side_of)


def _of(data: Labelled, name: str, side_of: Mapping[str, str]) -> Split:
    """The split with all clips of a speaker on the given side; speakers without one are left out."""
    names, people = data.people
    sides = np.array([side_of.get(name, "") for name in names.tolist()])[people]
    train, val, test = (np.flatnonzero(sides == side).astype(np.int64) for side in SIDES)
    return Split(name, train, val, test)


def _random(data: Labelled, seed: int) -> Split:
    folders = np.array(column(data.rows, "folder"))
    if set(folders.tolist()) == {"train", "val"}:
        train, val = (np.flatnonzero(folders == folder).astype(np.int64) for folder in ("train", "val"))
        return Split("random-own-folders", train, val, test=np.zeros(0, dtype=np.int64), leaky=True)
    order = np.random.default_rng(seed).permutation(len(data)).astype(np.int64)
    cuts = [round(0.6 * len(data)), round(0.8 * len(data))]
    train, val, test = (np.sort(side) for side in np.split(order, cuts))
    return Split(f"random-seed{seed}", train, val, test, leaky=True)


def _in_range(fold: int | None, folds: int) -> int:
    if fold is None or not 0 <= fold < folds:
        raise SplitError(f"--fold{': not given;' if fold is None else f' {fold}:'} expected 0 to {folds - 1}")
    return fold

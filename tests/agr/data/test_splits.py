"""Splits: no speaker on two sides, AudioMNIST's published folds, and what the audit refuses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from agr.common.rows import Rows
from agr.data.image_set import ImageSet, assemble
from agr.data.splits import METHODS, Indices, Split, audit, describe, inner, make
from agr.errors import SplitError
from agr.recipes.base import IMAGE_SHAPE
from agr.recipes.mfcc import MFCC

# The groups of AudioMNIST's gender folds, copied from the publication and not from the code: women, men.
PUBLISHED = {
    "A": ({"36", "47", "56"}, {"02", "44", "50"}),
    "B": ({"26", "12", "57"}, {"25", "37", "45"}),
    "C": ({"43", "28", "52"}, {"48", "53", "41"}),
    "D": ({"58", "59", "60"}, {"07", "23", "38"}),
}
PUBLISHED_FOLDS = [("AB", "C", "D"), ("BC", "D", "A"), ("CD", "A", "B"), ("DA", "B", "C")]  # train, val, test
SIDE_NAMES = ("train", "val", "test")


def corpus(people: Sequence[tuple[str, str]], clips: int = 3, folders: Sequence[str] = ()) -> ImageSet:
    """Black images of (speaker, gender), `clips` each, the people taking turns; `folders` go round likewise."""
    rows = [
        {"corpus": "made", "speaker": speaker, "gender": gender, "recording": f"{speaker}-{clip}"}
        for clip in range(clips)
        for speaker, gender in people
    ]
    if folders:
        rows = [row | {"folder": folders[index % len(folders)]} for index, row in enumerate(rows)]
    return assemble("made", np.zeros((len(rows), *IMAGE_SHAPE), dtype=np.uint8), rows, MFCC, synthetic=True)


def people(women: int, men: int) -> list[tuple[str, str]]:
    return [(f"w{k}", "female") for k in range(women)] + [(f"m{k}", "male") for k in range(men)]


def audiomnist(without: str = "", swapped: str = "") -> ImageSet:
    """Two clips of each of AudioMNIST's 12 women and 48 men; one left out, one of the other gender."""
    women = set().union(*(group[0] for group in PUBLISHED.values()))
    names = [f"{number:02}" for number in range(1, 61)]
    genders = {name: "female" if (name in women) != (name == swapped) else "male" for name in names}
    return corpus([(name, gender) for name, gender in genders.items() if name != without], clips=2)


def voices(data: ImageSet, side: Indices) -> set[str]:
    return {str(name).split("/")[1] for name in data.speakers[side]}


def by_hand(data: ImageSet, train: str, val: str, test: str, leaky: bool = False) -> Split:
    """The split that puts the speakers named on each side, one may stand on several."""

    def clips_of(names: str) -> Indices:
        return np.array([i for i, row in enumerate(data.rows) if row["speaker"] in names.split()], dtype=np.int64)

    return Split("by-hand", clips_of(train), clips_of(val), clips_of(test), leaky)


def sound_splits() -> Iterator[tuple[str, ImageSet, Split]]:
    """Every method that promises unseen speakers, with several seeds and all folds."""
    plain, studied = corpus(people(7, 5)), audiomnist()
    for seed in range(6):
        yield f"speakers seed {seed}", plain, make(plain, "speakers", seed)
        for folds in (3, 4, 5):
            for fold in range(folds):
                yield f"fold {fold} of {folds}, seed {seed}", plain, make(plain, "folds", seed, folds, fold)
    for fold in range(4):
        yield f"audiomnist fold {fold}", studied, make(studied, "audiomnist-4fold", fold=fold)


CASES = list(sound_splits())


@pytest.mark.parametrize(("data", "split"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_no_speaker_is_on_two_sides(data: ImageSet, split: Split) -> None:
    sides = [getattr(split, side) for side in SIDE_NAMES]
    heard = [voices(data, side) for side in sides]
    assert not split.leaky
    assert sum(len(names) for names in heard) == len(set.union(*heard))
    for side, names in zip(sides, heard, strict=True):
        assert side.dtype == np.int64
        assert (np.diff(side) > 0).all()
        assert set(data.labels[side].tolist()) == {0, 1}
        assert len(side) == len(names) * (len(data) // len(set(data.speakers)))  # all clips of each speaker


@pytest.mark.parametrize("method", ["speakers", "folds"])
def test_prepared_images_are_split_by_speaker(images: ImageSet, method: str) -> None:
    split = make(images, method, seed=1, folds=4, fold=2)
    assert describe(split, images) == {
        "train": {"clips": 40, "female": 2, "male": 2},
        "val": {"clips": 20, "female": 1, "male": 1},
        "test": {"clips": 20, "female": 1, "male": 1},
    }


@pytest.mark.parametrize("seed", [0, 1, 17])
@pytest.mark.parametrize("folds", [3, 4, 5])
def test_folds_test_and_validate_every_clip_exactly_once(folds: int, seed: int) -> None:
    data = corpus(people(7, 5))
    splits = [make(data, "folds", seed, folds, fold) for fold in range(folds)]
    assert sorted(np.concatenate([split.test for split in splits])) == list(range(len(data)))
    assert sorted(np.concatenate([split.val for split in splits])) == list(range(len(data)))
    for split, following in zip(splits, splits[1:] + splits[:1], strict=True):
        assert split.val.tolist() == following.test.tolist()
        assert len(split.train) + len(split.val) + len(split.test) == len(data)


@pytest.mark.parametrize(
    ("women", "men", "of_women", "of_men"),
    [
        (10, 10, (6, 2, 2), (6, 2, 2)),
        (5, 15, (3, 1, 1), (9, 3, 3)),
        (12, 48, (8, 2, 2), (28, 10, 10)),  # AudioMNIST: 2.4 and 9.6 people, rounded
        (3, 4, (1, 1, 1), (2, 1, 1)),
    ],
)
def test_speakers_of_each_gender_are_split_60_20_20(
    women: int, men: int, of_women: tuple[int, ...], of_men: tuple[int, ...]
) -> None:
    data = corpus(people(women, men), clips=2)
    split = make(data, "speakers", seed=3)
    heard = [voices(data, getattr(split, side)) for side in SIDE_NAMES]
    counts = [Counter(name[0] for name in names) for names in heard]
    assert tuple(count["w"] for count in counts) == of_women
    assert tuple(count["m"] for count in counts) == of_men
    assert describe(split, data) == {
        side: {"clips": 2 * (w + m), "female": w, "male": m}
        for side, w, m in zip(SIDE_NAMES, of_women, of_men, strict=True)
    }


@pytest.mark.parametrize("method", ["speakers", "folds", "random"])
def test_split_depends_on_the_seed_alone(method: str) -> None:
    data = corpus(people(8, 8))
    folds = {"folds": 4, "fold": 1} if method == "folds" else {}
    first = make(data, method, 5, **folds)
    np.random.default_rng().random(3)
    again = make(data, method, 5, **folds)
    assert all(np.array_equal(getattr(first, side), getattr(again, side)) for side in SIDE_NAMES)
    assert first.digest == again.digest
    assert len({make(data, method, seed, **folds).digest for seed in range(8)}) == 8


@pytest.mark.parametrize(("method", "folds", "fold"), [("speakers", None, None), ("folds", 3, 2)])
def test_order_of_the_clips_does_not_move_a_speaker(method: str, folds: int | None, fold: int | None) -> None:
    somebody = people(6, 7)
    one, other = corpus(somebody), corpus(somebody[::-1], clips=5)
    splits = make(one, method, 2, folds, fold), make(other, method, 2, folds, fold)
    for side in SIDE_NAMES:
        assert voices(one, getattr(splits[0], side)) == voices(other, getattr(splits[1], side))


def test_digest_depends_on_the_sides_alone() -> None:
    data = corpus(people(3, 3))
    split = by_hand(data, "w0 m0", "w1 m1", "w2 m2")
    assert len(split.digest) == 16
    assert int(split.digest, 16) >= 0
    assert replace(split, name="another", leaky=True).digest == split.digest
    assert by_hand(data, "w0 m0", "w2 m2", "w1 m1").digest != split.digest
    clips = np.arange(4)
    assert Split("a", clips[:2], clips[2:3], clips[3:]).digest != Split("b", clips[:1], clips[1:3], clips[3:]).digest


@pytest.mark.parametrize("fold", range(4))
def test_audiomnist_folds_are_the_published_ones(fold: int) -> None:
    data = audiomnist()
    split = make(data, "audiomnist-4fold", seed=fold, fold=fold)
    for side, groups in zip(SIDE_NAMES, PUBLISHED_FOLDS[fold], strict=True):
        rows = getattr(split, side)
        for label in (0, 1):
            expected = set().union(*(PUBLISHED[group][label] for group in groups))
            assert voices(data, rows[data.labels[rows] == label]) == expected
        assert len(rows) == 2 * 6 * len(groups)


@pytest.mark.parametrize("name", ["36", "02", "60", "41"])
def test_audiomnist_folds_need_all_their_speakers(name: str) -> None:
    gender = "male" if name in ("02", "41") else "female"
    with pytest.raises(SplitError, match=f"made: no {gender} speaker {name}; expected AudioMNIST's 60"):
        make(audiomnist(without=name), "audiomnist-4fold", fold=0)
    with pytest.raises(SplitError, match=f"made: no {gender} speaker {name}; expected AudioMNIST's 60"):
        make(audiomnist(swapped=name), "audiomnist-4fold", fold=0)


def test_audiomnist_folds_do_not_need_speakers_outside_the_folds() -> None:
    assert make(audiomnist(without="01"), "audiomnist-4fold", fold=2).test.size == 12


def test_audiomnist_folds_refuse_another_corpus() -> None:
    with pytest.raises(SplitError, match="no female speaker 36"):
        make(corpus(people(12, 48)), "audiomnist-4fold", fold=0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_random_split_is_60_20_20_and_marked_leaky(seed: int) -> None:
    data = corpus(people(5, 5), clips=10)
    split = make(data, "random", seed)
    assert split.leaky
    assert [len(getattr(split, side)) for side in SIDE_NAMES] == [60, 20, 20]
    assert sorted(np.concatenate([split.train, split.val, split.test])) == list(range(100))
    assert voices(data, split.train) & voices(data, split.test)
    with pytest.raises(SplitError, match="is in both train and"):
        audit(replace(split, leaky=False), data)


def test_random_split_of_published_images_uses_their_folders() -> None:
    data = corpus(people(4, 3), folders=("train", "train", "val"))
    split = make(data, "random", seed=1)
    assert split.train.tolist() == [i for i in range(21) if i % 3 < 2]
    assert split.val.tolist() == [i for i in range(21) if i % 3 == 2]
    assert split.test.size == 0
    assert split.leaky
    assert make(data, "random", seed=2).digest == split.digest
    assert describe(split, data)["test"] == {"clips": 0, "female": 0, "male": 0}


@pytest.mark.parametrize("folders", [("train",), ("train", "val", ""), ("train", "val", "test")])
def test_random_split_ignores_other_folders(folders: Sequence[str]) -> None:
    split = make(corpus(people(5, 5), clips=4, folders=folders), "random")
    assert [len(getattr(split, side)) for side in SIDE_NAMES] == [24, 8, 8]


@pytest.mark.parametrize(
    ("train", "val", "test", "who"),
    [
        ("w0 m0", "w0 m1", "w2 m2", "made/w0 is in both train and val"),
        ("w0 m0", "w1 m1", "w2 m0", "made/m0 is in both train and test"),
        ("w0 m0", "w1 m1", "w1 m1", "made/m1 is in both val and test"),
    ],
)
def test_audit_names_a_speaker_on_two_sides(train: str, val: str, test: str, who: str) -> None:
    data = corpus(people(3, 3))
    with pytest.raises(SplitError, match=f"split by-hand: speaker {who}"):
        audit(by_hand(data, train, val, test), data)


@pytest.mark.parametrize("leaky", [False, True])
@pytest.mark.parametrize(("copy", "sides"), [("w1", "train and val"), ("w2", "train and test")])
def test_audit_names_a_recording_on_two_sides_even_of_a_leaky_split(leaky: bool, copy: str, sides: str) -> None:
    data = corpus(people(3, 3))
    recordings = np.array(data.recordings)
    recordings[data.speakers == f"made/{copy}"] = recordings[0]  # another name, w0's first recording
    split = by_hand(data, "w0 m0", "w1 m1", "w2 m2", leaky)
    audit(split, data)
    clips = f"clip 0 of made/w0, and clip {(data.speakers == f'made/{copy}').argmax()} of made/{copy}"
    with pytest.raises(SplitError, match=f"split by-hand: recording w0-0 is in both {sides}: {clips}"):
        audit(split, replace(data, recordings=recordings))


def test_audit_names_the_files_of_a_recording_on_two_sides() -> None:
    data = corpus(people(3, 3))
    rows = [dict(row) | {"source": f"{row['recording']}.wav"} for row in data.rows]
    recordings = np.where(data.speakers == "made/m2", "w0-0", data.recordings)
    with pytest.raises(SplitError, match=r"train and test: w0-0\.wav of made/w0, and m2-0\.wav of made/m2$"):
        audit(by_hand(data, "w0 m0", "w1 m1", "w2 m2"), replace(data, recordings=recordings, rows=rows))


@pytest.mark.parametrize(
    ("train", "val", "test", "what"),
    [
        ("w0", "w1 m1", "w2 m2", "train has clips of 1"),
        ("w0 m0", "m1", "w2 m2", "val has clips of 1"),
        ("w0 m0", "w1 m1", "w2", "test has clips of 1"),
        ("w0 m0", "w1 m1", "", "test has clips of 0"),
    ],
)
def test_audit_needs_both_genders_on_every_side(train: str, val: str, test: str, what: str) -> None:
    data = corpus(people(3, 3))
    with pytest.raises(SplitError, match=rf"split by-hand: {what} gender\(s\); expected both"):
        audit(by_hand(data, train, val, test), data)


def test_leaky_split_may_lack_test_clips_but_not_validation_clips() -> None:
    data = corpus(people(3, 3))
    first, second, none = (np.array(side, dtype=np.int64) for side in ([0, 3], [6, 9], []))  # w0 and m0, twice
    audit(Split("shared", first, second, none, leaky=True), data)
    with pytest.raises(SplitError, match="val has clips of 0"):
        audit(by_hand(data, "w0 m0", "", "w1 m1", leaky=True), data)


@pytest.mark.parametrize("fold", [None, -1, 4, 100])
@pytest.mark.parametrize("method", ["folds", "audiomnist-4fold"])
def test_fold_out_of_range_is_refused(method: str, fold: int | None) -> None:
    found = "--fold: not given" if fold is None else f"--fold {fold}"
    with pytest.raises(SplitError, match=f"{found}; expected 0 to 3" if fold is None else f"{found}: expected 0 to 3"):
        make(audiomnist(), method, folds=4, fold=fold)


@pytest.mark.parametrize("folds", [None, -3, 0, 2])
def test_fewer_than_three_folds_are_refused(folds: int | None) -> None:
    with pytest.raises(SplitError, match=f"--folds {folds}: expected 3 or more"):
        make(corpus(people(5, 5)), "folds", folds=folds, fold=0)


@pytest.mark.parametrize(("women", "men", "found"), [(2, 9, "2 female"), (9, 1, "1 male"), (0, 9, "0 female")])
def test_too_few_speakers_of_a_gender_are_refused(women: int, men: int, found: str) -> None:
    data = corpus(people(women, men))
    with pytest.raises(SplitError, match=rf"made: {found} speaker\(s\); expected 3 or more"):
        make(data, "speakers")
    with pytest.raises(SplitError, match=rf"made: {found} speaker\(s\); expected 4 or more"):
        make(data, "folds", folds=4, fold=0)


# Cross-validation among training and validation speakers


@pytest.mark.parametrize("folds", [2, 3, 4])
@pytest.mark.parametrize("seed", range(4))
def test_inner_folds_separate_speakers_and_exclude_test_speakers(folds: int, seed: int) -> None:
    data = corpus(people(9, 6))
    split = make(data, "speakers", seed)
    test, others = voices(data, split.test), voices(data, np.concatenate([split.train, split.val]))
    validated: Counter[str] = Counter()
    for fold in inner(data, split, folds, seed):
        train, val = voices(data, fold.train), voices(data, fold.val)
        assert not train & val
        assert not (train | val) & test
        assert train | val == others
        assert len(fold.test) == 0
        assert {name[0] for name in train} == {name[0] for name in val} == {"w", "m"}
        every = np.concatenate([fold.train, fold.val])
        assert sorted(every) == sorted(np.concatenate([split.train, split.val])), "each clip once"
        validated.update(val)
    assert validated == Counter(others), "each group validates once"


def test_inner_folds_are_of_about_the_same_size_in_each_gender() -> None:
    data = corpus(people(10, 8))
    split = make(data)
    for gender in "wm":
        sizes = [sum(name[0] == gender for name in voices(data, fold.val)) for fold in inner(data, split, 3)]
        assert max(sizes) - min(sizes) <= 1


def test_inner_folds_depend_on_the_seed_and_have_distinct_digests() -> None:
    data = corpus(people(9, 9))
    split = make(data)
    folds, again, others = inner(data, split, 3), inner(data, split, 3), inner(data, split, 3, seed=1)
    assert [fold.digest for fold in folds] == [fold.digest for fold in again]
    assert not {fold.digest for fold in folds} & {fold.digest for fold in others}
    assert len({fold.digest for fold in (*folds, split)}) == 4
    assert [fold.name for fold in folds] == [f"{split.name}-inner3-fold{number}" for number in (1, 2, 3)]


def test_the_order_of_the_clips_does_not_move_a_speaker_of_an_inner_fold() -> None:
    data = corpus(people(6, 6))
    turned = corpus(people(6, 6)[::-1])
    both = ([voices(each, fold.val) for fold in inner(each, make(each), 3)] for each in (data, turned))
    assert next(both) == next(both)


@pytest.mark.parametrize(
    ("women", "men", "folds", "message"),
    [
        (5, 5, 0, "--folds 0: expected 2 or more"),
        (5, 5, 1, "--folds 1: expected 2 or more"),
        (9, 4, 4, "speakers-seed0: 3 male speaker(s) to train and choose on; expected 4"),
        (3, 9, 3, "speakers-seed0: 2 female speaker(s) to train and choose on; expected 3"),
    ],
)
def test_inner_folds_that_cannot_be_made_are_refused(women: int, men: int, folds: int, message: str) -> None:
    data = corpus(people(women, men))
    with pytest.raises(SplitError) as caught:
        inner(data, make(data), folds)
    assert str(caught.value) == message


def test_inner_folds_of_a_leaky_split_are_refused() -> None:
    data = corpus(people(6, 6))
    with pytest.raises(SplitError, match=r"^--folds 3: found the leaky split random-seed0; expected one by speaker$"):
        inner(data, make(data, "random"), 3)


def test_unknown_method_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SplitError, match=f"--split clips: unknown; expected one of {', '.join(METHODS)}"):
        make(corpus(people(3, 3)), "clips")


def test_a_large_corpus_is_split_as_by_earlier_versions() -> None:
    """The digests are those of the versions that went through clips one by one."""
    owners = np.random.default_rng(0).integers(0, 700, 20_000).tolist()
    lines = [
        f"{'female' if owner % 3 else 'male'},s{owner},{'ab'[owner % 2]},{clip:032x},{clip:032x},{clip}.mp3"
        for clip, owner in enumerate(owners)
    ]
    rows = Rows.read("\n".join(["gender,speaker,corpus,recording,samples,source", *lines, ""]).encode())
    data = assemble("many", np.zeros((len(rows), 1), dtype=np.uint8), rows, MFCC, synthetic=False)
    assert data.digest == "2b4bbc35853fce94"
    assert data.speakers.tolist() == [f"{'ab'[owner % 2]}/s{owner}" for owner in owners]
    whole = make(data)
    assert (whole.digest, make(data, "folds", 3, 5, 2).digest) == ("663b286a2cb0c0cf", "099cca3652aa2d26")
    digests = [fold.digest for fold in inner(data, whole, 3, seed=1)]
    assert digests == ["6a6b17dab02dc96c", "c134265aed9267ee", "edcc847ff4a4e140"]
    assert describe(whole, data)["train"] == {"clips": 12012, "female": 280, "male": 140}

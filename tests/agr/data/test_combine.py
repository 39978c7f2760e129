"""Several corpora as one: the joined set, and how its speakers are split."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agr.data import splits
from agr.data.combine import corpora, join, split
from agr.data.image_set import ImageSet, assemble
from agr.data.splits import SIDES, Indices, Split
from agr.errors import CorpusError, SplitError
from agr.recipes.base import FRAMES, IMAGE_SHAPE, Recipe
from agr.recipes.mfcc import MFCC
from agr.recipes.voice import VOICE
from agr.recipes.voice_features import ROWS


def made(
    name: str, women: int = 5, men: int = 5, synthetic: bool = False, recipe: Recipe = VOICE, clips: int = 2
) -> ImageSet:
    """`clips` of each speaker, all different."""
    people = [(f"w{k}", "female") for k in range(women)] + [(f"m{k}", "male") for k in range(men)]
    rows = [
        {"corpus": name, "speaker": speaker, "gender": gender, "recording": f"{name}-{speaker}-{clip}"}
        for speaker, gender in people
        for clip in range(clips)
    ]
    generator = np.random.default_rng([ord(letter) for letter in name])
    pixels = generator.integers(0, 256, (len(rows), *IMAGE_SHAPE), dtype=np.uint8)
    found = generator.integers(0, 256, (len(rows), ROWS, FRAMES), dtype=np.uint8) if recipe == VOICE else None
    return assemble(name, pixels, rows, recipe, synthetic, found)


A, B, C = made("a"), made("b", women=4, men=7), made("c", women=3, men=3, clips=3)
FAKE = made("fake", synthetic=True)
PEOPLE = join([A, B, C])
MIXED = join([A, B, FAKE])


def names(data: ImageSet, side: Indices | list[int]) -> set[str]:
    return set(corpora(data)[side].tolist())


def assert_apart(found: Split, data: ImageSet) -> None:
    """No speaker and no clip on two sides."""
    speakers = [set(data.speakers[getattr(found, side)].tolist()) for side in SIDES]
    assert sum(map(len, speakers)) == len(set.union(*speakers))
    rows = np.concatenate([getattr(found, side) for side in SIDES])
    assert len(rows) == len(set(rows.tolist()))


# --- joining


def test_joining_one_set_returns_it() -> None:
    assert join([A]) is A


def test_joined_set_keeps_all_data_of_every_clip() -> None:
    assert PEOPLE.name == "a+b+c"
    assert len(PEOPLE) == len(A) + len(B) + len(C)
    at = 0
    for part in (A, B, C):
        end = at + len(part)
        for key in ("pixels", "labels", "speakers", "recordings", "features"):
            np.testing.assert_array_equal(getattr(PEOPLE, key)[at:end], getattr(part, key))
        assert PEOPLE.rows[at:end] == part.rows
        at = end
    np.testing.assert_array_equal(corpora(PEOPLE), np.repeat(["a", "b", "c"], [len(A), len(B), len(C)]))


def test_order_of_the_sets_does_not_matter() -> None:
    other = join([C, A, B])
    assert (other.name, other.digest) == (PEOPLE.name, PEOPLE.digest)
    np.testing.assert_array_equal(other.pixels, PEOPLE.pixels)


def test_digest_depends_on_the_joined_sets() -> None:
    changed = replace(B, digest="0" * 16)
    assert len(PEOPLE.digest) == 16
    assert len({join(sets).digest for sets in ([A, B], [A, C], [B, C], [A, changed], [A, B, C])}) == 5


def test_only_all_synthetic_corpora_together_are_synthetic() -> None:
    assert (MIXED.synthetic, MIXED.made_up) == (False, frozenset({"fake"}))
    both = join([FAKE, made("false", synthetic=True)])
    assert (both.synthetic, both.made_up) == (True, frozenset({"fake", "false"}))
    assert (PEOPLE.synthetic, PEOPLE.made_up) == (False, frozenset())


def test_corpora_of_one_name_are_refused() -> None:
    with pytest.raises(CorpusError, match="two corpora named a; expected different names"):
        join([A, B, made("a", women=3)])


def test_corpora_of_different_recipes_are_refused() -> None:
    with pytest.raises(CorpusError, match="a has images of recipe voice, m of mfcc; expected one recipe"):
        join([A, made("m", recipe=MFCC)])


def test_corpora_without_features_join_too() -> None:
    assert join([made("m", recipe=MFCC), made("n", recipe=MFCC)]).features is None


# --- splitting


@pytest.mark.parametrize("seed", range(4))
def test_one_corpus_is_split_as_by_make(seed: int) -> None:
    for data in (A, FAKE):
        assert split(data, seed=seed).digest == splits.make(data, seed=seed).digest
        assert split(data, seed=seed).name == splits.make(data, seed=seed).name


@pytest.mark.parametrize("method", ["speakers", "folds"])
@pytest.mark.parametrize("seed", range(4))
def test_no_speaker_of_several_corpora_is_on_two_sides(method: str, seed: int) -> None:
    for data in (PEOPLE, MIXED):
        found = split(data, method, seed, *((4, 1) if method == "folds" else ()))
        assert_apart(found, data)
        assert sum(len(getattr(found, side)) for side in SIDES) == len(data)


@pytest.mark.parametrize("seed", range(4))
def test_synthetic_voices_are_used_for_training_only(seed: int) -> None:
    found = split(MIXED, seed=seed)
    made_up = np.flatnonzero(corpora(MIXED) == "fake")
    assert set(made_up.tolist()) <= set(found.train.tolist())
    assert names(MIXED, found.val) <= {"a", "b"}
    assert names(MIXED, found.test) <= {"a", "b"}
    people = join([A, B])
    expected = splits.make(people, seed=seed)
    assert set(MIXED.recordings[found.test].tolist()) == set(people.recordings[expected.test].tolist())
    assert found.name == f"speakers-seed{seed}+fake"


def test_indices_of_every_side_ascend() -> None:
    for found in (split(MIXED), split(PEOPLE, leave_out="b"), split(MIXED, leave_out="a")):
        for side in SIDES:
            assert (np.diff(getattr(found, side)) > 0).all()
            assert getattr(found, side).dtype == np.int64


@pytest.mark.parametrize("left", ["a", "b", "c"])
def test_test_side_is_exactly_the_corpus_left_out(left: str) -> None:
    found = split(PEOPLE, seed=2, leave_out=left)
    np.testing.assert_array_equal(found.test, np.flatnonzero(corpora(PEOPLE) == left))
    assert_apart(found, PEOPLE)
    assert names(PEOPLE, found.train) == names(PEOPLE, sorted({*range(len(PEOPLE))} - set(found.test.tolist())))
    assert len(found.train) + len(found.val) + len(found.test) == len(PEOPLE)
    others = len(np.unique(PEOPLE.speakers[corpora(PEOPLE) != left]))
    assert len(np.unique(PEOPLE.speakers[found.val])) == pytest.approx(others / 5, abs=1)
    assert found.name == f"leave-out-{left}-seed2"
    assert not found.leaky


def test_synthetic_voices_do_not_validate_when_a_corpus_is_left_out() -> None:
    found = split(MIXED, leave_out="a")
    assert names(MIXED, found.test) == {"a"}
    assert names(MIXED, found.val) == {"b"}
    assert names(MIXED, found.train) == {"b", "fake"}
    assert_apart(found, MIXED)


def test_synthetic_voices_validate_if_no_people_are_left() -> None:
    data = join([A, FAKE])
    found = split(data, leave_out="a")
    assert names(data, found.test) == {"a"}
    assert names(data, found.train) == names(data, found.val) == {"fake"}
    assert_apart(found, data)


def test_synthetic_corpus_cannot_be_left_out_beside_people() -> None:
    with pytest.raises(SplitError, match="--leave-out fake: synthetic voices; expected people to test on"):
        split(MIXED, leave_out="fake")


def test_a_corpus_of_men_alone_can_be_left_out() -> None:
    data = join([A, made("men", women=0, men=3)])
    found = split(data, leave_out="men")
    assert names(data, found.test) == {"men"}
    assert_apart(found, data)


@pytest.mark.parametrize("data", [A, PEOPLE])
def test_unknown_corpus_is_refused_with_the_known_ones(data: ImageSet) -> None:
    known = ", ".join(sorted(set(corpora(data).tolist())))
    with pytest.raises(SplitError, match=f"^--leave-out z: expected one of several corpora, found {known}$"):
        split(data, leave_out="z")


def test_only_corpus_cannot_be_left_out() -> None:
    with pytest.raises(SplitError, match="--leave-out a: expected one of several corpora, found a"):
        split(A, leave_out="a")


def test_a_recording_that_join_did_not_see_is_a_leak() -> None:
    copied = np.array(PEOPLE.recordings)
    copied[corpora(PEOPLE) == "b"] = np.resize(A.recordings, len(B))
    with pytest.raises(SplitError, match=r"recording .* is in both"):
        split(replace(PEOPLE, recordings=copied), leave_out="b")


# --- the same recording in two corpora


def with_recordings(data: ImageSet, recordings: dict[int, str], speakers: dict[int, str] | None = None) -> ImageSet:
    """The set with other recordings, and other names of speakers, at some indices."""
    rows = [dict(row) for row in data.rows]
    for index, recording in recordings.items():
        rows[index]["recording"] = recording
    for index, speaker in (speakers or {}).items():
        rows[index]["speaker"] = speaker
    return assemble(data.name, data.pixels, rows, data.recipe, data.synthetic, data.features)


def test_a_recording_under_another_speaker_of_another_corpus_is_used_in_neither(
    capsys: pytest.CaptureFixture[str],
) -> None:
    joined = join([A, with_recordings(B, {2: "a-w0-0"}), C])
    assert len(joined) == len(PEOPLE) - 2
    assert not {"a-w0-0", "b-w1-0"} & set(joined.recordings.tolist())
    part = np.flatnonzero(corpora(joined) == "b")
    np.testing.assert_array_equal(joined.pixels[part], np.delete(B.pixels, 2, axis=0))
    assert joined.features is not None and len(joined.features) == len(joined)
    assert joined.digest != PEOPLE.digest
    told = capsys.readouterr().err.splitlines()
    assert told[0] == f"agr: --data: 2 of {len(PEOPLE)} clips left out, as recordings are there more than once"
    twin = "the same recording under two speakers: w0 (female) here, and w1 (female) as b:2"
    assert told[1] == f"agr: 2 clips: a:0, b:2: {twin}; neither is used"


def test_a_speaker_who_shares_a_recording_with_one_of_the_same_name_is_used_in_one_corpus_only() -> None:
    joined = join([A, with_recordings(B, {2: "a-w1-0"})])
    assert {"a/w1", "b/w1"} & set(joined.speakers.tolist()) == {"a/w1"}
    assert len(joined) == len(A) + len(B) - 2
    assert "b/w0" in joined.speakers


def test_a_corpus_that_another_one_holds_as_a_whole_is_dropped() -> None:
    copied = with_recordings(made("z"), {index: str(recording) for index, recording in enumerate(A.recordings)})
    assert join([copied, A]) is A


def test_sets_in_which_everything_is_a_copy_of_another_speaker_are_refused() -> None:
    speakers = {index: f"{row['speaker']}-again" for index, row in enumerate(A.rows)}
    copied = with_recordings(
        made("z"), {index: str(recording) for index, recording in enumerate(A.recordings)}, speakers
    )
    with pytest.raises(CorpusError, match="--data: every clip is a copy of one of another speaker"):
        join([A, copied])


def test_copies_in_a_folder_that_an_earlier_version_prepared_are_left_out() -> None:
    joined = join([with_recordings(A, {1: "a-w0-0", 2: "a-w3-0"})])
    assert [str(name) for name in joined.recordings[:4]] == ["a-w0-0", "a-w1-1", "a-w2-0", "a-w2-1"]
    assert len(joined) == len(A) - 3

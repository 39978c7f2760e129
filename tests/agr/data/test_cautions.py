"""What is said before training of clips and splits that make a result mean little."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from agr.data.cautions import cautions, interval
from agr.data.splits import Labelled, Split, make


def labelled(women: int, men: int, clips: int = 2) -> Labelled:
    """`clips` of each of these people, of a corpus `made`."""
    people = np.repeat(np.arange(women + men), clips)
    speakers = np.array([f"made/{person}" for person in people])
    recordings = np.array([f"{person}-{k}" for k, person in enumerate(people)])
    return Labelled("made", (people >= women).astype(np.int64), speakers, recordings, [{}] * len(people))


def test_nothing_is_said_of_enough_people_with_several_clips() -> None:
    data = labelled(50, 50)
    assert cautions(data, make(data)) == ()


def test_few_people_in_the_test_are_told_with_the_interval() -> None:
    data = labelled(15, 100)
    (line,) = cautions(data, make(data))
    low, high = interval([3, 20])
    assert line.startswith("test: women 3, men 20; expected 10 of each or more: ")
    assert line.endswith(f"the 95 % interval over speakers would be about {low:.2f} to {high:.2f}")


def test_a_corpus_in_which_every_clip_has_a_speaker_of_its_own_is_told() -> None:
    data = labelled(60, 60, clips=1)
    (line,) = cautions(data, make(data))
    assert line.startswith("made: each of its 120 clips has a speaker of its own; ")
    other = replace(data, speakers=np.char.replace(data.speakers, "made/0", "b/0"))
    assert [line.split(" clips")[0] for line in cautions(other, make(data))] == ["made: each of its 119"]


@pytest.mark.parametrize("side", [np.arange(0), np.arange(100, 140)])
def test_a_test_without_people_or_with_one_gender_has_a_line_or_none(
    side: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> None:
    data = labelled(50, 50)
    lines = cautions(data, Split("by hand", np.arange(40), np.arange(40, 80), side))
    assert [line.split(";")[0] for line in lines] == ["test: women 0, men 20"] * bool(len(side))


@pytest.mark.parametrize(("women", "men"), [(5, 5), (20, 20), (500, 500)])
def test_with_as_many_women_as_men_the_interval_is_wilsons_over_all_of_them(women: int, men: int) -> None:
    people = women + men
    expected = binomtest(round(0.9 * people), people).proportion_ci(0.95, method="wilson")
    assert interval([women, men]) == pytest.approx((expected.low, expected.high), abs=1e-4)


def test_the_fewer_people_of_the_rarer_gender_the_wider_the_interval() -> None:
    widths = [high - low for low, high in (interval([women, 100]) for women in (1, 3, 10, 100))]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 2 * widths[-1]

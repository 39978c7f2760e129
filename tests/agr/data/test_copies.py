"""The same recording more than once: what is used, and what is said of the rest."""

from __future__ import annotations

import pytest

from agr.data.copies import Copy, Heard, copies


def test_clips_that_all_differ_are_all_used() -> None:
    assert copies([Heard("a", "ann", "1", "x"), Heard("b", "ann", "2", "y"), Heard("c", "bob", "3")]) == {}


def test_of_copies_under_one_speaker_the_first_is_used() -> None:
    found = copies([Heard(name, "ann", "1", "x") for name in "abc"])
    assert found == dict.fromkeys((1, 2), Copy(0, "the same recording twice: as a too, which is used"))


def test_of_copies_under_two_speakers_none_is_used_and_both_are_told() -> None:
    found = copies([Heard("a", "ann", "1"), Heard("b", "bob", "2"), Heard("c", "cem", "1"), Heard("d", "ann", "1")])
    start = "the same recording under two speakers:"
    assert found == {
        0: Copy(2, f"{start} ann here, and cem as c; neither is used"),
        2: Copy(0, f"{start} cem here, and ann as a; neither is used"),
        3: Copy(2, f"{start} ann here, and cem as c; neither is used"),
    }


@pytest.mark.parametrize("earlier", [Heard("old", "bob", "1"), Heard("old", "bob", "3", "x")])
def test_files_that_differ_are_copies_if_their_samples_do_not(earlier: Heard) -> None:
    """The first is known by its file alone, as an earlier version of AGR wrote it."""
    assert copies([earlier, Heard("new", "ann", "1", "x"), Heard("b", "cem", "2", "y")]).keys() == {0, 1}

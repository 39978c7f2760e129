"""Few lines about many clips that are left out."""

from __future__ import annotations

from agr.data.left_out import MOST_REASONS, summarised


def test_reasons_of_one_kind_share_a_line_with_the_first_names() -> None:
    short = [(f"{k}.wav", f"/somewhere/{k}.wav: {k} samples; expected 800 or more") for k in range(5)]
    other = [("./x y.wav", "/a b/x y.wav: pure silence"), ("b.wav", "gender 'other'"), ("c.wav", "gender ''")]
    assert summarised([*other, *short]) == [
        "5 clips: 0.wav, 1.wav, 2.wav, ...: 0 samples; expected 800 or more",
        "1 clip: ./x y.wav: pure silence",
        "1 clip: b.wav: gender 'other'",
        "1 clip: c.wav: gender ''",
    ]


def test_many_kinds_of_reasons_end_with_their_number() -> None:
    letters = "abcdefghijkl"
    lines = summarised((f"{letter}.wav", f"reason {letter}") for letter in letters)
    assert len(lines) == MOST_REASONS + 1
    assert lines[-1] == "4 clips: 4 other reasons"


def test_nothing_left_out_takes_no_line() -> None:
    assert summarised([]) == []

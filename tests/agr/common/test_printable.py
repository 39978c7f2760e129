"""Names from outside on a terminal."""

from __future__ import annotations

import pytest

from agr.common.printable import printable


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07.wav", "\\x1b[2J\\x1b]0;title\\x07.wav"),
        ("a\nagr: all is well\r.wav", "a\\nagr: all is well\\r.wav"),
        ("a\tb\0c\x7f\x9b1m", "a\\tb\\x00c\\x7f\\x9b1m"),
        ("voice\u202evaw.exe", "voice\\u202evaw.exe"),
        ("a\u2028b", "a\\u2028b"),
    ],
)
def test_what_steers_a_terminal_is_shown_as_an_escape(name: str, shown: str) -> None:
    assert printable(name) == shown


@pytest.mark.parametrize(
    "name", ["two  words.wav", "çəkiç ünü 声 👩‍🎤.wav", "C:\\Users\\ann", "\u0645\u06cc\u200c\u062e.wav", "\udcff.wav"]
)
def test_what_only_looks_awkward_is_left_as_it_is(name: str) -> None:
    assert printable(name) == name

"""Ages as corpora write them."""

from __future__ import annotations

import pytest

from agr.data.clips import age_range


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("23", (23, 23)),
        (" 23.0 ", (23, 23)),
        ("23 years old", (23, 23)),
        ("teens", (13, 19)),
        ("Twenties", (20, 29)),
        ("fourties", (40, 49)),
        ("forties", (40, 49)),
        ("nineties", (90, 99)),
        ("60s", (60, 69)),
        ("20-29", (20, 29)),
        ("20 \u2013 29", (20, 29)),
        ("0-13", (0, 13)),
        ("18+", (18, 119)),
        ("18-", (18, 119)),
        ("18 and over", (18, 119)),
        (">=18", (18, 119)),
        ("> 18", (19, 119)),
        ("<18", (3, 17)),
        ("under 14", (3, 13)),
        ("up to 12", (3, 12)),
        ("child", (3, 13)),
    ],
)
def test_ages_as_corpora_write_them(text: str, span: tuple[int, int]) -> None:
    assert age_range({"age": text}) == span


@pytest.mark.parametrize(
    "text", ["", "-", "nan", "unknown", "1234", "2", "29-20", "20-1234", "1.2.3", "-5x", "-3", "18+20"]
)
def test_an_age_that_says_nothing_is_not_known(text: str) -> None:
    assert age_range({"age": text}) is None


def test_a_clip_without_a_column_of_ages_has_none() -> None:
    assert age_range({"room": "23"}) is None

"""Spellings of gender."""

from __future__ import annotations

import pytest

from agr.labels import genders_of, is_child, normalise_gender


@pytest.mark.parametrize(
    ("woman", "man"),
    [
        ("female", "Male"),
        (" F ", "m"),
        ("female_feminine", "male-masculine"),
        ("Women", "MEN"),
        ("weiblich", "M\u00e4nnlich"),
        ("F\u00e9minin", "homme"),
        ("Mujer", "var\u00f3n"),
        ("KADIN", "erkek"),
        ("Kad\u0131n", "Erkek"),
        ("\u0416\u0435\u043d\u0441\u043a\u0438\u0439", "\u043c\u0443\u0436\u0441\u043a\u043e\u0439"),
        ("\u5973\u6027", "\u7537"),
    ],
)
def test_spellings_in_several_languages(woman: str, man: str) -> None:
    assert (normalise_gender(woman), normalise_gender(man)) == ("female", "male")
    assert genders_of([woman, man]) == {woman: "female", man: "male"}


@pytest.mark.parametrize(
    ("letters", "meaning"),
    [
        ("F M", "female male"),
        ("w m", "female male"),
        ("w m d", "female male ?"),
        ("F H", "female male"),
        ("V M", "female male"),
        ("K E", "female male"),
        ("w", "female"),
        ("M", "male"),
        ("H M", "? ?"),  # hombre and mujer, or what?
        ("f m w", "female male ?"),
        ("f m k", "female male ?"),
        ("f m h", "? ? ?"),
        ("k e m", "? ? male"),
        ("0 1", "? ?"),
        ("w female male", "female female male"),
    ],
)
def test_letters_are_clear_only_beside_others_of_their_language(letters: str, meaning: str) -> None:
    column = letters.split()
    found = genders_of(column)
    assert [found[letter] or "?" for letter in column] == meaning.split()


@pytest.mark.parametrize("label", ["child", "Kids", "girl", "BOY", "ni\u00f1a", "Kind"])
def test_labels_of_children(label: str) -> None:
    assert is_child(label)
    assert normalise_gender(label) is None


@pytest.mark.parametrize("label", ["female", "", "childish"])
def test_labels_of_others(label: str) -> None:
    assert not is_child(label)

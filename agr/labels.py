"""The classes of the model, and how corpora spell them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping

CLASSES = ("female", "male")  # a label is an index into this
SPELLINGS = {  # case, accents and `-` for `_` aside; m and w and their like are in LETTERS
    "female": """
        female females fem feminine female_feminine woman women lady ladies
        weiblich weib frau frauen femme femmes feminin mujer mujeres femenino femenina mulher mulheres feminino
        feminina donna donne femmina femminile vrouw vrouwen vrouwelijk kvinna kvinnor kvinne kvinde kvinder nainen
        kobieta zena zenski kadin bayan qadin женщина женщины женскии жен жінка ж 女 女性 女声 여 여성 여자
    """,
    "male": """
        male males masc masculine male_masculine man men gentleman gentlemen
        mannlich maennlich mann manner maenner herr herren homme hommes masculin hombre hombres masculino masculina
        varon homem homens uomo uomini maschio maschile mannen mannelijk manlig mand maend mies
        mezczyzna muz muski erkek bay kisi мужчина мужчины мужскои муж чоловік м 男 男性 男声 남 남성 남자
    """,
}
CHILDREN = "child children kid kids boy boys girl girls infant baby kind kinder enfant nino nina"
LETTERS = ("fm", "wm", "fh", "vm", "ke", "km")  # for a woman and a man: English, German, French, Dutch, Turkish, Polish
GENDERS = {spelling: gender for gender, spellings in SPELLINGS.items() for spelling in spellings.split()}
GENDERS |= {"f": "female", "m": "male"}


def normalise_gender(value: object) -> str | None:
    """`female` or `male` for the usual spellings in several languages, None for anything else, as numbers are."""
    return GENDERS.get(plain(value))


def genders_of(values: Iterable[str]) -> Mapping[str, str | None]:
    """What each value of one column means: `female`, `male`, or None where that is unclear.

    A letter is clear only beside others of its language: W beside M is a woman, H beside F a man. M beside H may be
    a man, *mujer* or *mulher*, so both are unclear.
    """
    distinct = set(values)
    letters = {letter for pair in LETTERS for letter in pair} & {plain(value) for value in distinct}
    fitting = [pair for pair in LETTERS if letters <= set(pair)]
    if not fitting and not ("h" in letters and "m" in letters):
        fitting = ["fm"]  # with further letters of unknown meaning
    meaning = {letter: gender for pair in fitting for letter, gender in zip(pair, CLASSES, strict=True)}
    words = {key: gender for key, gender in GENDERS.items() if key not in ("f", "m")} | meaning
    return {value: words.get(plain(value)) for value in distinct}


def is_child(value: object) -> bool:
    """Whether a label says that the speaker is a child."""
    return plain(value) in CHILDREN.split()


def plain(value: object) -> str:
    """In small letters, without accents or blanks around; blanks and hyphens inside become `_`."""
    decomposed = unicodedata.normalize("NFKD", str(value).strip().casefold())
    letters = "".join(each for each in decomposed if not unicodedata.combining(each)).replace("\u0131", "i")
    return re.sub(r"[\s-]+", "_", unicodedata.normalize("NFKC", letters))

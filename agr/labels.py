"""The classes of the model, and how corpora spell them."""

from __future__ import annotations

CLASSES = ("female", "male")  # a label is an index into this
GENDERS = {"female": "female", "f": "female", "woman": "female", "male": "male", "m": "male", "man": "male"}


def normalise_gender(value: object) -> str | None:
    """`female` or `male` for the usual spellings, None for anything else."""
    return GENDERS.get(str(value).strip().lower())

"""What the pictures of a search need of a trial, in classes that need neither torch nor matplotlib."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from agr.training.loop import Epoch
    from agr.training.settings import Settings

NOTES = {
    "leaky": "LEAKY split: the same people train and validate",
    "synthetic": "SYNTHETIC voices: proves nothing about people",
}


@dataclass(frozen=True)
class Curve:
    """What a picture needs of one trial."""

    settings: Settings
    history: Sequence[Epoch]

    @classmethod
    def plain(cls, settings: Settings, history: Iterable[Epoch]) -> Curve:
        """The same numbers by the same names, in classes that need no torch."""
        epochs = [cast("Epoch", SimpleNamespace(**vars(epoch))) for epoch in history]
        return cls(cast("Settings", SimpleNamespace(**vars(settings))), epochs)


def notice(tags: Mapping[str, object]) -> str:
    """What a picture's title must not leave out: a leaky split, synthetic voices."""
    return "; ".join(note for tag, note in NOTES.items() if tags.get(tag))


def titled(name: str, tags: Mapping[str, object]) -> str:
    """A search's name, and on a line of its own what its pictures must not leave out."""
    found = notice(tags)
    return f"{name}\n[{found}]" if found else name

"""What is one clip among all that people hand to a model in Python: a path, bytes, or samples in memory."""

from __future__ import annotations

import os
from numbers import Real
from types import UnionType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agr.audio.arrays import as_wav
from agr.audio.decoder import Source
from agr.errors import AudioError, SettingsError
from agr.inference.answers import STDIN, Answer

Samples = NDArray[Any]  # (n,), (channels, n) or (n, channels); float with full scale -1..1, or integers
ClipLike = str | os.PathLike[str] | bytes | Samples | tuple[Samples, float]  # path, sound file, samples, with rate
EXPECTED = "a path, the bytes of a sound file, an array of samples, or a pair of an array and its rate"


def _is_array(given: object) -> bool:
    """Whether it is samples: an array of numpy or torch, and no column of a table."""
    return hasattr(given, "__array__") and not hasattr(given, "to_list") and np.asarray(given).dtype.kind not in "OSU"


def is_recording(given: object) -> bool:
    """Whether it is one clip."""
    pair = isinstance(given, tuple) and len(given) == 2 and _is_array(given[0]) and isinstance(given[1], Real)
    return isinstance(given, str | bytes | bytearray | memoryview | os.PathLike) or pair or _is_array(given)


def expect(name: str, given: object, kinds: type | UnionType, expected: str) -> None:
    """Raises: SettingsError, which calls it `name`, if what was given is of none of these types."""
    if not isinstance(given, kinds):
        raise SettingsError(f"{name} {_shown(given)}: expected {expected}")


def _shown(given: object) -> str:
    """What was given, on one line that is not long."""
    return " ".join(repr(given).split())[:60]


def clip_of(given: Any, rate: float | None, name: str) -> str | Source | Answer:
    """What `agr.inference.answers.answer` takes for a clip; for one that is none, an answer with the error."""
    if isinstance(given, str | os.PathLike):
        return str(given) if str(given) != STDIN else os.path.join(".", STDIN)
    if isinstance(given, bytes | bytearray | memoryview):
        return Source(name, bytes(given))
    if isinstance(given, Real) and given == given:  # NaN stands for nothing in a column of a table
        raise SettingsError(f"{name}: the number {given}; expected {EXPECTED}")
    samples, rate = given if isinstance(given, tuple) and is_recording(given) else (given, rate)
    if not _is_array(samples):
        return Answer(name, error=f"{name}: {_shown(samples)}; expected {EXPECTED}")
    if rate is None:
        raise SettingsError(f"{name}: an array without a rate; expected the rate of its samples in Hz")
    try:
        return Source(name, as_wav(samples, rate, name))
    except AudioError as error:
        return Answer(name, error=str(error))

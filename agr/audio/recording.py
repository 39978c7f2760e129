"""What decoding gives: a recording as a whole, or one that comes in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

SHARE = 0.9  # of what a header promises: less than this is told


@dataclass(frozen=True)
class Recording:
    """A recording, decoded to one channel."""

    samples: Samples  # (n,), float32, full scale -1..1
    sample_rate: int  # of `samples`, in Hz
    channels: int = 1  # of the file
    warning: str | None = None  # what a user should know about it, as "12.3 s of the 20.0 s that its header promises"


class Stream(Iterator["Samples"]):
    """A recording of any length, in blocks of samples, each (n,), float32; all but the last are equally long.

    Raises in iteration: AudioError, perhaps only after the last block; what came before is then to be thrown away.
    """

    sample_rate: int  # of the blocks, in Hz
    channels: int = 1  # of the file, known from the first block on
    promised: float | None = None  # seconds by the file's header, if it says so, known from the first block on
    warning: str | None = None  # as that of a Recording, known after the last block

    def __init__(self, sample_rate: int, blocks: Callable[[Stream], Iterator[Samples]]) -> None:
        """blocks: makes the blocks, and sets this object's `channels`, `promised` and `warning`."""
        self.sample_rate = sample_rate
        self._blocks = blocks(self)

    def __next__(self) -> Samples:
        return next(self._blocks)


def length_warning(seconds: float, promised: float | None) -> str | None:
    """What to say of a recording of so many seconds whose header promises `promised`; None if that is near enough."""
    if promised is None or seconds >= SHARE * promised:
        return None
    return f"{seconds:.1f} s of the {promised:.1f} s that its header promises"

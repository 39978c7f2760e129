"""Voice features of clips of different lengths, in one array.

tracks = Tracks.of([first, second])               # each (ROWS, frames), uint8
tracks[np.array([1, 0])]                          # the second with most speech of each: (2, ROWS, FRAMES)
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agr.data import shards
from agr.recipes import voice_features
from agr.recipes.base import FRAMES
from agr.recipes.voice_features import ROWS

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Tracks:
    """The voice features of n clips, each of at least FRAMES frames."""

    flat: NDArray[np.uint8] | shards.Sharded  # one clip after the other, each (ROWS, frames) in C order; or in shards
    frames: Integers  # of each clip, (n,)

    @classmethod
    def of(cls, clips: Sequence[NDArray[np.uint8]]) -> Tracks:
        """Collect clips, (ROWS, frames) each."""
        flat = np.concatenate([clip.reshape(-1) for clip in clips])
        return cls(flat, np.array([clip.shape[1] for clip in clips], dtype=np.int64))

    @classmethod
    def join(cls, parts: Sequence[Tracks]) -> Tracks:
        """The clips of several, in their order."""
        frames = np.concatenate([part.frames for part in parts])
        arrays = [part.flat for part in parts if isinstance(part.flat, np.ndarray)]
        if len(arrays) == len(parts):
            return cls(np.concatenate(arrays), frames)
        every = [part.flat if isinstance(part.flat, shards.Sharded) else part.clips() for part in parts]
        return cls(shards.join(every), frames)

    @functools.cached_property
    def _ends(self) -> Integers:
        return np.cumsum(self.frames) * ROWS

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def nbytes(self) -> int:
        """The size in bytes of what is not in shards."""
        return int(self.flat.nbytes)

    def clip(self, row: int) -> NDArray[np.uint8]:
        """The features of one clip, (ROWS, frames)."""
        if isinstance(self.flat, shards.Sharded):
            return self.flat[row]
        end, frames = int(self._ends[row]), int(self.frames[row])
        return self.flat[end - frames * ROWS : end].reshape(ROWS, frames)

    def clips(self) -> list[NDArray[np.uint8]]:
        """The features of each clip, (ROWS, frames)."""
        return [self.clip(row) for row in range(len(self))]

    def subset(self, rows: Integers) -> Tracks:
        """Some clips, (m,)."""
        if isinstance(self.flat, shards.Sharded):
            return Tracks(shards.some(self.flat, rows), self.frames[rows])
        return Tracks.of([self.clip(row) for row in rows.tolist()])

    def __getitem__(self, rows: Integers) -> NDArray[np.uint8]:
        """The second with most speech of some clips, (m,): (m, ROWS, FRAMES)."""
        cut = [voice_features.best_window(self.clip(row)) for row in rows.tolist()]
        return np.stack(cut) if cut else np.zeros((0, ROWS, FRAMES), dtype=np.uint8)

    def draw(self, rows: Integers, places: NDArray[np.float64]) -> NDArray[np.uint8]:
        """A second of each of some clips, (m,): (m, ROWS, FRAMES).

        places: where windows may begin, (m, k), 0..1; of the k windows of a clip, the one with most speech is taken.
        """
        clips = [self.clip(row) for row in rows.tolist()]
        starts = (places * (self.frames[rows, None] - FRAMES + 1)).astype(np.int64)  # (m, k)
        each = zip(clips, starts.tolist(), strict=True)
        cut = np.stack([np.stack([clip[:, at : at + FRAMES] for at in some]) for clip, some in each])  # (m, k, ...)
        best = voice_features.voicing(cut).sum(axis=-1).argmax(axis=1)
        return np.asarray(cut[np.arange(len(cut)), best])

    def windows(self, rows: Integers) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float64]]]:
        """Of each of some clips, its windows, (k, ROWS, FRAMES), and their weights, (k,)."""
        return (voice_features.weighted_windows(self.clip(row)) for row in rows.tolist())

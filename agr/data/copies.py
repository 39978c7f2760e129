"""Find recordings that a corpus, or several, hold more than once.

A copy under the same speaker adds nothing: one of them is used. A copy under another speaker has one wrong label, and
nobody knows which: none of them is used.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Heard:
    """One clip: its name, its speaker, and what it is known by.

    `recording` is the `content_digest` of its file. `samples` is that of its decoded samples, which a copy in another
    lossless format shares; empty if an earlier version of AGR prepared the clip.
    """

    name: str
    speaker: str
    recording: str
    samples: str = ""


class Copy(NamedTuple):
    """Why a clip is not to be used, and the index of the clip that it is a copy of."""

    twin: int
    reason: str


def copies(clips: Sequence[Heard]) -> dict[int, Copy]:
    """The clips that are not to be used, by index; of copies under one speaker the first is used."""
    samples_of = {clip.recording: clip.samples for clip in clips if clip.samples}
    same: defaultdict[str, list[int]] = defaultdict(list)
    for index, clip in enumerate(clips):
        same[samples_of.get(clip.recording, clip.recording)].append(index)
    found: dict[int, Copy] = {}
    for first, *others in same.values():
        speaker = clips[first].speaker
        other = next((index for index in others if clips[index].speaker != speaker), None)
        if other is None:
            reason = f"the same recording twice: as {clips[first].name} too, which is used"
            found |= dict.fromkeys(others, Copy(first, reason))
            continue
        for index in (first, *others):
            twin = other if clips[index].speaker == speaker else first
            found[index] = Copy(twin, _two_speakers(clips[index], clips[twin]))
    return found


def _two_speakers(clip: Heard, twin: Heard) -> str:
    both = f"{clip.speaker} here, and {twin.speaker} as {twin.name}"
    return f"the same recording under two speakers: {both}; neither is used"

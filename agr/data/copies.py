"""Find recordings that a corpus, or several, hold more than once.

A copy under the same speaker adds nothing: one of them is used. A copy under another speaker has one wrong label, and
nobody knows which: none of them is used.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass


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


def copies(clips: Sequence[Heard]) -> dict[int, str]:
    """The indices of clips that are not to be used, with the reasons; of equal copies the first one is used."""
    samples_of = {clip.recording: clip.samples for clip in clips if clip.samples}
    same: defaultdict[str, list[int]] = defaultdict(list)
    for index, clip in enumerate(clips):
        same[samples_of.get(clip.recording, clip.recording)].append(index)
    reasons: dict[int, str] = {}
    for group in same.values():
        first = clips[group[0]]
        other = next((clips[index] for index in group if clips[index].speaker != first.speaker), None)
        for index in group if other else group[1:]:
            reasons[index] = _reason(clips[index], first, other)
    return reasons


def _reason(clip: Heard, first: Heard, other: Heard | None) -> str:
    if other is None:
        return f"the same recording as {first.name}, which is used; expected it once"
    twin = other if clip.speaker == first.speaker else first
    found = f"speaker {clip.speaker}, but the same recording as {twin.name} of speaker {twin.speaker}"
    return f"{found}; expected one speaker, neither is used"

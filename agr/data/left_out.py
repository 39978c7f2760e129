"""Tell which clips are left out of a corpus, and why, in a few lines."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePath

MOST_REASONS, MOST_NAMES = 8, 3
PARTICULAR = re.compile(r"\S*[\d/\\]\S*")  # a number or a path, by which reasons of one kind differ


def summarised(skipped: Iterable[tuple[str, str]]) -> list[str]:
    """A line for each kind of reason, the most frequent first: how many clips, the reason of the first, some names.

    Reasons that differ only in numbers, in paths or behind a colon are of one kind. After MOST_REASONS kinds one line
    counts the others.
    """
    kinds: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, reason in skipped:
        _, prefix, rest = reason.partition(f"{PurePath(name).as_posix()}: ")  # errors begin with the clip's path
        told = rest if prefix else reason
        kinds[PARTICULAR.sub("", told.partition(": ")[0]) or told].append((name, told))
    groups = sorted(kinds.values(), key=len, reverse=True)
    lines = []
    for group in groups[:MOST_REASONS]:
        more = ", ..." if len(group) > MOST_NAMES else ""
        lines.append(f"{_clips(len(group))}: {', '.join(name for name, _ in group[:MOST_NAMES])}{more}: {group[0][1]}")
    if others := groups[MOST_REASONS:]:
        lines.append(f"{_clips(sum(map(len, others)))}: {len(others)} other reasons")
    return lines


def _clips(count: int) -> str:
    return f"{count} clip{'s' * (count != 1)}"

"""Names from outside, as they may be shown on a terminal."""

from __future__ import annotations

import re

# C0 and C1 controls (ISO/IEC 6429), line separators, and what reorders text (Unicode annex 9)
UNSAFE = re.compile("[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """The text with what would steer a terminal, break a line or reorder it written as an escape, as `\\x1b`."""
    return UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)

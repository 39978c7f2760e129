"""What the searches of chaos.py trained, as their workers wrote it down."""

from __future__ import annotations

import json
from collections import Counter

from _chaos_world import World


def trained(world: World) -> Counter[str]:
    """How often each epoch was trained to its end, by the learning rates up to it."""
    return Counter(json.dumps(json.loads(line)) for line in world.trace.read_text().splitlines())

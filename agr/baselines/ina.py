"""inaSpeechSegmenter 0.6.8 (Doukhan et al., ICASSP 2018), made to run beside numpy 2 and Keras 3."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

WOMEN, MEN = "female", "male"
Segments = list[tuple[str, float, float]]  # what is heard, start and end in seconds


def segmenter() -> Callable[[str], Segments]:
    """Its segmenter, called with the path of a sound file."""
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_USE_LEGACY_KERAS": "1"}
    stack: Any = np.vstack
    shims: dict[str, Any] = {"int": int, "float": float, "vstack": lambda parts, **more: stack(list(parts), **more)}
    for name, value in shims.items():
        setattr(np, name, value)
    setattr(np.lib, "pad", np.pad)  # noqa: B010 - mypy knows that numpy has none
    import imageio_ffmpeg
    from inaSpeechSegmenter import Segmenter

    made: Callable[[str], Segments] = Segmenter("smn", True, ffmpeg=imageio_ffmpeg.get_ffmpeg_exe())
    return made


def share_of_women(segments: Segments) -> float:
    """The share of the speech that is a woman's, 0..1; NaN without speech."""
    seconds = dict.fromkeys((WOMEN, MEN), 0.0)
    for heard, start, end in segments:
        if heard in seconds:
            seconds[heard] += end - start
    total = sum(seconds.values())
    return seconds[WOMEN] / total if total else float("nan")

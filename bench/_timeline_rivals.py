"""Rivals of the timeline, run by an interpreter that has them: `PYTHON _timeline_rivals.py NAME FILE.wav`.

Prints JSON: {"segments": [[start, end, "female" or "male"], ...], "seconds": of work without imports and loading}.
The module is run as a script by another interpreter, because inaSpeechSegmenter needs TensorFlow.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

THRESHOLD_HZ = 155.0
HOP = 0.01  # seconds
NEAR, PAUSE = 25, 30  # frames: what belongs to a voiced frame, and a gap that is closed
Segments = list[tuple[float, float, str]]


def ina(path: str) -> tuple[Segments, float]:
    """inaSpeechSegmenter 0.6.8."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from agr.baselines.ina import MEN, WOMEN, segmenter

    hear = segmenter()
    begun = time.perf_counter()
    found = hear(path)
    spoken = [(start, end, label) for label, start, end in found if label in (WOMEN, MEN)]
    return spoken, time.perf_counter() - begun


def praat(path: str) -> tuple[Segments, float]:
    """Praat's pitch: speech is what is voiced, a woman's where the median over a second is above THRESHOLD_HZ."""
    import parselmouth

    begun = time.perf_counter()
    sound = parselmouth.Sound(path)
    sound = sound - sound.values.mean()
    hz = sound.to_pitch(time_step=HOP, pitch_floor=60, pitch_ceiling=500).selected_array["frequency"]
    spans: list[list[int]] = []
    for frame in np.flatnonzero(hz).tolist():
        if spans and frame - spans[-1][1] < 2 * NEAR + PAUSE:
            spans[-1][1] = frame
        else:
            spans.append([frame, frame])
    segments: Segments = []
    for first, last in spans:
        for at in range(first, last + 1, 100):
            part = hz[at : min(at + 100, last + 1)]
            if (part > 0).any():
                label = "female" if np.median(part[part > 0]) > THRESHOLD_HZ else "male"
                start = at - NEAR if at == first else at
                end = last + NEAR if at + 100 > last else at + 100
                segments.append((max(start, 0) * HOP, end * HOP, label))
    return segments, time.perf_counter() - begun


if __name__ == "__main__":
    output = os.dup(1)
    os.dup2(2, 1)  # what the rivals print goes to stderr
    result, seconds = {"ina": ina, "praat": praat}[sys.argv[1]](sys.argv[2])
    with os.fdopen(output, "w") as file:
        json.dump({"segments": result, "seconds": seconds}, file)

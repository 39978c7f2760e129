"""Where in a recording people speak: the rules of `agr.recipes.speech`, asked of every second.

    spans = speech_spans(features)                    # [(start, end), ...] in frames of 10 ms

A frame belongs to speech if most of the seconds around it sound like speech and a voiced frame is near.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agr.recipes.speech import cues_and_voicing, is_speech, measure_frames

SECOND, STEP = 100, 33  # frames that are judged together, and from one judgement to the next
MAJORITY = 0.5  # of the judgements that a frame of speech needs
REACH = 25  # frames around a voiced one that belong to it: unvoiced consonants
PAUSE = 30  # frames: a shorter gap between two spans is closed
LEAST_VOICED = 6  # frames that a span needs


def speech_spans(features: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """Spans of speech: first frame and frame after the last, in order.

    features: of `voice_features.extract` with `yin_periodicity`, (ROWS, frames).
    """
    voiced = speech_frames(features)
    near = np.convolve(voiced, np.ones(2 * REACH + 1), mode="same") > 0
    spans: list[tuple[int, int]] = []
    for start, end in _runs(near):
        if spans and start - spans[-1][1] < PAUSE:
            start = spans.pop()[0]
        spans.append((start, end))
    return [(start, end) for start, end in spans if voiced[start:end].sum() >= LEAST_VOICED]


def speech_frames(features: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The voiced frames of speech in voice features extracted with `yin_periodicity`: (ROWS, frames) to (frames,)."""
    count = features.shape[1]
    frames = measure_frames(features)
    votes, asked = np.zeros(count), np.zeros(count)
    voiced = np.zeros(count, dtype=np.bool_)
    for start in range(0, max(count - SECOND, 0) + STEP, STEP):
        part = slice(start, min(start + SECOND, count))
        cues, own = cues_and_voicing(features[:, part], frames.cut(part.start, part.stop))
        asked[part] += 1
        if is_speech(cues):
            votes[part] += 1
            voiced[part] |= own
    return voiced & (votes > MAJORITY * asked)


def _runs(frames: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Where runs of true frames begin and end."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], frames.astype(np.int8), [0]])))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]

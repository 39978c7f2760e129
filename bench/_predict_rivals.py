"""Clips of 4 s for each second of processor time: AGR's champion beside the public tools that are installed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agr.audio import read as audio
from agr.baselines.extractors import EXTRACTORS, SAMPLE_RATE, missing_modules
from agr.common.places import SHIPPED
from agr.inference import bundle, predictor

SECONDS, CLIPS, ROUNDS = 4.0, 20, 5
Clip = NDArray[np.float32]  # mono, at SAMPLE_RATE
Tool = Callable[[Clip], object]


def joined(folder: Path) -> list[Clip]:
    """CLIPS clips of SECONDS, of the recordings in a folder one after the other; fewer if those are short."""
    size, wanted = round(SECONDS * SAMPLE_RATE), round(SECONDS * SAMPLE_RATE) * CLIPS
    found = np.zeros(0, dtype=np.float32)
    for path in audio.find(folder):
        found = np.concatenate([found, audio.load(path, SAMPLE_RATE)])
        if len(found) >= wanted:
            break
    return [found[start : start + size] for start in range(0, min(len(found), wanted) - size + 1, size)]


def champion() -> Tool:
    """AGR's prediction, with the change of the sample rate."""
    loaded = bundle.load(SHIPPED)
    rate = loaded.info.recipe.sample_rate
    return lambda y: predictor.predict([audio.resample(y, SAMPLE_RATE, rate)], loaded)


def report(folder: Path) -> None:
    """Measure in turns, and print medians; a tool that is not installed is named."""
    clips, tools = joined(folder), {"AGR": champion()}
    for extractor in EXTRACTORS.values():
        if line := missing_modules(extractor):
            print(f"{extractor.title}: {line}")
        else:
            tools[extractor.title] = extractor.load()
    for tool in tools.values():
        tool(clips[0])
    rounds = [{name: rate(tool, clips) for name, tool in tools.items()} for _ in range(ROUNDS)]
    rates = {name: statistics.median(each[name] for each in rounds) for name in tools}
    for name, each in rates.items():
        print(f"{name:28}{each:8.1f} clips of {SECONDS:g} s a second of one core; AGR {rates['AGR'] / each:.2f} x")


def rate(tool: Tool, clips: Sequence[Clip]) -> float:
    """Clips for each second of processor time of this process."""
    began = time.process_time()
    for clip in clips:
        tool(clip)
    return len(clips) / (time.process_time() - began)

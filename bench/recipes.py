"""Time predictions of the recipes beside each other and beside Praat's pitch, on the same clips in the same run.

    python bench/recipes.py [--clips 300] [--rounds 3]

Each way gets the samples of the same synthetic clips, decoded beforehand, in one thread: the study's CNN on `voice`,
the model that comes with AGR on `voice112`, both with speech detection as `predict` does, and Praat's median pitch,
which `pip install 'agr[baselines]'` brings and which is left out where it is not there. The rounds take turns; the
medians are reported. Weights do not change the speed, so those of the CNN are random.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agr.audio import read as audio
from agr.baselines.extractors import EXTRACTORS
from agr.common.places import SHIPPED
from agr.inference import bundle, predictor
from agr.recipes.voice import VOICE
from agr.synth import demo
from agr.training.model import build

BATCH = 32
Clips = list[NDArray[np.float32]]


def plain_voice() -> bundle.Bundle:
    """The study's CNN with random weights, on images of `voice`."""
    info = replace(bundle.read_info(SHIPPED), model="cnn", recipe=VOICE)
    return bundle.Bundle(build("cnn", seed=0).eval(), info)


def predicting(loaded: bundle.Bundle, clips: Clips) -> Callable[[], None]:
    """Answer all clips, BATCH at a time."""

    def run() -> None:
        for start in range(0, len(clips), BATCH):
            predictor.predict(clips[start : start + BATCH], loaded)

    return run


def ways(paths: Sequence[Path]) -> dict[str, Callable[[], object]]:
    """What is measured, by name."""
    low = [audio.load(path, VOICE.sample_rate) for path in paths]
    found: dict[str, Callable[[], object]] = {
        "voice, the study's CNN": predicting(plain_voice(), low),
        "voice112, the champion": predicting(bundle.load(SHIPPED), low),
    }
    if importlib.util.find_spec("parselmouth") is None:
        print("Praat's pitch: parselmouth is not installed, so it is left out", file=sys.stderr)
        return found
    pitch, high = EXTRACTORS["praat"].load(), [audio.load(path, 16_000) for path in paths]
    return found | {"Praat's median pitch": lambda: [pitch(y) for y in high]}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python bench/recipes.py", description="Time the recipes beside each other.")
    parser.add_argument("--clips", type=int, default=300, help="synthetic clips (default: 300)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each (default: 3)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        demo.write_demo(Path(scratch), 10, -(-options.clips // 100))
        measured = ways(audio.find(Path(scratch))[: options.clips])
    times: dict[str, list[float]] = {name: [] for name in measured}
    for turn in range(options.rounds + 1):  # the first warms up
        for name, run in measured.items():
            began = time.perf_counter()
            run()
            if turn:
                times[name].append(time.perf_counter() - began)
    rates = {name: options.clips / statistics.median(each) for name, each in times.items()}
    first = next(iter(rates.values()))
    for name, rate in rates.items():
        print(f"{name:26} {rate:7.0f} clips/s  {rate / first:5.2f} x the first")
    return 0


if __name__ == "__main__":
    from agr.common.cli import run

    run(main)

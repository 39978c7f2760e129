"""Who speaks when, against inaSpeechSegmenter and Praat's pitch: right frames and speed in the same run.

    python bench/timeline.py CORPUS ... --model-uri models:/agr/best --rivals PYTHON

Clips of known people are joined, with pauses, noise and music between them: `--scenes` recordings of `--minutes`. Each
10 ms are a woman's, a man's, or nobody's; frames within 0.25 s of a change do not count. PYTHON has the rivals:
`pip install inaSpeechSegmenter==0.6.8 tf_keras imageio-ffmpeg praat-parselmouth`. A rival that is not installed is left
out, which is said. The corpora should be ones that the model was not trained on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _timeline_scenes as scenes
import numpy as np
import soundfile
from numpy.typing import NDArray

from agr.audio.read import resample
from agr.data.corpus import open_corpus
from agr.inference import bundle, timeline
from agr.registry.resolve import resolve

COLLAR = 25  # frames around a change that do not count
RIVALS = {"ina": "inaSpeechSegmenter", "praat": "Praat's pitch, threshold 155 Hz"}
Labelled = list[tuple[float, float, str]]
Found = tuple[Labelled, float]


def by_agr(path: Path, loaded: bundle.Bundle) -> Found:
    """AGR's segments of a WAV file at `scenes.RATE`, and the seconds that they took."""
    y, _ = soundfile.read(path, dtype="float32")
    begun = time.perf_counter()
    rate = loaded.info.recipe.sample_rate
    y = resample(y, scenes.RATE, rate)
    blocks = (y[at : at + 30 * rate] for at in range(0, len(y), 30 * rate))
    segments, _ = timeline.of_recording(blocks, loaded)
    return [(s.start, s.end, s.label) for s in segments], time.perf_counter() - begun


def by_rival(path: Path, name: str, python: str) -> Found:
    """A rival's segments. Raises: CalledProcessError if it cannot run."""
    program = Path(__file__).with_name("_timeline_rivals.py")
    done = subprocess.run([python, str(program), name, str(path)], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return [(start, end, label) for start, end, label in found["segments"]], found["seconds"]


def frames(segments: Labelled, count: int) -> NDArray[np.int8]:
    """Segments as the truth is written: the class of each frame, (count,)."""
    found = np.full(count, scenes.NOTHING, dtype=np.int8)
    for start, end, label in segments:
        found[round(start * 100) : round(end * 100)] = scenes.FEMALE if label == "female" else scenes.MALE
    return found


def right(found: NDArray[np.int8], truth: NDArray[np.int8]) -> NDArray[np.float64]:
    """Right frames and all of them, (5, 2): all, nobody, women, men, and gender where speech was found."""
    counts = np.ones(len(truth), dtype=np.bool_)
    for change in np.flatnonzero(np.diff(truth)) + 1:
        counts[max(change - COLLAR, 0) : change + COLLAR] = False
    found, truth = found[counts], truth[counts]
    masks = [truth >= 0, *(truth == each for each in range(3)), (truth > 0) & (found > 0)]
    return np.array([[(found == truth)[mask].sum(), mask.sum()] for mask in masks], dtype=np.float64)


def measure(
    paths: list[tuple[Path, scenes.Scene]], method: Callable[[Path], Found]
) -> tuple[NDArray[np.float64], float]:
    """Shares of right frames over all scenes, as `right` lists them, (5,), and seconds of work per hour of sound."""
    total, spent, heard = np.zeros((5, 2)), 0.0, 0.0
    for path, scene in paths:
        segments, seconds = method(path)
        total += right(frames(segments, len(scene.truth)), scene.truth)
        spent, heard = spent + seconds, heard + len(scene.y) / scenes.RATE
    return total[:, 0] / total[:, 1], spent / heard * 3600


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpora", nargs="+", metavar="CORPUS", help="labelled recordings of people")
    parser.add_argument("--scenes", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="also write the recordings there")
    parser.add_argument("--model-uri", default="models:/agr/best")
    parser.add_argument("--tracking-uri")
    parser.add_argument("--rivals", default=sys.executable, metavar="PYTHON", help="an interpreter that has the rivals")
    options = parser.parse_args()
    loaded = bundle.load(resolve(options.model_uri, options.tracking_uri).folder)
    corpora = [open_corpus(source, Path("data")) for source in options.corpora]
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for seed in range(options.scenes):
            scene = scenes.make(corpora, 60 * options.minutes, seed)
            path = Path(folder) / f"scene{seed}.wav"
            soundfile.write(path, scene.y, scenes.RATE)
            if options.keep:
                soundfile.write(options.keep / path.name, scene.y, scenes.RATE)
            paths.append((path, scene))
        methods: dict[str, Callable[[Path], Found]] = {"AGR": lambda path: by_agr(path, loaded)}
        for name, title in RIVALS.items():
            methods[title] = lambda path, name=name: by_rival(path, name, options.rivals)  # type: ignore[misc]
        print(f"{'':34} right  nobody  women   men  gender  seconds an hour  x AGR's time")
        own = 0.0
        for title, method in methods.items():
            try:
                shares, seconds = measure(paths, method)
            except (OSError, subprocess.CalledProcessError) as error:
                reason = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1]
                print(f"{title:32} left out: {reason}")
                continue
            own = own or seconds
            print(
                f"{title:32}  {'   '.join(f'{share:.3f}' for share in shares)}   {seconds:8.1f}  {seconds / own:10.1f}"
            )


if __name__ == "__main__":
    main()

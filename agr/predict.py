"""Tell whether clips hold a woman's or a man's voice.

    python -m agr.predict --model-uri models:/agr/best [--json] clip.wav folder/ -

Arguments are sound files, folders of them, and `-` for one file on standard input. A clip longer than a second is
read in windows. Exit status: 0 all answered, 1 some clip could not be (the others were), 2 wrong usage or no such
model. With --json, one object a line: path, label, probability {female, male}, model {name, version}; or path, error.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agr.errors import AudioError
from agr.terminal import quick_imports

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agr.bundle import Bundle

BATCH = 32
STDIN = "-"


@dataclass(frozen=True)
class Answer:
    """One clip's probabilities, in the order of CLASSES, or the error that says why there are none."""

    path: str
    probability: dict[str, float] | None = None
    error: str | None = None

    @property
    def label(self) -> str:
        """The likelier gender of the voice; empty where there is no answer."""
        return max(self.probability, key=self.probability.__getitem__) if self.probability else ""

    def as_dict(self, model: dict[str, Any]) -> dict[str, Any]:
        """The object that --json prints."""
        if self.probability is None:
            return {"path": self.path, "error": self.error}
        return {"path": self.path, "label": self.label, "probability": self.probability, "model": model}


def expand(arguments: Sequence[str]) -> Iterator[str | Answer]:
    """Clips as named; a folder's sound files in sorted order; an Answer with an error where there are none."""
    from agr import audio

    for argument in arguments:
        if argument == STDIN or not os.path.isdir(argument):  # Path.is_dir raises for a name too long
            yield argument
        elif found := audio.find(Path(argument)):
            yield from map(str, found)
        else:
            yield Answer(argument, error=f"{argument}: no sound files in it; expected WAV, FLAC, OGG or MP3")


def answer(clips: Iterator[str | Answer], bundle: Bundle) -> Iterator[Answer]:
    """Answers in the order of the clips, made in batches."""
    batch: list[str | Answer] = []
    for clip in clips:
        batch.append(clip)
        if len(batch) == BATCH:
            yield from _answer_batch(batch, bundle)
            batch = []
    yield from _answer_batch(batch, bundle)


def _answer_batch(batch: Sequence[str | Answer], bundle: Bundle) -> Iterator[Answer]:
    from agr import inference
    from agr.corpus import CLASSES

    loaded = [clip if isinstance(clip, Answer) else _load(clip, bundle.card.recipe.sample_rate) for clip in batch]
    good = [y for y in loaded if not isinstance(y, Answer)]
    rows = iter(inference.of_clips(good, bundle).tolist() if good else [])
    for clip, y in zip(batch, loaded, strict=True):
        yield y if isinstance(y, Answer) else Answer(str(clip), dict(zip(CLASSES, next(rows), strict=True)))


def _load(clip: str, sample_rate: int) -> NDArray[np.float32] | Answer:
    from agr import audio

    try:
        if clip == STDIN:
            return audio.load(sys.stdin.buffer.read(), sample_rate)
        return audio.load(Path(clip), sample_rate)
    except AudioError as error:
        return Answer(clip, error=str(error))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m agr.predict", description="Tell a woman's voice from a man's.")
    parser.add_argument("clips", nargs="+", metavar="CLIP", help="a sound file, a folder, or - for standard input")
    add_model_arguments(parser)
    return parser.parse_args(arguments)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that `predict` and `evaluate` share."""
    uris = "models:/agr/best (default), models:/agr/3, models:/agr/latest, runs:/..., or a folder"
    parser.add_argument("--model-uri", default="models:/agr/best", help=uris)
    parser.add_argument("--tracking-uri", help="MLflow's store (default: MLFLOW_TRACKING_URI, else mlflow_store/)")
    parser.add_argument("--json", action="store_true", help="print JSON: one object a clip, or one in all")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = parse(arguments)
    with quick_imports():
        from agr import bundle, registry

    found = registry.resolve(options.model_uri, options.tracking_uri)
    loaded = bundle.load(found.folder)
    model = {"name": found.name, "version": found.version}
    if loaded.card.data.get("synthetic"):
        print("agr: this model was trained on synthetic voices and proves nothing about people", file=sys.stderr)
    failed = False
    for result in answer(expand(options.clips), loaded):
        failed |= result.error is not None
        if result.error is not None:
            print(f"agr: {result.error}", file=sys.stderr)
        if options.json:
            print(json.dumps(result.as_dict(model)), flush=True)
        elif result.probability is not None:
            print(f"{result.path}\t{result.label}\t{result.probability[result.label]:.3f}", flush=True)
    return int(failed)


if __name__ == "__main__":
    from agr.terminal import run

    run(main)

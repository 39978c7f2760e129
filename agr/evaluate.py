"""Score a model on a labelled corpus, clip by clip and person by person.

    python -m agr.evaluate --model-uri models:/agr/best --data SOURCE [--abstain-below P] [--json]

Recordings are answered just as `agr.predict` answers them; of ready images, and of a folder that `agr.prepare`
made, the images are scored. --json prints one object: clips, speakers, accuracy, balanced_accuracy,
balanced_accuracy_ci95 (from resampling speakers), recall {female, male}, per_speaker, and more. A clip that is
answered `no speech` counts as answered wrongly. All scores are of all clips, also with --abstain-below P; beside them
`answered` is the share of clips that are neither without speech nor less sure than P, `accuracy_answered` theirs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agr import bundle, corpus, images, inference, prepare, registry
from agr.errors import CorpusError, RecipeError
from agr.predict import add_abstain_argument, add_model_arguments, answer
from agr.progress import terminal_progress
from agr.scoring import Scores, score

Integers = NDArray[np.int64]
Probabilities = NDArray[np.float64]


@dataclass(frozen=True)
class Evaluation:
    """The scores of one model on one corpus; `skipped` clips could not be read, `met` speakers it trained on.

    no_speech: clips that were answered so; they are in the scores as wrong answers. answered: the share of the others
    of which the model is as sure as `sure`, and accuracy_answered theirs, None where there are none.
    """

    scores: Scores
    skipped: int
    met: tuple[str, ...]
    synthetic: bool
    corpus: str
    no_speech: int = 0
    sure: float = 0.0
    answered: float = 1.0
    accuracy_answered: float | None = None


def evaluate(loaded: bundle.Bundle, seen: bundle.Seen, source: str, workspace: Path, sure: float = 0.0) -> Evaluation:
    """Score a bundle on any SOURCE. Raises: CorpusError, RecipeError if images were made by another recipe."""
    path = Path(source)
    if path.is_dir() and images.is_prepared(path):
        return _on_images(loaded, seen, images.load(path), sure)
    found = corpus.open_corpus(source, workspace)
    if found.ready_images:
        return _on_images(loaded, seen, prepare.ensure(source, workspace), sure)
    return _on_recordings(loaded, seen, found, sure)


def score_images(loaded: bundle.Bundle, data: images.ImageSet, rows: Integers) -> Scores:
    """Score the images `rows` of a set. Raises: RecipeError if another recipe than the model's made them."""
    return score(data.labels[rows], _of_images(loaded, data, rows), data.speakers[rows])


def _of_images(loaded: bundle.Bundle, data: images.ImageSet, rows: Integers) -> Probabilities:
    if data.recipe != loaded.card.recipe:
        raise RecipeError(f"{data.name}: images of recipe {data.recipe.name}; expected {loaded.card.recipe.name}")
    return inference.of_images(data.pixels[rows], loaded)


def _on_images(loaded: bundle.Bundle, seen: bundle.Seen, data: images.ImageSet, sure: float) -> Evaluation:
    given = _of_images(loaded, data, np.arange(len(data)))
    scores = score(data.labels, given, data.speakers)
    met = tuple(sorted(set(data.speakers.tolist()) & seen.speakers))
    share, right = _among_answered(data.labels, given, np.ones(len(data), dtype=np.bool_), sure)
    return Evaluation(scores, 0, met, data.synthetic, data.name, 0, sure, share, right)


def _on_recordings(loaded: bundle.Bundle, seen: bundle.Seen, found: corpus.Corpus, sure: float) -> Evaluation:
    labels, speakers, probabilities, spoken = [], [], [], []
    with terminal_progress(f"evaluating on {found.name}", len(found.clips), unit="clips") as advance:
        answers = answer((str(clip.path) for clip in found.clips), loaded)
        for clip, result in zip(found.clips, answers, strict=True):
            advance(1)
            if result.error is not None:
                print(f"agr: {result.error}", file=sys.stderr)
                continue
            labels.append(corpus.CLASSES.index(clip.gender))
            speakers.append(f"{found.name}/{clip.speaker}")
            wrong = [float(name != clip.gender) for name in corpus.CLASSES]
            probabilities.append(list(result.probability.values()) if result.probability else wrong)
            spoken.append(result.probability is not None)
    if not labels:
        raise CorpusError(f"{found.root}: none of {len(found.clips)} clips could be read; expected recordings")
    scores = score(np.array(labels), np.array(probabilities), np.array(speakers))
    skipped = len(found.clips) - len(labels) + len(found.skipped)
    met = tuple(sorted(set(speakers) & seen.speakers))
    share, right = _among_answered(np.array(labels), np.array(probabilities), np.array(spoken), sure)
    mute = spoken.count(False)
    return Evaluation(scores, skipped, met, found.synthetic, found.name, mute, sure, share, right)


def _among_answered(
    labels: Integers, probabilities: Probabilities, spoken: NDArray[np.bool_], sure: float
) -> tuple[float, float | None]:
    """The share of clips that are spoken and answered as surely as `sure`, and the accuracy among them."""
    given = spoken & (probabilities.max(axis=1) >= sure)
    right = probabilities.argmax(axis=1) == labels
    return float(given.mean()), float(right[given].mean()) if given.any() else None


def as_dict(result: Evaluation, model: dict[str, Any]) -> dict[str, Any]:
    """The object that --json prints."""
    extra: dict[str, Any] = {"skipped": result.skipped, "no_speech": result.no_speech, "synthetic": result.synthetic}
    extra |= {"abstain_below": result.sure or None}
    extra |= {"answered": result.answered, "accuracy_answered": result.accuracy_answered}
    extra |= {"speakers_met_in_training": list(result.met), "corpus": result.corpus, "model": model}
    return result.scores.as_dict() | extra


def describe(result: Evaluation) -> str:
    """The scores for a person to read."""
    s = result.scores
    low, high = s.balanced_accuracy_ci95
    recall = ", ".join(f"{name} {value:.4f}" for name, value in s.recall.items() if value is not None)
    worst = sorted(s.per_speaker.items(), key=lambda item: item[1].accuracy)[:5]
    lines = [
        f"{result.corpus}: {s.clips} clips of {s.speakers} speakers, {result.skipped} clips skipped",
        f"{s.measure:18} {s.balanced_accuracy:.4f}  (95 % interval over speakers {low:.4f} to {high:.4f})",
        f"accuracy           {s.accuracy:.4f}",
        f"recall             {recall}",
        "hardest speakers   " + ", ".join(f"{name} ({who.gender}) {who.accuracy:.2f}" for name, who in worst),
    ]
    if result.no_speech:
        lines.append(f"no speech          {result.no_speech} clips were answered so, and count as wrong")
    if result.sure:
        among = "" if result.accuracy_answered is None else f", of these rightly {result.accuracy_answered:.4f}"
        lines.append(f"answered           {result.answered:.4f} of the clips are as sure as {result.sure:g}{among}")
    if result.met:
        lines.append(f"LEAKY: the model was trained or chosen on {len(result.met)} of these speakers")
    if result.synthetic:
        lines.append("These voices are synthetic: the result proves nothing about people.")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 1 if some clip could not be read."""
    parser = argparse.ArgumentParser(prog="python -m agr.evaluate", description="Score a model on a labelled corpus.")
    parser.add_argument("--data", required=True, help="demo, audiomnist, a folder, a CSV manifest")
    add_abstain_argument(parser, "also report the clips of which the model is at least so sure, 0.5 to 1")
    add_model_arguments(parser)
    options = parser.parse_args(arguments)
    found = registry.resolve(options.model_uri, options.tracking_uri)
    loaded, seen = bundle.load(found.folder), bundle.read_seen(found.folder)
    result = evaluate(loaded, seen, options.data, Path("data"), options.abstain_below)
    model = {"name": found.name, "version": found.version}
    print(json.dumps(as_dict(result, model)) if options.json else describe(result))
    return int(result.skipped > 0)


if __name__ == "__main__":
    from agr.terminal import run

    run(main)

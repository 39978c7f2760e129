"""Score a model on a labelled corpus, clip by clip and person by person.

    python -m agr.evaluate --model-uri models:/agr/best --data SOURCE [--abstain-below P] [--json]

Recordings are answered as `agr.predict` answers them; of study images, and of a folder that `agr.prepare` made, the
images are scored. All scores are of all clips: a clip answered `no speech` counts as wrong, and --abstain-below P only
adds `answered`, the share of clips that have speech and an answer of probability P or more, and `accuracy_answered`,
the accuracy among them. --json prints one object: clips, speakers, accuracy, balanced_accuracy, balanced_accuracy_ci95
(from resampling speakers), recall {female, male}, per_speaker, and more.

A result on clips that trained or chose the model is marked LEAKY. Speakers are known by name, and by the content of
their recordings, which finds them in a folder of another name too.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agr import audio, bundle, corpus, images, inference, prepare, registry
from agr.errors import CorpusError, RecipeError
from agr.files import content_digest
from agr.predict import add_abstain_argument, add_model_arguments, answer
from agr.progress import terminal_progress
from agr.scoring import Scores, score
from agr.terminal import complain

Integers = NDArray[np.int64]
Probabilities = NDArray[np.float64]


@dataclass(frozen=True)
class Evaluation:
    """The scores of one model on one corpus.

    Attributes:
        scores: of all clips that could be read.
        skipped: clips that could not be read or have no label.
        met: `corpus/speaker` of the speakers that trained or chose the model, by name or by a recording.
        synthetic: whether the voices are.
        corpus: its name.
        no_speech: clips that were answered so; in the scores they are wrong answers.
        sure: the probability that an answer has to reach; 0 takes any.
        answered: the share of clips that have speech and such an answer.
        accuracy_answered: the accuracy among them, None if there are none.
        met_recordings: clips whose recordings trained or chose the model.
        content_checked: whether the bundle lists recordings, without which only names can be compared.
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
    met_recordings: int = 0
    content_checked: bool = True


@dataclass(frozen=True)
class Answered:
    """The answers to n clips of one corpus, entry k of each attribute for clip k.

    `labels` are indices into CLASSES; `probabilities`, (n, 2), are in their order, and 1 for the wrong class where a
    clip has no speech (`spoken`); `speakers` are `corpus/speaker`, `recordings` content digests.
    """

    labels: Integers
    probabilities: Probabilities
    speakers: Sequence[str]
    recordings: Sequence[str]
    spoken: NDArray[np.bool_]


def evaluate(loaded: bundle.Bundle, seen: bundle.Seen, source: str, workspace: Path, sure: float = 0.0) -> Evaluation:
    """Score a bundle on any SOURCE or prepared folder; corpora that are made or fetched are kept in `workspace`.

    Raises: CorpusError if the source cannot be used, RecipeError if its images were made by another recipe.
    """
    path = Path(source)
    if path.is_dir() and images.is_prepared(path):
        return _on_images(loaded, seen, images.load(path), sure)
    found = corpus.open_corpus(source, workspace)
    if found.ready_images:
        return _on_images(loaded, seen, prepare.ensure(source, workspace), sure)
    answered = _on_recordings(loaded, found)
    skipped = len(found.clips) - len(answered.labels) + len(found.skipped)
    return _evaluation(answered, seen, sure, found.name, found.synthetic, skipped)


def score_images(loaded: bundle.Bundle, data: images.ImageSet, rows: Integers) -> Scores:
    """Score the images `rows` of a set. Raises: RecipeError if another recipe than the model's made them."""
    return score(data.labels[rows], _of_images(loaded, data, rows), data.speakers[rows])


def _of_images(loaded: bundle.Bundle, data: images.ImageSet, rows: Integers) -> Probabilities:
    if data.recipe != loaded.card.recipe:
        raise RecipeError(f"{data.name}: images of recipe {data.recipe.name}; expected {loaded.card.recipe.name}")
    return inference.of_images(data.pixels[rows], loaded)


def _on_images(loaded: bundle.Bundle, seen: bundle.Seen, data: images.ImageSet, sure: float) -> Evaluation:
    probabilities = _of_images(loaded, data, np.arange(len(data)))
    spoken = np.ones(len(data), dtype=np.bool_)
    answered = Answered(data.labels, probabilities, data.speakers.tolist(), data.recordings.tolist(), spoken)
    return _evaluation(answered, seen, sure, data.name, data.synthetic)


def _on_recordings(loaded: bundle.Bundle, found: corpus.Corpus) -> Answered:
    """Answer the clips of a corpus; those that cannot be read are left out, each with a line on stderr."""
    labels, speakers, recordings, probabilities, spoken = [], [], [], [], []
    with terminal_progress(f"evaluating on {found.name}", len(found.clips), unit="clips") as advance:
        answers = answer((str(clip.path) for clip in found.clips), loaded)
        for clip, result in zip(found.clips, answers, strict=True):
            advance(1)
            if result.error is not None:
                complain(result.error)
                continue
            labels.append(corpus.CLASSES.index(clip.gender))
            speakers.append(f"{found.name}/{clip.speaker}")
            recordings.append(content_digest(audio.read_bytes(clip.path)))
            wrong = [float(name != clip.gender) for name in corpus.CLASSES]
            probabilities.append(list(result.probability.values()) if result.probability else wrong)
            spoken.append(result.probability is not None)
    if not labels:
        raise CorpusError(f"{found.root}: none of {len(found.clips)} clips could be read; expected recordings")
    return Answered(np.array(labels), np.array(probabilities), speakers, recordings, np.array(spoken))


def _evaluation(
    answered: Answered, seen: bundle.Seen, sure: float, name: str, synthetic: bool, skipped: int = 0
) -> Evaluation:
    whose = zip(answered.speakers, answered.recordings, strict=True)
    by_content = [speaker for speaker, recording in whose if recording in seen.recordings]
    given = answered.spoken & (answered.probabilities.max(axis=1) >= sure)
    right = answered.probabilities.argmax(axis=1) == answered.labels
    return Evaluation(
        scores=score(answered.labels, answered.probabilities, np.array(answered.speakers)),
        skipped=skipped,
        met=tuple(sorted(set(by_content) | seen.speakers.intersection(answered.speakers))),
        synthetic=synthetic,
        corpus=name,
        no_speech=int((~answered.spoken).sum()),
        sure=sure,
        answered=float(given.mean()),
        accuracy_answered=float(right[given].mean()) if given.any() else None,
        met_recordings=len(by_content),
        content_checked=bool(seen.recordings),
    )


def as_dict(result: Evaluation, model: dict[str, Any]) -> dict[str, Any]:
    """The object that --json prints."""
    extra: dict[str, Any] = {"skipped": result.skipped, "no_speech": result.no_speech, "synthetic": result.synthetic}
    extra |= {"abstain_below": result.sure or None}
    extra |= {"answered": result.answered, "accuracy_answered": result.accuracy_answered}
    extra |= {"speakers_met_in_training": list(result.met), "corpus": result.corpus, "model": model}
    met_recordings = result.met_recordings if result.content_checked else None
    return result.scores.as_dict() | extra | {"recordings_met_in_training": met_recordings}


def describe(result: Evaluation) -> str:
    """The scores, for a person to read."""
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
        clips = f" ({result.met_recordings} of these recordings)" if result.content_checked else ""
        lines.append(f"LEAKY: the model was trained or chosen on {len(result.met)} of these speakers{clips}")
    if not result.content_checked:
        lines.append("not checked        recordings: this model does not list its own, so only names were compared")
    if result.synthetic:
        lines.append("These voices are synthetic: the result proves nothing about people.")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 1 if some clip could not be read."""
    parser = argparse.ArgumentParser(prog="python -m agr.evaluate", description="Score a model on a labelled corpus.")
    parser.add_argument("--data", required=True, help="demo, audiomnist, a corpus folder or a CSV manifest")
    add_abstain_argument(parser, "also report the clips answered with this probability or more, 0.5 to 1")
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

"""Measure a model on the people of a corpus, and tell which of them it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agr.audio import read as audio
from agr.common.cli import complain
from agr.common.files import content_digest
from agr.common.progress import terminal_progress
from agr.data import corpus, image_set, preparation
from agr.data.clips import Corpus
from agr.errors import CorpusError, RecipeError
from agr.inference import bundle, predictor
from agr.inference.answers import answer
from agr.labels import CLASSES
from agr.metrics.scoring import Scores, score

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
    if path.is_dir() and image_set.is_prepared(path):
        return _on_images(loaded, seen, image_set.load(path), sure)
    found = corpus.open_corpus(source, workspace)
    if found.ready_images:
        return _on_images(loaded, seen, preparation.ensure(source, workspace), sure)
    answered = _on_recordings(loaded, found)
    skipped = len(found.clips) - len(answered.labels) + len(found.skipped)
    return _evaluation(answered, seen, sure, found.name, found.synthetic, skipped)


def score_images(loaded: bundle.Bundle, data: image_set.ImageSet, rows: Integers) -> Scores:
    """Score the images `rows` of a set. Raises: RecipeError if another recipe than the model's made them."""
    return score(data.labels[rows], _of_images(loaded, data, rows), data.speakers[rows])


def _of_images(loaded: bundle.Bundle, data: image_set.ImageSet, rows: Integers) -> Probabilities:
    if data.recipe != loaded.card.recipe:
        raise RecipeError(f"{data.name}: images of recipe {data.recipe.name}; expected {loaded.card.recipe.name}")
    return predictor.of_images(data.pixels[rows], loaded)


def _on_images(loaded: bundle.Bundle, seen: bundle.Seen, data: image_set.ImageSet, sure: float) -> Evaluation:
    probabilities = _of_images(loaded, data, np.arange(len(data)))
    spoken = np.ones(len(data), dtype=np.bool_)
    answered = Answered(data.labels, probabilities, data.speakers.tolist(), data.recordings.tolist(), spoken)
    return _evaluation(answered, seen, sure, data.name, data.synthetic)


def _on_recordings(loaded: bundle.Bundle, found: Corpus) -> Answered:
    """Answer the clips of a corpus; those that cannot be read are left out, each with a line on stderr."""
    labels, speakers, recordings, probabilities, spoken = [], [], [], [], []
    with terminal_progress(f"evaluating on {found.name}", len(found.clips), unit="clips") as advance:
        answers = answer((str(clip.path) for clip in found.clips), loaded)
        for clip, result in zip(found.clips, answers, strict=True):
            advance(1)
            if result.error is not None:
                complain(result.error)
                continue
            labels.append(CLASSES.index(clip.gender))
            speakers.append(f"{found.name}/{clip.speaker}")
            recordings.append(content_digest(audio.read_bytes(clip.path)))
            wrong = [float(name != clip.gender) for name in CLASSES]
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

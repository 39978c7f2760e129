"""Score a model on a corpus, and find the speakers in it that the model was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agr.audio import read as audio
from agr.common.cli import complain
from agr.common.files import content_digest
from agr.common.progress import terminal_progress
from agr.data import combine, corpus, image_set, preparation
from agr.data.ages import Ages, images_within, within
from agr.data.clips import Corpus
from agr.data.copies import Heard, copies
from agr.data.left_out import summarised
from agr.errors import CorpusError
from agr.inference import bundle, predictor
from agr.inference.answers import answer
from agr.labels import CLASSES
from agr.metrics.scoring import Scores, score

Integers = NDArray[np.int64]
Probabilities = NDArray[np.float64]


@dataclass(frozen=True)
class Evaluation:
    """The scores of one model on one corpus."""

    scores: Scores  # of all clips that could be read
    skipped: int  # clips that could not be read, have no label or are copies
    seen_speakers: tuple[str, ...]  # `corpus/speaker` of those that trained or chose the model
    synthetic: bool
    corpus: str
    no_speech: int = 0  # clips answered so; they count as wrong in the scores
    abstain_below: float = 0.0  # the probability that an answer has to reach
    answered: float = 1.0  # share of clips that have speech and such an answer
    accuracy_answered: float | None = None  # of those; None if there are none
    seen_recordings: int = 0  # clips whose recordings trained or chose the model
    content_checked: bool = True  # whether the bundle lists recordings; without them only names can be compared


@dataclass(frozen=True)
class Answered:
    """The answers to n clips of one corpus."""

    labels: Integers  # (n,), indices into CLASSES
    probabilities: Probabilities  # (n, 2); 1 for the wrong class if there is no speech
    speakers: Sequence[str]  # `corpus/speaker`
    recordings: Sequence[str]  # content digests
    has_speech: NDArray[np.bool_]  # (n,)


def evaluate(
    loaded: bundle.Bundle,
    seen: bundle.Seen,
    source: str,
    workspace: Path,
    abstain_below: float = 0.0,
    ages: Ages | None = None,
    columns: Mapping[str, str] | None = None,
) -> Evaluation:
    """Score a bundle on a SOURCE or a prepared folder; generated and downloaded corpora are kept in `workspace`.

    ages: Of these speakers only, and of those whose age is unknown. columns: As in `Reading`.
    Raises: CorpusError if the source cannot be used, RecipeError if its images were made by another recipe.
    """
    path = Path(source)
    if path.is_dir() and image_set.is_prepared(path):
        return _on_images(loaded, seen, combine.join([images_within(image_set.load(path), ages)]), abstain_below)
    opened = corpus.open_corpus(source, workspace, columns=columns)
    if opened.ready_images:
        return _on_images(
            loaded, seen, preparation.ensure(source, workspace, ages=ages, columns=columns), abstain_below
        )
    found = within(opened, ages)
    for line in (*found.notes, *summarised(opened.skipped)):
        complain(line)
    answered = _on_recordings(loaded, found)
    skipped = len(found.clips) - len(answered.labels) + len(opened.skipped)  # not those that --ages asks to leave out
    return _evaluation(answered, seen, abstain_below, found.name, found.synthetic, skipped)


def score_images(loaded: bundle.Bundle, data: image_set.ImageSet, rows: Integers) -> Scores:
    """Score the images `rows` of a set. Raises: RecipeError if the model has another recipe."""
    return score(data.labels[rows], _of_images(loaded, data, rows), data.speakers[rows])


def _of_images(loaded: bundle.Bundle, data: image_set.ImageSet, rows: Integers) -> Probabilities:
    return predictor.softmax(predictor.logits_of_clips(data, rows, loaded))


def _on_images(loaded: bundle.Bundle, seen: bundle.Seen, data: image_set.ImageSet, abstain_below: float) -> Evaluation:
    probabilities = _of_images(loaded, data, np.arange(len(data)))
    has_speech = np.ones(len(data), dtype=np.bool_)
    answered = Answered(data.labels, probabilities, data.speakers.tolist(), data.recordings.tolist(), has_speech)
    return _evaluation(answered, seen, abstain_below, data.name, data.synthetic)


def _on_recordings(loaded: bundle.Bundle, found: Corpus) -> Answered:
    """Answer the clips of a corpus; those that cannot be read, and copies, are left out and told on stderr."""
    rows, heard = [], []
    with terminal_progress(f"evaluating on {found.name}", len(found.clips), unit="clips") as advance:
        answers = answer((str(clip.path) for clip in found.clips), loaded)
        for clip, result in zip(found.clips, answers, strict=True):
            advance(1)
            if result.error is not None:
                complain(result.error)
                continue
            wrong = [float(name != clip.gender) for name in CLASSES]
            given = list(result.probability.values()) if result.probability else wrong
            recording, speech = content_digest(audio.read_bytes(clip.path)), result.probability is not None
            rows.append((CLASSES.index(clip.gender), given, f"{found.name}/{clip.speaker}", recording, speech))
            heard.append(Heard(clip.name, clip.speaker, recording))
    twice = copies(heard)
    for line in summarised((heard[index].name, copy.reason) for index, copy in twice.items()):
        complain(line)
    if len(twice) == len(rows):
        what = "is no copy of one of another speaker" if rows else "could be read"
        raise CorpusError(f"{found.root}: none of {len(found.clips)} clips {what}; expected recordings")
    used = [row for index, row in enumerate(rows) if index not in twice]
    labels, probabilities, speakers, recordings, has_speech = zip(*used, strict=True)
    return Answered(np.array(labels), np.array(probabilities), speakers, recordings, np.array(has_speech))


def _evaluation(
    answered: Answered, seen: bundle.Seen, abstain_below: float, name: str, synthetic: bool, skipped: int = 0
) -> Evaluation:
    given = answered.has_speech & (answered.probabilities.max(axis=1) >= abstain_below)
    right = answered.probabilities.argmax(axis=1) == answered.labels
    return Evaluation(
        scores=score(answered.labels, answered.probabilities, np.array(answered.speakers)),
        skipped=skipped,
        seen_speakers=tuple(sorted(seen.people(answered.speakers, answered.recordings))),
        synthetic=synthetic,
        corpus=name,
        no_speech=int((~answered.has_speech).sum()),
        abstain_below=abstain_below,
        answered=float(given.mean()),
        accuracy_answered=float(right[given].mean()) if given.any() else None,
        seen_recordings=sum(recording in seen.recordings for recording in answered.recordings),
        content_checked=bool(seen.recordings),
    )

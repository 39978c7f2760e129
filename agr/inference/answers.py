"""Answers for clips, in their order: decoded in a process apart, predicted in batches."""

from __future__ import annotations

import itertools
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agr.audio.decoder import Clip, Decoder, in_process
from agr.errors import AudioError, SilentAudio

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agr.inference.bundle import Bundle

    Loaded = NDArray[np.float32] | AudioError

BATCH, BATCH_SAMPLES = 32, 2**22  # a batch ends after so many clips, or as soon as it has more samples than this
STDIN = "-"
NO_SPEECH, UNSURE = "no speech", "unsure"


@dataclass(frozen=True)
class Answer:
    """The answer to one clip."""

    path: str  # as the user typed it
    probability: dict[str, float] | None = None  # of each class; None without speech and for an unreadable clip
    error: str | None = None  # why the clip could not be read
    speech: float = 0.0  # seconds
    abstain_below: float = 0.0  # the answer is `unsure` if neither probability reaches this

    @property
    def label(self) -> str:
        """The more probable class, `no speech` or `unsure`; empty if the clip could not be read."""
        if self.error is not None:
            return ""
        if self.probability is None:
            return NO_SPEECH
        likelier = max(self.probability, key=self.probability.__getitem__)
        return likelier if self.probability[likelier] >= self.abstain_below else UNSURE

    def as_dict(self, model: dict[str, Any]) -> dict[str, Any]:
        """The object that --json prints."""
        if self.error is not None:
            return {"path": self.path, "error": self.error}
        values = {"path": self.path, "label": self.label, "probability": self.probability}
        return values | {"speech_seconds": round(self.speech, 2), "model": model}

    def as_line(self) -> str:
        """The line that is printed without --json: path, label and its probability, separated by tabs."""
        probability = f"{max(self.probability.values()):.3f}" if self.probability else "-"
        return f"{self.path}\t{self.label}\t{probability}"


def expand(arguments: Sequence[str]) -> Iterator[str | Answer]:
    """Yield each clip as it was typed, and the sound files of folders in sorted order.

    A folder without sound files and a second `-` yield an Answer with an error.
    """
    for index, argument in enumerate(arguments):
        if argument == STDIN and STDIN in arguments[:index]:
            yield Answer(argument, error=f"{argument}: given again; expected standard input, which is one clip, once")
            continue
        if argument == STDIN or not os.path.isdir(argument):  # Path.is_dir raises for a name too long
            yield argument
            continue
        from agr.audio import read as audio

        if found := audio.find(Path(argument)):
            yield from map(str, found)
        else:
            yield Answer(argument, error=f"{argument}: no sound files in it; expected WAV, FLAC, OGG or MP3")


def answer(
    clips: Iterator[str | Clip | Answer], bundle: Bundle, abstain_below: float = 0.0, decoder: Decoder | None = None
) -> Iterator[Answer]:
    """Answer clips, as of `expand`, in batches, in their order; without a decoder they are decoded in this process."""
    names, sources = itertools.tee(clips)
    load = in_process if decoder is None else decoder.load_all
    batch: list[tuple[str | Clip | Answer, Loaded]] = []
    samples = 0
    for name, y in zip(names, load(map(_source, sources), bundle.info.recipe.sample_rate), strict=True):
        batch.append((name, y))
        samples += 0 if isinstance(y, AudioError) else len(y)
        if len(batch) == BATCH or samples > BATCH_SAMPLES:
            yield from _answer_batch(batch, bundle, abstain_below)
            batch, samples = [], 0
    yield from _answer_batch(batch, bundle, abstain_below)


def _answer_batch(
    batch: Sequence[tuple[str | Clip | Answer, Loaded]], bundle: Bundle, abstain_below: float
) -> Iterator[Answer]:
    from agr.inference import predictor
    from agr.labels import CLASSES

    readable = [y for _, y in batch if not isinstance(y, AudioError)]
    found = predictor.predict(readable, bundle) if readable else None
    rows = iter(zip(found.probabilities.tolist(), found.speech.tolist(), strict=True) if found else ())
    for clip, y in batch:
        name = clip.name if isinstance(clip, Clip) else clip
        if isinstance(name, Answer):
            yield name
        elif isinstance(y, SilentAudio):
            yield Answer(name)
        elif isinstance(y, AudioError):
            yield Answer(name, error=str(y))
        else:
            row, speech = next(rows)
            probability = dict(zip(CLASSES, row, strict=True)) if speech else None
            yield Answer(name, probability, speech=speech, abstain_below=abstain_below)


def _source(clip: str | Clip | Answer) -> Clip | AudioError:
    """What to decode. Standard input, pipes and devices are read in this process, as another cannot open them."""
    if isinstance(clip, Answer):
        return AudioError(clip.error)
    if isinstance(clip, Clip):
        return clip
    try:
        if clip == STDIN or _is_special(clip):
            from agr.audio import read as audio

            if clip != STDIN:
                return Clip(clip, audio.read_bytes(Path(clip)))
            return Clip("standard input", audio.read_stream(sys.stdin.buffer, "standard input"))
    except AudioError as error:
        return error
    return Clip(clip)


def _is_special(path: str) -> bool:
    """Whether a path exists but is not a regular file that another process can open."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode) or os.path.abspath(path).startswith(("/dev/", "/proc/"))
    except (OSError, ValueError):
        return False

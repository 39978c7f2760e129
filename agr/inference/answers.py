"""Answers for clips, in their order: decoded in a process apart, predicted in batches."""

from __future__ import annotations

import itertools
import os
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from agr.audio.decoder import Found, Source, in_process
from agr.audio.recording import Recording, Stream
from agr.common.progress import Progress, silent_progress
from agr.errors import AudioError, NoChannel, NonFiniteAudio, SilentAudio
from agr.inference.timeline_files import TimedAnswer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agr.inference.bundle import Bundle

    Samples = NDArray[np.float32]

    Load = Callable[[Iterable[Source | AudioError], int], Iterator[Found]]

BATCH, BATCH_SAMPLES = 32, 2**22  # a batch ends after so many clips, or as soon as it has more samples than this
STDIN = "-"
NO_SPEECH, UNSURE, MIXED = "no speech", "unsure", "mixed"
EACH = "each"  # of the channels, one answer


class Loader(Protocol):
    """What decodes, as `agr.audio.decoder.Decoder` does."""

    def load_all(self, sources: Iterable[Source | AudioError], sample_rate: int) -> Iterator[Found]:
        """Decode in order; yields the recording, or the error that says why there is none."""


@dataclass(frozen=True)
class Answer:
    """The answer to one clip, or to one channel of it."""

    path: str  # as the user typed it
    probability: dict[str, float] | None = None  # of each class; None without speech and for an unreadable clip
    error: str | None = None  # why the clip could not be read
    speech: float = 0.0  # seconds
    abstain_below: float = 0.0  # the answer is `unsure` if neither probability reaches this
    warning: str | None = None  # what is to be known about the recording, such as that a part is missing
    channel: int | None = None  # which one was asked for, from 1
    shares: dict[str, float] | None = None  # of each class in the speech, if both speak
    timeline: TimedAnswer | None = None  # who speaks when, if that was asked for
    files: int = 1  # that could not be read, if there is an error

    @property
    def label(self) -> str:
        """The more probable class, `mixed`, `no speech` or `unsure`; empty if the clip could not be read."""
        if self.error is not None:
            return ""
        if self.probability is None:
            return NO_SPEECH
        if self.shares is not None:
            return MIXED
        likelier = max(self.probability, key=self.probability.__getitem__)
        return likelier if self.probability[likelier] >= self.abstain_below else UNSURE

    def as_dict(self, model: dict[str, Any]) -> dict[str, Any]:
        """The object that --json prints."""
        values: dict[str, Any] = {"path": self.path} | ({} if self.channel is None else {"channel": self.channel})
        if self.error is not None:
            return values | {"error": self.error}
        values |= {"label": self.label, "probability": self.probability, "speech_seconds": round(self.speech, 2)}
        if self.shares is not None:
            values |= {"shares": {label: round(share, 3) for label, share in self.shares.items()}}
        if self.timeline is not None:
            values |= {"seconds": self.timeline.spoken, "segments": self.timeline.rows}
        return values | ({} if self.warning is None else {"warning": self.warning}) | {"model": model}

    @property
    def name(self) -> str:
        """The path, and behind it the channel that was asked for, as in `interview.wav#2`."""
        return self.path if self.channel is None else f"{self.path}#{self.channel}"

    def as_line(self) -> str:
        """The line that is printed without --json: name, label and its probability, separated by tabs.

        Of `mixed` the third column has the shares of women and men in the speech.
        """
        if self.shares is not None:
            sure = ", ".join(f"{label} {share:.2f}" for label, share in self.shares.items())
        else:
            sure = f"{max(self.probability.values()):.3f}" if self.probability else "-"
        return f"{self.name}\t{self.label}\t{sure}"


def summary(counts: Counter[str]) -> str:
    """What is told at the end; counts: answers with each label, and under "" the files that could not be read."""
    answers, failed = counts.total() - counts[""], counts[""]
    special = ", ".join(f"{counts[label]} {label}" for label in (MIXED, NO_SPEECH, UNSURE))
    return f"{answers} answered, {special}, {failed} not read"


def expand(arguments: Sequence[str]) -> Iterator[str | Answer]:
    """Yield each clip as it was typed, and the sound files of folders in sorted order.

    What else a folder holds, a folder without sound files, and a second `-` yield an Answer with an error.
    """
    for index, argument in enumerate(arguments):
        if argument == STDIN and STDIN in arguments[:index]:
            yield Answer(argument, error=f"{argument}: given again; expected standard input, which is one clip, once")
        elif argument == STDIN or not os.path.isdir(argument):  # Path.is_dir raises for a name too long
            yield argument
        else:
            yield from _of_folder(argument)


def _of_folder(folder: str) -> Iterator[str | Answer]:
    from agr.audio.files import walk

    others: dict[str, list[str]] = {}
    empty = True
    for path, other in walk(Path(folder)):
        if other is None:
            empty = False
            yield str(path)
        else:
            others.setdefault(other, []).append(os.path.relpath(path, folder))
    for other, names in others.items():
        count = "1 file is" if len(names) == 1 else f"{len(names)} files are"
        yield Answer(folder, error=f"{folder}: {count} not sound ({other}): {', '.join(names)}", files=len(names))
    if empty and not others:
        yield Answer(folder, error=f"{folder}: no sound files in it; expected recordings")


def answer(
    clips: Iterator[str | Source | Answer],
    bundle: Bundle,
    abstain_below: float = 0.0,
    decoder: Loader | None = None,
    channel: int | str | None = None,
    timeline: bool = False,
    progress: Progress = silent_progress,
) -> Iterator[Answer]:
    """Answer clips of `expand` in batches, in their order; without a decoder they are decoded in this process.

    channel: which one, from 1; EACH for an answer to each; None for their mean, or the better one. timeline: whether
    the answers say who speaks when. progress: shown for recordings that are heard block by block.
    """
    load = in_process if decoder is None else decoder.load_all
    batch: list[tuple[Answer, Recording | AudioError]] = []
    samples = 0
    for blank, found in _loaded(clips, load, bundle.info.recipe.sample_rate, channel):
        blank = replace(blank, abstain_below=abstain_below)
        if isinstance(found, Stream) or (timeline and isinstance(found, Recording)):
            yield from _answer_batch(batch, bundle)
            yield _listen(blank, found, bundle, timeline, progress)
            batch, samples = [], 0
            continue
        batch.append((blank, found))
        samples += 0 if isinstance(found, AudioError) else len(found.samples)
        if len(batch) == BATCH or samples > BATCH_SAMPLES:
            yield from _answer_batch(batch, bundle)
            batch, samples = [], 0
    yield from _answer_batch(batch, bundle)


def _loaded(
    clips: Iterator[str | Source | Answer], load: Load, sample_rate: int, channel: int | str | None
) -> Iterator[tuple[Answer, Found]]:
    """Answers to be filled in, and what was decoded for them."""
    if not isinstance(channel, str):
        names, sources = itertools.tee(clips)
        wanted = (_source(name, channel) for name in sources)
        for name, found in zip(names, load(wanted, sample_rate), strict=True):
            yield name if isinstance(name, Answer) else Answer(_name(name), channel=channel), found
        return
    for name in clips:
        source = _source(name, None)
        for number in itertools.count(1):
            wanted_one = source if isinstance(source, AudioError) else replace(source, channel=number)
            (found,) = load([wanted_one], sample_rate)
            failed = isinstance(found, AudioError) and not isinstance(found, SilentAudio | NonFiniteAudio)
            if number == 1 or not isinstance(found, NoChannel):
                yield (
                    name if isinstance(name, Answer) else Answer(_name(name), channel=None if failed else number),
                    found,
                )
            if failed:
                break


def _name(clip: str | Source) -> str:
    return clip.name if isinstance(clip, Source) else clip


def _listen(blank: Answer, found: Recording | Stream, bundle: Bundle, timeline: bool, progress: Progress) -> Answer:
    """Answer one recording block by block."""
    from agr.audio.read import BLOCK_SECONDS
    from agr.inference.timeline import of_recording
    from agr.inference.turns import shares

    blocks: Iterable[Samples]
    if isinstance(found, Stream):
        blocks = found
    else:
        size = BLOCK_SECONDS * bundle.info.recipe.sample_rate
        blocks = (found.samples[at : at + size] for at in range(0, len(found.samples), size))
        if len(found.samples) < 2 * size:  # it takes no time
            progress = silent_progress
    try:
        with progress(f"listening to {blank.name}", None, unit="seconds") as meter:
            segments, heard = of_recording(blocks, bundle, lambda seconds: meter.at(int(seconds), None))
    except SilentAudio:
        return blank
    except AudioError as error:
        return replace(blank, error=str(error))
    timed = TimedAnswer(blank.path, tuple(segments), heard.total, blank.channel, heard.peaks) if timeline else None
    both = shares(list(heard.seconds.values()))
    return replace(
        blank,
        probability=heard.probability,
        speech=sum(heard.seconds.values()),
        warning=found.warning,
        shares=dict(zip(heard.seconds, both, strict=True)) if both else None,
        timeline=timed,
    )


def _answer_batch(batch: Sequence[tuple[Answer, Recording | AudioError]], bundle: Bundle) -> Iterator[Answer]:
    from agr.inference import predictor
    from agr.labels import CLASSES

    readable = [found.samples for _, found in batch if isinstance(found, Recording)]
    predicted = predictor.predict(readable, bundle) if readable else None
    rows = iter(
        zip(predicted.probabilities.tolist(), predicted.speech.tolist(), predicted.shares, strict=True)
        if predicted
        else ()
    )
    for blank, found in batch:
        if blank.error is not None or isinstance(found, SilentAudio):
            yield blank
        elif isinstance(found, AudioError):
            yield replace(blank, error=str(found))
        else:
            row, speech, both = next(rows)
            probability = dict(zip(CLASSES, row, strict=True)) if speech else None
            shares = dict(zip(CLASSES, both, strict=True)) if both and speech else None
            yield replace(blank, probability=probability, speech=speech, warning=found.warning, shares=shares)


def _source(clip: str | Source | Answer, channel: int | None) -> Source | AudioError:
    """What to decode. Standard input, pipes and devices are read in this process, as another cannot open them."""
    if isinstance(clip, Answer):
        return AudioError(clip.error)
    if isinstance(clip, Source):
        return clip if channel is None else replace(clip, channel=channel)
    try:
        if clip == STDIN or _is_special(clip):
            from agr.audio import files

            if clip != STDIN:
                return Source(clip, files.read_bytes(Path(clip)), channel)
            name = "standard input"
            return Source(name, files.read_stream(sys.stdin.buffer, name), channel)
    except AudioError as error:
        return error
    return Source(clip, channel=channel)


def _is_special(path: str) -> bool:
    """Whether a path exists but is not a regular file that another process can open."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode) or os.path.abspath(path).startswith(("/dev/", "/proc/"))
    except (OSError, ValueError):
        return False

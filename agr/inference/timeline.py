"""Who speaks when: blocks of samples in, segments out, in the same memory however long the recording is.

    timeline = Timeline(bundle)
    for block in stream:                              # mono float32 at bundle.info.recipe.sample_rate
        for segment in timeline.add(block): ...
    for segment in timeline.finish(): ...
    timeline.seconds, timeline.probability            # of the whole

Spans of speech are found first (`agr.recipes.activity`). Each span is cut into windows of a second that overlap by
half, as a clip is. Then the likeliest order of women and men is looked for (`agr.inference.turns`), where a change
costs CHANGE within a span and less after a pause.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agr.audio.read import resample
from agr.inference.bundle import Bundle
from agr.inference.predictor import logits_of_images, one_thread, softmax
from agr.inference.turns import viterbi
from agr.labels import CLASSES
from agr.recipes import periodicity, voice_features
from agr.recipes.activity import speech_spans
from agr.recipes.base import FRAMES
from agr.recipes.speech import FRAME_SECONDS
from agr.recipes.voice import VOICE

Floats = NDArray[np.float64]

PEAK_SECONDS = 0.1  # for pictures
STEP = 10  # frames that one decision is made for: 0.1 s
SHORTEST = 10  # frames that a recipe can draw
CONTEXT = 100  # frames before and after the spans that are final, from block to block
CARRIED = 200  # frames of a span that is left to the next block as a whole, at most
HELD_SECONDS = 3  # that CONTEXT and CARRIED make
LONGEST_SECONDS = 12.0  # of a span that is looked at in one go
AT_ONCE = 8  # windows that the model is shown: more take memory, and no less time
CHANGE = 3.0  # log odds that a change of speaker costs
PAUSE_SECONDS = 1.0  # the pause after which it costs 1/e of that


@dataclass(frozen=True)
class Segment:
    """Speech of one gender, from `start` to `end` seconds."""

    start: float
    end: float
    label: str  # one of CLASSES
    probability: float  # of the label

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.end - self.start


class Chunk(NamedTuple):
    """Some seconds of a recording."""

    frame: int  # the first one, of 10 ms
    y: NDArray[np.float32]  # (n,), at the recipe's rate
    features: NDArray[np.uint8]  # (ROWS, frames), with `yin_periodicity`


class Piece(NamedTuple):
    """Speech whose speaker is not known yet."""

    start: float  # seconds
    frames: int  # of 10 ms
    y: NDArray[np.float32]  # (n,), at the recipe's rate


@dataclass(frozen=True)
class Span:
    """One span of speech: where it is and what the model says of each step in it."""

    start: float  # seconds
    odds: Floats  # (steps,), log odds of a woman for each STEP frames
    lengths: Floats  # (steps,), seconds of each


class Timeline:
    """The segments of one recording, as its samples come."""

    def __init__(self, bundle: Bundle) -> None:
        """bundle: the model that answers."""
        self._bundle = bundle
        self._rate = bundle.info.recipe.sample_rate
        self._thread = ThreadPoolExecutor(1)  # runs `_hear`, which alone uses the next two
        self._held = np.zeros(0, dtype=np.float32)  # the last HELD_SECONDS
        self._offset = 0  # of the first of them, in samples
        self._heard: Future[Chunk] | None = None  # the last block
        self._final = 0  # frames before this one are answered
        self._logits = np.zeros(2)  # summed over windows
        self._windows = 0
        self._last: Segment | None = None  # may go on
        self.seconds = dict.fromkeys(CLASSES, 0.0)  # of speech
        self.total = 0.0  # seconds heard
        self.peaks: list[float] = []  # the loudest sample of each PEAK_SECONDS

    @property
    def probability(self) -> dict[str, float] | None:
        """Of each class, over all windows with speech; None if there are none."""
        if not self._windows:
            return None
        (row,) = softmax(self._logits[None] / self._windows)
        return dict(zip(CLASSES, row.tolist(), strict=True))

    def add(self, block: NDArray[np.float32]) -> Iterator[Segment]:
        """Take the next samples, (n,), whole PEAK_SECONDS but for the last; yields the segments that are final.

        Another thread takes this block's voice features while the model answers the block before it.
        """
        edges = np.arange(0, len(block), max(round(PEAK_SECONDS * self._rate), 1))
        self.peaks += np.maximum.reduceat(np.abs(block), edges).tolist()
        self.total += len(block) / self._rate
        before, self._heard = self._heard, self._thread.submit(self._hear, block)
        yield from self._answer(before)

    def finish(self) -> Iterator[Segment]:
        """Yield the segments that are left."""
        nothing = np.zeros(0, dtype=np.float32)
        yield from self._answer(self._heard)
        yield from self._answer(self._thread.submit(self._hear, nothing), final=True)
        self._thread.shutdown()
        if self._last is not None:
            yield self._last
            self._last = None

    def _hear(self, block: NDArray[np.float32]) -> Chunk:
        """Take the voice features of a block and of the HELD_SECONDS before it; called in order, by one thread."""
        y = np.concatenate([self._held, block])
        hop = round(self._rate * FRAME_SECONDS)
        held = max(len(y) - HELD_SECONDS * self._rate, 0) // hop * hop
        start, self._offset, self._held = self._offset, self._offset + held, y[held:]
        low = resample(y, self._rate, VOICE.sample_rate)
        return Chunk(start // hop, y, voice_features.extract(low, VOICE, periodicity.yin_periodicity))

    def _answer(self, coming: Future[Chunk] | None, final: bool = False) -> Iterator[Segment]:
        """The segments that end in what was heard."""
        if coming is not None:
            for segment in decode(self._measure(self._find(coming.result(), final))):
                yield from self._join(segment)

    def _find(self, heard: Chunk, final: bool) -> list[Piece]:
        """The speech that ends in what was heard and is not answered yet. Frames are counted from its beginning."""
        hop = round(self._rate * FRAME_SECONDS)
        first, end = max(self._final - heard.frame, 0), len(heard.y) // hop
        if end - first < SHORTEST:
            return []
        spans = [(max(start, first), min(stop, end)) for start, stop in speech_spans(heard.features) if stop > first]
        if not final:
            end -= CONTEXT
            started = [start for start, stop in spans if start < end < stop]
            if started and end - started[0] < CARRIED:
                end = started[0]
            spans = [(start, min(stop, end)) for start, stop in spans if start < end]
        self._final = heard.frame + max(end, first)
        return [
            Piece((heard.frame + a) * FRAME_SECONDS, b - a, heard.y[a * hop : b * hop])
            for span in spans
            for a, b in _pieces(span)
        ]

    def _measure(self, pieces: Sequence[Piece]) -> list[Span]:
        """What the model says of speech."""
        if not pieces:
            return []
        drawn = [images for images, _ in self._bundle.info.recipe.windows([piece.y for piece in pieces])]
        images = np.concatenate(drawn)
        parts = [images[at : at + AT_ONCE] for at in range(0, len(images), AT_ONCE)]
        logits = np.concatenate([logits_of_images(part, self._bundle) for part in parts])
        self._logits += logits.sum(axis=0)
        self._windows += len(logits)
        each = np.split(logits[:, 0] - logits[:, 1], np.cumsum([len(images) for images in drawn])[:-1])
        known = zip(pieces, each, strict=True)
        return [Span(piece.start, *_by_step(odds, piece.frames)) for piece, odds in known]

    def _join(self, segment: Segment) -> Iterator[Segment]:
        """Count a segment, and yield the one before it unless this one goes on where that ends."""
        self.seconds[segment.label] += segment.seconds
        last = self._last
        if last is not None and last.label == segment.label and segment.start - last.end < FRAME_SECONDS / 2:
            sure = last.probability * last.seconds + segment.probability * segment.seconds
            segment = Segment(last.start, segment.end, segment.label, sure / (segment.end - last.start))
        elif last is not None:
            yield last
        self._last = segment


def of_recording(
    blocks: Iterable[NDArray[np.float32]], bundle: Bundle, tell: Callable[[float], None] = lambda seconds: None
) -> tuple[list[Segment], Timeline]:
    """All segments of a recording, and its timeline for the sums; `tell` gets the seconds heard after each block."""
    timeline = Timeline(bundle)
    segments: list[Segment] = []
    with one_thread():
        for block in blocks:
            segments += timeline.add(block)
            tell(timeline.total)
        return [*segments, *timeline.finish()], timeline


def decode(spans: Sequence[Span]) -> Iterator[Segment]:
    """The likeliest segments of spans in their order."""
    if not spans:
        return
    odds, lengths = (np.concatenate([getattr(span, name) for span in spans]) for name in ("odds", "lengths"))
    costs = [_costs(span, before) for span, before in zip(spans, [None, *spans[:-1]], strict=True)]
    path = viterbi(odds * lengths, np.concatenate(costs))
    at = 0
    for span in spans:
        own = slice(at, at + len(span.odds))
        at = own.stop
        yield from _segments(span, path[own])


def _costs(span: Span, before: Span | None) -> Floats:
    costs = np.full(len(span.odds), CHANGE)
    if before is not None:
        pause = max(span.start - before.start - float(before.lengths.sum()), 0.0)
        costs[0] *= np.exp(-pause / PAUSE_SECONDS)
    return costs


def _segments(span: Span, path: NDArray[np.int8]) -> Iterator[Segment]:
    """Runs of equal steps in one span."""
    edges = [0, *(np.flatnonzero(np.diff(path)) + 1).tolist(), len(path)]
    times = span.start + np.concatenate([[0.0], np.cumsum(span.lengths)])
    for first, last in itertools.pairwise(edges):
        mean = float(np.average(span.odds[first:last], weights=span.lengths[first:last]))
        woman = float(1 / (1 + np.exp(-mean)))
        label = CLASSES[path[first]]
        yield Segment(float(times[first]), float(times[last]), label, woman if path[first] == 0 else 1 - woman)


def _pieces(span: tuple[int, int]) -> list[tuple[int, int]]:
    """A span, cut into equal parts of at most LONGEST_SECONDS."""
    count = int(np.ceil((span[1] - span[0]) * FRAME_SECONDS / LONGEST_SECONDS))
    edges = np.linspace(*span, count + 1).round().astype(int).tolist()
    return list(itertools.pairwise(edges))


def _by_step(odds: Floats, frames: int) -> tuple[Floats, Floats]:
    """Log odds of windows to those of steps of a span of so many frames, and the seconds of each step.

    A step takes the mean of the windows that hold it, by how near their middle is.
    """
    starts = np.minimum(np.arange(len(odds)) * (FRAMES // 2), max(frames - FRAMES, 0))
    edges = np.append(np.arange(0, frames, STEP), frames)
    middles = (edges[1:] + edges[:-1]) / 2
    near = np.maximum(FRAMES / 2 - np.abs(middles[:, None] - (starts + min(frames, FRAMES) / 2)), 1e-3)
    return near @ odds / near.sum(axis=1), np.diff(edges) * FRAME_SECONDS

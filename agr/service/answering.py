"""From recordings to answers: decoded in processes apart, answered together with others that wait.

A clip of up to SHORT_SECONDS waits for the model with those of other requests, and all that wait are answered as one
batch: by `Joined`, or on Ray Serve by `serve.batch`, which is called in the same way. Longer recordings, and pictures,
have threads of their own, so that nobody waits behind an hour of sound.
"""

from __future__ import annotations

import asyncio
import queue
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from agr.audio.decoder import Decoder, Found, Source
from agr.audio.recording import Recording, Stream
from agr.common.worker import WorkerDied
from agr.errors import AudioError, LongAudio, UnreadableAudio
from agr.inference.answers import Answer, answer
from agr.service import metrics
from agr.service.live import LiveModel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")
Item = TypeVar("Item")
Result = TypeVar("Result")
Together = Callable[[list[Item]], Awaitable[list[Result]]]

SHORT_SECONDS = 30.0
LONG_THREADS = 2
MOST_TOGETHER = 16  # clips of one batch, and of all requests that are decoded or waiting at once, which bounds memory


@dataclass(frozen=True)
class Decoded:
    """Stands in for a decoder where everything is decoded already."""

    found: tuple[Found, ...]

    def load_all(self, sources: Iterable[Source | AudioError], sample_rate: int) -> Iterator[Found]:
        """What was found, for as many sources."""
        yield from (found for _, found in zip(sources, self.found, strict=True))


@dataclass(frozen=True, eq=False)
class Clip:
    """A decoded clip that waits for the model."""

    name: str
    found: Recording | AudioError
    model: LiveModel
    timeline: bool


Join = Callable[[Together[Clip, Answer]], Callable[[Clip], Awaitable[Answer]]]


class Joined(Generic[Item, Result]):
    """Called with one item; awaits the result of the batch that it became part of."""

    def __init__(self, together: Together[Item, Result]) -> None:
        """together: makes a batch's results, in order; what it raises goes to every caller of the batch."""
        self._together = together
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._work: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Result:
        """The result of one item."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._work is None:
            self._work = asyncio.create_task(self._work_off())
        return await future

    async def _work_off(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_TOGETHER))]
            batch = [each for each in batch if not each[1].done()]  # a caller that was cancelled
            (results,) = await asyncio.gather(self._together([item for item, _ in batch]), return_exceptions=True)
            for at, (_, future) in enumerate(batch):
                if future.done():
                    continue
                if isinstance(results, BaseException):
                    future.set_exception(results)
                else:
                    future.set_result(results[at])
        self._work = None


class Answering:
    """Decoders and threads of one process. It is to be closed."""

    def __init__(self, decoders: int, max_seconds: int, join: Join = Joined) -> None:
        """Start the decoders. max_seconds: of sound in one recording; join: makes batches of clips that wait."""
        self._max_seconds = max_seconds
        self._decoders: queue.SimpleQueue[Decoder] = queue.SimpleQueue()
        self._made = [Decoder() for _ in range(decoders)]
        for decoder in self._made:
            self._decoders.put(decoder)
        self._decoding = ThreadPoolExecutor(decoders, "decoding")
        self._predicting = ThreadPoolExecutor(1, "predicting")
        self._long = ThreadPoolExecutor(LONG_THREADS, "long")
        self._slots = asyncio.Semaphore(MOST_TOGETHER)
        self._ask = join(self._together)

    def close(self) -> None:
        """End the processes; what is not answered yet never is."""
        for decoder in self._made:
            decoder.close()
        for threads in (self._decoding, self._predicting, self._long):
            threads.shutdown(wait=False, cancel_futures=True)

    async def answer(
        self, source: Source, model: LiveModel, timeline: bool = False, explain: bool = False
    ) -> tuple[Answer, bytes | None]:
        """The answer to a sound file's bytes; with `explain` also the picture of what led to it, a PNG."""
        async with self._slots:
            found = await self._decode(source, model)
            found = self._checked(source.name, found)
            result = await self.answer_to(source, found, model, timeline)
            if not explain or result.probability is None or not isinstance(found, Recording):
                return result, None
            return result, await _in(self._long, partial(picture, found.samples, model, source.name))

    async def answer_to(self, source: Source, found: Found, model: LiveModel, timeline: bool = False) -> Answer:
        """The answer to what was decoded of a source."""
        if isinstance(found, Stream):
            return await _in(self._long, partial(self._listen, source, model, timeline))
        if isinstance(found, Recording) and len(found.samples) > SHORT_SECONDS * found.sample_rate:
            (result,) = await _in(self._long, partial(_answers, (source.name,), (found,), model, timeline))
            return result
        with metrics.WAITING.track_inprogress():
            return await self._ask(Clip(source.name, found, model, timeline))

    async def _decode(self, source: Source, model: LiveModel) -> Found:
        def decoded() -> Found:
            decoder = self._decoders.get()
            try:
                (found,) = decoder.load_all([source], model.bundle.info.recipe.sample_rate)
                return found
            finally:
                self._decoders.put(decoder)

        return await _in(self._decoding, decoded)

    def _checked(self, name: str, found: Found) -> Found:
        """The same, or the error that says that it is too long."""
        if isinstance(found, Recording) and len(found.samples) > self._max_seconds * found.sample_rate:
            return self._too_long(name)
        return found

    def _too_long(self, name: str) -> LongAudio:
        return LongAudio(f"{name}: over {self._max_seconds} s; expected at most {self._max_seconds} s")

    def _listen(self, source: Source, model: LiveModel, timeline: bool, again: bool = True) -> Answer:
        """Answer a recording that comes in blocks, with a decoder of its own; once more if something else killed it."""
        rate, killed = model.bundle.info.recipe.sample_rate, False
        with Decoder() as decoder:
            stream = decoder.stream(source, rate)

            def blocks(made: Stream) -> Iterator[NDArray[np.float32]]:
                nonlocal killed
                heard = 0
                try:
                    for block in stream:
                        heard += len(block)
                        if heard > self._max_seconds * rate:
                            raise self._too_long(source.name)
                        made.channels = stream.channels
                        yield block
                except UnreadableAudio as error:
                    killed = isinstance(error.__cause__, WorkerDied) and error.__cause__.killed
                    raise
                made.warning = stream.warning

            (result,) = _answers((source.name,), (Stream(rate, blocks),), model, timeline)
        return self._listen(source, model, timeline, again=False) if killed and again else result

    async def _together(self, clips: list[Clip]) -> list[Answer]:
        """The answers to clips, in their order; those of one model, with or without timelines, in one batch."""
        made: dict[int, Answer] = {}
        for model, timeline in dict.fromkeys((each.model, each.timeline) for each in clips):
            batch = [at for at, each in enumerate(clips) if (each.model, each.timeline) == (model, timeline)]
            metrics.BATCH.observe(len(batch))
            names, found = zip(*((clips[at].name, clips[at].found) for at in batch), strict=True)
            answers = await _in(self._predicting, partial(_answers, names, found, model, timeline))
            made.update(zip(batch, answers, strict=True))
        return [made[at] for at in range(len(clips))]


async def _in(threads: ThreadPoolExecutor, function: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(threads, function)


def _answers(names: Iterable[str], found: tuple[Found, ...], model: LiveModel, timeline: bool) -> list[Answer]:
    sources = (Source(name, b"") for name in names)
    return list(answer(sources, model.bundle, decoder=Decoded(found), timeline=timeline))


def picture(samples: NDArray[np.float32], model: LiveModel, name: str) -> bytes:
    """What led to the answer, as a PNG; samples: (n,), float32, at the recipe's rate."""
    from agr.inference.attribution import attribute
    from agr.inference.section import section
    from agr.plots import explanation, panels

    return panels.png(explanation.draw(attribute(section(samples, model.bundle.info.recipe, name), model.bundle)))


def unsure(result: Answer, abstain_below: float) -> Answer:
    """The answer, `unsure` if neither probability reaches a bound."""
    return replace(result, abstain_below=abstain_below)

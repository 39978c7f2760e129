"""What the routes share: the limits, the model that answers, and the count of requests in the house."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from agr.audio.decoder import Source
from agr.inference.answers import Answer
from agr.service import metrics
from agr.service.answering import Answering, unsure
from agr.service.live import Follower, LiveModel
from agr.service.problems import Refused
from agr.service.settings import Settings

CROWDED = 4  # requests: with more in the house, clients are sent to the door again


@dataclass(eq=False)
class Service:
    """One process of the service."""

    settings: Settings
    follower: Follower
    answering: Answering
    in_house: int = field(default=0)  # requests
    streams: int = field(default=0)

    @contextmanager
    def admitted(self) -> Iterator[LiveModel]:
        """A place in the house, and the model that answers. Raises: Refused, with 429 or 503."""
        model = self.follower.model()
        if self.in_house >= self.settings.queue:
            detail = f"{self.in_house} requests are read, wait or are answered; expected fewer than that"
            raise Refused(429, detail, {"Retry-After": "1"})
        self.in_house += 1
        metrics.IN_HOUSE.inc()
        try:
            yield model
        finally:
            self.in_house -= 1
            metrics.IN_HOUSE.dec()

    def headers(self, model: LiveModel) -> dict[str, str]:
        """The headers of an answer: what gave it, as `agr/3`; a crowded process asks clients to come in anew.

        Workers share a port, and a client that keeps its connection stays with the worker that it came to first.
        """
        name = f"{model.name}/{model.version}" if model.name else model.digest[:12]
        return {"AGR-Model": name} | ({"Connection": "close"} if self.in_house > CROWDED else {})

    @contextmanager
    def listening(self) -> Iterator[None]:
        """A place for a stream. Raises: Refused, with 429."""
        if self.streams >= self.settings.streams:
            raise Refused(429, f"{self.streams} streams are heard; expected fewer than that")
        self.streams += 1
        metrics.STREAMS.inc()
        try:
            yield
        finally:
            self.streams -= 1
            metrics.STREAMS.dec()

    async def answers(
        self,
        sources: Sequence[Source],
        model: LiveModel,
        abstain_below: float = 0.0,
        timeline: bool = False,
        explain: bool = False,
    ) -> list[tuple[Answer, bytes | None]]:
        """An answer to each sound file, and the picture if one is wanted and there is an answer to explain."""
        each = (self.answering.answer(source, model, timeline, explain) for source in sources)
        found = [(unsure(answer, abstain_below), picture) for answer, picture in await asyncio.gather(*each)]
        for answer, _ in found:
            metrics.ANSWERS.labels(answer.label or "error").inc()
        return found


def of(request: Any) -> Service:
    """The service that a request or a stream came to."""
    found: Service = request.app.state.service
    return found

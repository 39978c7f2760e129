"""`WS /v1/stream`: sound as it is spoken in, a running answer twice a second out.

The running answer is to the last RUNNING_SECONDS. After the text frame `end` the last one is to all that was said, as a
file with the same sound would be answered. A stream keeps the version that it began with.
"""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from agr.audio.decoder import Source
from agr.audio.read import MAX_RATE, MIN_RATE, MIN_SECONDS
from agr.audio.recording import Recording
from agr.errors import AudioError
from agr.service import problems
from agr.service.live import LiveModel
from agr.service.problems import Refused
from agr.service.service import Service, of
from agr.service.stream_process import Decoding

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

router = APIRouter()
RUNNING_SECONDS = 10.0
EVERY_SECONDS = 0.5
SILENT_SECONDS = 20.0  # that a client may send nothing
END = "end"  # the client's text frame
PROTOCOL = "agr"  # the subprotocol that is accepted if a client offers it, beside `bearer.TOKEN`
TRY_AGAIN, POLICY, NORMAL = 1013, 1008, 1000  # RFC 6455's codes for a stream that is closed


class Pcm:
    """Little-endian mono samples of 16 bits, resampled as they come."""

    def __init__(self, rate: int, sample_rate: int) -> None:
        """rate: of what comes; sample_rate: of the samples that are given back; both in Hz."""
        import soxr

        self._resampler = soxr.ResampleStream(rate, sample_rate, 1, dtype="float32", quality="HQ")
        self._odd = b""  # half a sample

    def add(self, piece: bytes) -> Samples:
        """The samples of a piece, (n,), float32; after an empty one what is left."""
        whole = self._odd + piece
        size = len(whole) // 2 * 2
        self._odd = whole[size:]
        y = np.frombuffer(whole[:size], dtype="<i2").astype(np.float32) / np.float32(2**15)
        return np.asarray(self._resampler.resample_chunk(y, last=not piece), dtype=np.float32)

    def close(self) -> None:
        """Nothing to end."""


class Heard:
    """One stream: what was said so far, and the answers to it."""

    def __init__(self, socket: WebSocket, service: Service, model: LiveModel, sound: Pcm | Decoding) -> None:
        """sound: makes samples of what the client sends."""
        self._socket, self._service, self._model, self._sound = socket, service, model, sound
        self._rate = model.bundle.info.recipe.sample_rate
        self._samples = np.zeros(service.settings.stream_seconds * self._rate, dtype=np.float32)
        self._count = 0

    async def take(self) -> None:
        """Take what the client sends until it says `end` or there is no room. Raises: WebSocketDisconnect."""
        while self._count < len(self._samples):
            async with asyncio.timeout(SILENT_SECONDS):
                message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message["code"])
            if message.get("text") == END:
                break
            if message.get("bytes"):
                await self._add(message["bytes"])
        await self._add(b"")

    async def _add(self, piece: bytes) -> None:
        y = await asyncio.to_thread(self._sound.add, piece)
        y = y[: len(self._samples) - self._count]
        self._samples[self._count : self._count + len(y)] = y
        self._count += len(y)

    async def tell(self) -> None:
        """Send running answers until this task is cancelled."""
        told = 0
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            if self._count > max(told, MIN_SECONDS * self._rate):
                told = self._count
                await self.answer(max(told - round(RUNNING_SECONDS * self._rate), 0), told)

    async def answer(self, first: int, end: int, **more: Any) -> None:
        """Answer what was said between two samples. Raises: AudioError if that is too little."""
        if end - first < MIN_SECONDS * self._rate:
            raise AudioError(f"{end / self._rate:.3f} s; expected at least {MIN_SECONDS} s")
        recording = Recording(self._samples[first:end].copy(), self._rate)
        answering = self._service.answering
        values = (await answering.answer_to(Source("-", b""), recording, self._model)).as_dict(self._model.identity)
        values.pop("path")
        await self._socket.send_json(values | {"seconds": round(end / self._rate, 2)} | more)

    async def end(self) -> None:
        """The last answer, to everything."""
        full = self._count == len(self._samples)
        more = {"warning": f"only the first {self._service.settings.stream_seconds} s were heard"} if full else {}
        await self.answer(0, self._count, final=True, **more)


@router.websocket("/v1/stream")
async def stream(socket: WebSocket, format: Literal["pcm16", "opus"] = "pcm16", rate: int = 48_000) -> None:
    """Answer sound while it is spoken; what goes wrong is told as problem details before the stream is closed."""
    offered = socket.scope.get("subprotocols", ())
    await socket.accept(PROTOCOL if PROTOCOL in offered else None)
    service = of(socket)
    try:
        model = service.follower.model()
        if not MIN_RATE <= rate <= MAX_RATE:
            raise Refused(422, f"rate: {rate}; expected {MIN_RATE} to {MAX_RATE}")
        with service.listening():
            await _hear(socket, service, model, format, rate)
        await socket.close(NORMAL)
    except WebSocketDisconnect:
        return
    except Refused as refusal:
        await _refuse(socket, refusal.status_code, str(refusal.detail))
    except AudioError as error:
        await _refuse(socket, 422, str(error))
    except TimeoutError:
        await _refuse(socket, 408, f"nothing in {SILENT_SECONDS:g} s; expected sound, or `{END}`")


async def _hear(socket: WebSocket, service: Service, model: LiveModel, format: str, rate: int) -> None:
    sample_rate = model.bundle.info.recipe.sample_rate
    with closing(Pcm(rate, sample_rate) if format == "pcm16" else Decoding(sample_rate)) as sound:
        heard = Heard(socket, service, model, sound)
        telling = asyncio.create_task(heard.tell())
        try:
            await heard.take()
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
        await heard.end()


async def _refuse(socket: WebSocket, status: int, detail: str) -> None:
    await socket.send_json(problems.body(status, detail))
    await socket.close(TRY_AGAIN if status in (429, 503) else POLICY)

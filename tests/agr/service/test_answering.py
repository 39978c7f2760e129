"""Clips of several requests go through the model together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from prometheus_client import REGISTRY

from agr.audio import decoder
from agr.inference import predictor
from agr.service.answering import MOST_TOGETHER, Joined
from tests.agr.service.conftest import Start, eventually

KILLED = """
import os, signal
from pathlib import Path
from agr.audio import decoder_process, read
stream, read.MAX_SECONDS = read.stream, 0.1
def planted(*given):
    made = stream(*given)
    def dying():
        yield from made
        for at in range(2):
            try:
                (Path("{folder}") / f"killed-{{at}}").touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
            except FileExistsError:
                pass
    return read.Stream(made.sample_rate, lambda _: dying())
read.stream = planted
decoder_process.serve()
"""  # a decoder to which all is long, and two of which are killed before the end


def test_requests_that_wait_are_answered_in_one_forward_pass(
    client: TestClient, voices: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    predict, before = predictor.predict, REGISTRY.get_sample_value("agr_clips_waiting") or 0.0

    def slow(clips: Sequence[NDArray[np.float32]], *given: Any) -> Any:
        passes.append(len(clips))
        if len(passes) == 1:  # until the others wait
            assert eventually(lambda: REGISTRY.get_sample_value("agr_clips_waiting") == before + 6)
        return predict(clips, *given)

    def asked(path: Path) -> float:
        (found,) = client.post("/v1/predict", content=path.read_bytes()).json()["answers"]
        return float(found["probability"]["female"])

    alone = list(map(asked, voices[:6]))
    monkeypatch.setattr(predictor, "predict", slow)
    with ThreadPoolExecutor(6) as clients:
        together = list(clients.map(asked, voices[:6]))
    assert passes[0] < 6 and len(passes) == 2 and sum(passes) == 6
    assert together == pytest.approx(alone, abs=1e-6)


def test_a_clip_whose_decoder_is_killed_is_answered_all_the_same(client: TestClient, voices: list[Path]) -> None:
    body = voices[0].read_bytes()
    service = client.app.state.service  # type: ignore[attr-defined]
    whole = client.post("/v1/predict", content=body).json()
    held = [each for each in psutil.Process().children() if "decoder_process" in " ".join(each.cmdline())]
    for each in held:
        each.suspend()
    with ThreadPoolExecutor(1) as asker:
        sent = asker.submit(client.post, "/v1/predict", content=body)
        assert eventually(lambda: service.in_house == 1)
        time.sleep(0.3)  # until the decoder has been asked
        for each in held:
            each.kill()
        assert sent.result().json() == whole


def test_a_long_recording_whose_decoder_is_killed_midway_is_heard_again(
    start: Start, voices: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = voices[0].read_bytes()
    monkeypatch.setattr(decoder, "PROGRAM", KILLED.format(folder=tmp_path))
    client = start()
    found = client.post("/v1/predict", content=body).json()
    assert len(list(tmp_path.glob("killed-*"))) == 2  # the one that found it long, and the one that read it on
    assert found == client.post("/v1/predict", content=body).json() and found["answers"][0]["label"]


def test_what_comes_while_a_batch_is_worked_on_is_the_next_one() -> None:
    batches: list[list[int]] = []

    async def doubled(items: list[int]) -> list[int]:
        batches.append(items)
        await asyncio.sleep(0.01)
        return [2 * item for item in items]

    async def asked() -> list[int]:
        joined = Joined(doubled)
        first = asyncio.create_task(joined(0))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return await asyncio.gather(first, *map(joined, range(1, MOST_TOGETHER + 3)))

    assert asyncio.run(asked()) == [2 * item for item in range(MOST_TOGETHER + 3)]
    assert list(map(len, batches)) == [1, MOST_TOGETHER, 2]


def test_a_failure_reaches_its_batch_and_a_caller_that_left_nobody() -> None:
    async def reciprocals(items: list[int]) -> list[float]:
        await asyncio.sleep(0.01)
        return [1 / item for item in items]

    async def asked() -> None:
        joined = Joined(reciprocals)
        left = asyncio.create_task(joined(0))
        await asyncio.sleep(0)
        left.cancel()
        assert await joined(4) == 0.25
        found = await asyncio.gather(joined(0), joined(2), return_exceptions=True)
        assert list(map(type, found)) == [ZeroDivisionError] * 2
        assert await joined(2) == 0.5

    asyncio.run(asked())
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(Joined(cancelled)(1))


async def cancelled(items: list[int]) -> list[int]:
    raise asyncio.CancelledError

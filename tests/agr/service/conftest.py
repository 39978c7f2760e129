"""A service in this process, with a model of its own store."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import av
import pytest
from fastapi.testclient import TestClient

from agr.audio import read as audio
from agr.service.app import create
from agr.service.settings import Settings

Start = Callable[..., TestClient]


def eventually(holds: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Whether something holds within so many seconds."""
    deadline = time.monotonic() + seconds
    while not (held := holds()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return held


def opus(path: Path, container: str) -> bytes:
    """A recording as a browser would send it, in WebM or Ogg."""
    y, rate = audio.decode(path)
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream("libopus", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(audio.resample(y, rate, 48_000)[None], format="flt", layout="mono")
        frame.sample_rate = 48_000
        for packet in (*stream.encode(frame), *stream.encode(None)):
            out.mux(packet)
    return file.getvalue()


@pytest.fixture
def start(bundle_folder: Path) -> Iterator[Start]:
    """Starts services; each is ready, and ends with the test."""
    with ExitStack() as stack:

        def started(ready: bool = True, **settings: Any) -> TestClient:
            values: dict[str, Any] = {
                "model_uri": str(bundle_folder),
                "allowed_hosts": ("testserver",),
                "concurrency": 1,
            } | settings
            client = stack.enter_context(TestClient(create(Settings(**values)), raise_server_exceptions=False))
            assert not ready or eventually(lambda: client.get("/ready").status_code == 200)
            return client

        yield started


@pytest.fixture
def client(start: Start) -> TestClient:
    """A service with the model of `bundle_folder`."""
    return start()

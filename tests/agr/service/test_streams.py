"""Sound is answered while it is spoken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from agr.audio import read as audio
from tests.agr.service.conftest import Start, opus

SAMPLES = 4_000  # in a frame


def last(client: TestClient, query: str, data: bytes) -> dict[str, Any]:
    """The last message for a recording that is sent in pieces."""
    with client.websocket_connect(f"/v1/stream?{query}") as socket:
        for at in range(0, len(data), SAMPLES):
            socket.send_bytes(data[at : at + SAMPLES])
        socket.send_text("end")
        while not (found := socket.receive_json()).get("final"):
            assert "status" not in found, found
    return dict(found)


def test_the_last_answer_is_that_to_the_same_file(client: TestClient, voices: list[Path]) -> None:
    y, rate = soundfile.read(voices[0], dtype="int16")
    found = last(client, f"rate={rate}", y.tobytes())
    (whole,) = client.post("/v1/predict", content=voices[0].read_bytes()).json()["answers"]
    assert found["probability"] == pytest.approx(whole["probability"], abs=1e-3)
    assert (found["label"], found["speech_seconds"]) == (whole["label"], whole["speech_seconds"])
    assert found["seconds"] == pytest.approx(len(y) / rate, abs=0.01)
    assert found["model"]["uri"]


@pytest.mark.parametrize("container", ["webm", "ogg"])
def test_opus_is_decoded_as_it_comes(client: TestClient, voices: list[Path], container: str) -> None:
    def sureness(voice: Path) -> float:
        (answer,) = client.post("/v1/predict", content=voice.read_bytes()).json()["answers"]
        return float(max(answer["probability"].values()))

    surest = max(voices[:8], key=sureness)  # of others the rounding of a processor may decide
    data = opus(surest, container)
    found = last(client, "format=opus", data)
    y, rate = audio.decode(surest)
    assert found["seconds"] == pytest.approx(len(y) / rate, abs=0.1)
    (whole,) = client.post("/v1/predict", content=data).json()["answers"]
    assert found["probability"] == pytest.approx(whole["probability"], abs=0.2)
    assert found["label"] == whole["label"]
    assert found["speech_seconds"] == pytest.approx(whole["speech_seconds"], abs=0.05)


def test_running_answers_come_before_the_last(client: TestClient, voices: list[Path]) -> None:
    y, rate = soundfile.read(voices[0], dtype="int16")
    with client.websocket_connect(f"/v1/stream?rate={rate}") as socket:
        socket.send_bytes(y.tobytes())
        running = socket.receive_json()
        assert running["label"] and "final" not in running


def test_a_stream_over_the_limit_is_answered_for_what_was_heard(start: Start) -> None:
    client = start(stream_seconds=1)
    noise = (1000 * np.random.default_rng(0).standard_normal(16_000)).astype("<i2").tobytes()
    with client.websocket_connect("/v1/stream?rate=8000") as socket:
        socket.send_bytes(noise)
        found = socket.receive_json()
    assert (found["seconds"], found["warning"]) == (1.0, "only the first 1 s were heard")


@pytest.mark.parametrize(
    ("query", "data", "detail"),
    [
        ("rate=7", b"", "rate: 7; expected 4000 to 192000"),
        ("rate=8000", b"ab", "0.000 s; expected at least 0.1 s"),
        ("format=opus", b"x" * 100, "the stream: text; expected Opus in WebM, Ogg or MP4"),
        (
            "format=opus",
            b"\x1a\x45\xdf\xa3" + bytes(100),
            "the stream: InvalidDataError; expected Opus in WebM, Ogg or MP4",
        ),
    ],
)
def test_a_bad_stream_is_told_what_is_wrong(client: TestClient, query: str, data: bytes, detail: str) -> None:
    with client.websocket_connect(f"/v1/stream?{query}") as socket:
        socket.send_bytes(data)
        socket.send_text("end")
        found = socket.receive_json()
        with pytest.raises(WebSocketDisconnect) as caught:
            socket.receive_json()
    assert (found["status"], found["detail"], caught.value.code) == (422, detail, 1008)


def test_more_streams_than_allowed_are_sent_away(start: Start) -> None:
    client = start(streams=1)
    with client.websocket_connect("/v1/stream"), client.websocket_connect("/v1/stream") as second:
        assert second.receive_json()["status"] == 429


def test_a_page_of_another_site_may_not_open_a_stream(client: TestClient) -> None:
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect("/v1/stream", headers={"Origin": "https://evil.example"}),
    ):
        pass

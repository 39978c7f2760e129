"""Spoiled requests get a clean answer: schemathesis on the OpenAPI document, and bodies that were tampered with."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient

from agr.service.app import create
from agr.service.settings import Settings
from tests.agr.service.conftest import eventually

BODIES = 300
CLEAN = {200, 400, 408, 413, 422}
HEAD = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'


def spoiled(whole: bytes, draw: random.Random) -> bytes:
    """The same bytes with one fault: cut, changed, doubled or shuffled."""
    at, size = draw.randrange(len(whole)), draw.randrange(1, 64)
    return draw.choice(
        (
            whole[:at],
            whole[at:],
            whole[:at] + draw.randbytes(size) + whole[at + size :],
            whole[:at] + whole[at : at + size] * 3 + whole[at + size :],
            whole[:at] + whole[at + size :],
            draw.randbytes(size) + whole,
        )
    )


def requests(clip: bytes) -> Iterator[tuple[str, bytes, str]]:
    """Path, body and content type of requests that are almost right."""
    draw = random.Random(0)
    form = HEAD + clip + b"\r\n--x--\r\n"
    for number in range(BODIES):
        kind = ("multipart/form-data; boundary=x", "audio/wav", "application/json")[number % 3]
        path = ("/v1/predict", "/v1/predict?timeline=true", "/invocations")[number % 3]
        whole = (form, clip, b'{"dataframe_split": {"columns": ["audio"], "data": [["UklGRg=="], ["UklGRg=="]]}}')[
            number % 3
        ]
        yield path, spoiled(whole, draw), kind


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a part that was cut, in memory only
def test_spoiled_bodies_get_clean_answers(client: TestClient, voices: list[Path]) -> None:
    for path, body, kind in requests(voices[0].read_bytes()):
        sent = client.post(path, content=body, headers={"Content-Type": kind})
        assert sent.status_code in CLEAN, (path, kind, sent.text)
        if sent.status_code != 200:
            assert sent.json()["status"] == sent.status_code


@pytest.fixture
def address(bundle_folder: Path) -> Iterator[str]:
    """A service behind uvicorn, in a thread."""
    app = create(Settings(model_uri=str(bundle_folder), concurrency=1))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert eventually(lambda: server.started)
        (listening,) = server.servers[0].sockets
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(60)


def test_what_the_document_allows_is_answered_without_an_error_of_the_service(address: str) -> None:
    import schemathesis  # here, as only one process of the tests needs it, and importing it takes seconds
    from hypothesis import HealthCheck, given, settings
    from schemathesis.core.result import Ok

    document = schemathesis.openapi.from_url(f"{address}/openapi.json")
    operations = [found.ok() for found in document.get_all_operations() if isinstance(found, Ok)]
    assert {operation.path for operation in operations} >= {"/v1/predict", "/v1/explain", "/invocations"}

    def holds(case: schemathesis.Case[Any]) -> None:
        response = case.call()
        assert response.status_code < 500, case.as_curl_command()
        if response.status_code >= 400:
            assert response.json()["status"] == response.status_code

    options = settings(
        max_examples=20, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    for operation in operations:
        options(given(operation.as_strategy())(holds))()

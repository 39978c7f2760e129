"""Who may ask, and what every answer carries."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from agr.service.guard import POLICY
from agr.service.settings import TOKEN
from tests.agr.service.conftest import Start


@pytest.fixture
def closed(start: Start, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    monkeypatch.setenv(TOKEN, "a secret")
    return start()


@pytest.mark.parametrize("path", ["/", "/health", "/v1/model", "/nowhere"])
def test_every_answer_has_the_policy(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["content-security-policy"] == POLICY
    assert headers["x-content-type-options"] == "nosniff"


def test_a_host_that_is_not_allowed_is_refused_except_for_probes(client: TestClient) -> None:
    assert client.get("/v1/model", headers={"Host": "evil.example"}).status_code == 421
    assert client.get("/ready", headers={"Host": "10.0.0.7:8000"}).status_code == 200
    assert client.get("/v1/model", headers={"Host": "testserver:8000"}).status_code == 200


def test_the_token_is_demanded_where_something_is_answered(closed: TestClient) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic a secret"}):
        for path in ("/v1/model", "/metrics", "/invocations"):
            sent = closed.get(path, headers=headers)
            assert (sent.status_code, sent.headers["www-authenticate"]) == (401, "Bearer")
    assert closed.get("/v1/model", headers={"Authorization": "Bearer a secret"}).status_code == 200
    assert closed.get("/health").status_code == 200


def test_more_requests_than_the_house_holds_are_sent_away(start: Start) -> None:
    client = start(queue=1)
    service = client.app.state.service  # type: ignore[attr-defined]
    with service.admitted():
        sent = client.post("/v1/predict", content=b"x")
        assert (sent.status_code, sent.headers["retry-after"]) == (429, "1")
    assert client.post("/v1/predict", content=b"x").status_code == 200


def test_an_error_of_the_service_is_a_problem_that_tells_nothing(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("private.wav")

    service = client.app.state.service  # type: ignore[attr-defined]
    monkeypatch.setattr(service.answering, "answer", broken)
    sent = client.post("/v1/predict", content=b"x")
    assert (sent.status_code, sent.headers["content-type"]) == (500, "application/problem+json")
    logged = capfd.readouterr().err
    assert "RuntimeError" in logged and "private.wav" not in logged + sent.text

"""The command: it answers on a port, and SIGTERM ends it after what it has accepted."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock, patch

import httpx
import pytest

from agr import serve
from agr.common.places import SHIPPED
from agr.errors import ModelError, SettingsError
from agr.inference import bundle
from agr.training.model import build


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_model_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no store at"):
        serve.main(["--tracking-uri", f"sqlite:///{tmp_path / 'mlflow.db'}"])


def test_without_a_store_the_champion_that_comes_with_agr_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Mock()
    monkeypatch.setattr("uvicorn.run", run)
    with patch.dict("os.environ", AGR_STORE=str(tmp_path), AGR_CHAMPION=str(SHIPPED)):
        assert serve.main([]) == 0
    run.assert_called_once()


@pytest.mark.parametrize(("own", "expected"), [({}, "5"), ({"MLFLOW_HTTP_REQUEST_TIMEOUT": "60"}, "60")])
def test_a_look_at_a_server_that_hangs_ends_soon(
    own: dict[str, str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str] = []
    monkeypatch.setattr("uvicorn.run", lambda *_, **__: found.append(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]))
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT", raising=False)
    with patch.dict("os.environ", {"AGR_STORE": str(tmp_path), "AGR_CHAMPION": str(SHIPPED)} | own):
        assert serve.main([]) == 0
    assert found == [expected]


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(SettingsError, match="queue 0: expected a number above 0"):
        serve.main(["--queue", "0"])


def start(folder: Path, port: int, *words: str) -> subprocess.Popen[str]:
    """A service with a model's folder."""
    words = ("--model-uri", str(folder), "--port", str(port), "--concurrency", "1", *words)
    return subprocess.Popen([sys.executable, "-m", "agr.serve", *words], stderr=subprocess.PIPE, text=True)


def wait_until_ready(process: subprocess.Popen[str], port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/ready", timeout=60).status_code == 200:
                return
        except httpx.TransportError:
            assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.skipif(os.name != "posix", reason="SIGTERM needs POSIX")
def test_what_is_accepted_is_answered_before_sigterm_ends_it(bundle_folder: Path, voices: list[Path]) -> None:
    port = free_port()
    process = start(bundle_folder, port, "--workers", "2")
    answered: list[int] = []

    def slowly() -> object:
        data = voices[0].read_bytes()
        yield data[:100]
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        yield data[100:]

    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            wait_until_ready(process, port)
            sender = threading.Thread(
                target=lambda: answered.append(client.post("/v1/predict", content=slowly()).status_code)  # type: ignore[arg-type]
            )
            sender.start()
            sender.join(60)
        assert process.wait(30) == 0
    finally:
        process.kill()
        _, errors = process.communicate()
    assert answered == [200]
    assert "Traceback" not in errors


class Balancer:
    """Sends each request to the next of some services; to another one if nobody listens there, as proxies do."""

    def __init__(self, *ports: int) -> None:
        """ports: of the services, which may be changed at any time."""
        self.ports = ports
        self._turns = itertools.count()

    def post(self, content: bytes) -> httpx.Response:
        """The answer; a service that took the connection has to give it."""
        while True:
            ports = self.ports
            try:
                url = f"http://127.0.0.1:{ports[next(self._turns) % len(ports)]}/v1/predict"
                return httpx.post(url, content=content, timeout=60)
            except httpx.ConnectError:
                continue


@pytest.mark.skipif(os.name != "posix", reason="SIGTERM needs POSIX")
def test_a_new_version_takes_over_without_a_lost_request(
    bundle_folder: Path, voices: list[Path], tmp_path: Path
) -> None:
    info, seen = bundle.read_info(bundle_folder), bundle.read_seen(bundle_folder)
    bundle.save(tmp_path / "new", build("cnn", seed=5).state_dict(), info, seen)
    ports = free_port(), free_port()
    services = [start(folder, port) for folder, port in zip((bundle_folder, tmp_path / "new"), ports, strict=True)]
    for service, port in zip(services, ports, strict=True):
        wait_until_ready(service, port)
    balancer, ended, data = Balancer(ports[0]), threading.Event(), voices[0].read_bytes()

    def ask(_: int) -> list[tuple[int, str]]:
        """Requests one after the other: each one's status and the digest of the model that answered."""
        found = []
        while not ended.is_set():
            sent = balancer.post(data)
            found.append((sent.status_code, sent.json()["model"]["digest"]))
        return found

    try:
        with ThreadPoolExecutor(4) as clients:
            asked = [clients.submit(ask, number) for number in range(4)]
            time.sleep(1)
            balancer.ports = ports
            time.sleep(1)
            balancer.ports = ports[1:]
            services[0].send_signal(signal.SIGTERM)  # while it answers what it was sent before
            assert services[0].wait(30) == 0
            time.sleep(1)
            ended.set()
            found = [each.result() for each in asked]
    finally:
        ended.set()
        for service in services:
            service.kill()
            service.communicate()
    old, new = info.weights_sha256, bundle.read_info(tmp_path / "new").weights_sha256
    assert {status for each in found for status, _ in each} == {200}
    assert all((each[0][1], each[-1][1]) == (old, new) for each in found)

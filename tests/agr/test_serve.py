"""The command: it answers on a port, and SIGTERM ends it after what it has accepted."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from agr import serve
from agr.errors import ModelError, SettingsError


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_model_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no store at"):
        serve.main(["--tracking-uri", f"sqlite:///{tmp_path / 'mlflow.db'}"])


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(SettingsError, match="queue 0: expected a number above 0"):
        serve.main(["--queue", "0"])


@pytest.mark.skipif(os.name != "posix", reason="SIGTERM needs POSIX")
def test_what_is_accepted_is_answered_before_sigterm_ends_it(bundle_folder: Path, voices: list[Path]) -> None:
    port = free_port()
    words = ["--model-uri", str(bundle_folder), "--port", str(port), "--concurrency", "1", "--workers", "2"]
    process = subprocess.Popen([sys.executable, "-m", "agr.serve", *words], stderr=subprocess.PIPE, text=True)
    answered: list[int] = []

    def slowly() -> object:
        data = voices[0].read_bytes()
        yield data[:100]
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        yield data[100:]

    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            deadline = time.monotonic() + 60
            while True:
                try:
                    if client.get("/ready").status_code == 200:
                        break
                except httpx.TransportError:
                    assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.2)
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

"""The application of `agr serve` on Ray Serve."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import ray
from ray import serve as ray_serve

from agr.errors import SettingsError
from agr.service.settings import Settings
from search import serve


@pytest.mark.parametrize(("text", "bounds"), [("1:8", (1, 8)), ("3", (3, 3))])
def test_the_number_of_replicas_has_two_bounds(text: str, bounds: tuple[int, int]) -> None:
    assert serve.replicas(text) == bounds


@pytest.mark.parametrize("text", ["", "0:1", "3:2", "a:b"])
def test_other_numbers_of_replicas_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected the fewest"):
        serve.replicas(text)


def test_an_unknown_argument_of_kuberay_is_refused() -> None:
    with pytest.raises(SettingsError, match="args: modle; expected replicas"):
        serve.application({"modle": "x"})


@pytest.fixture
def address(bundle_folder: Path) -> Iterator[str]:
    """A service with one replica on a Ray of its own."""
    ray.init(address="local", num_cpus=2, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    try:
        ray_serve.start(http_options={"host": "127.0.0.1", "port": 8339})
        settings = Settings(model_uri=str(bundle_folder), concurrency=1)
        ray_serve.run(serve.deployed(settings, (1, 1), 8.0, {}), name=serve.NAME)
        yield "http://127.0.0.1:8339"
    finally:
        ray_serve.shutdown()
        ray.shutdown()


def test_a_replica_answers_as_soon_as_it_is_up(address: str, voices: list[Path]) -> None:
    sent = httpx.post(f"{address}/v1/predict", files={"file": ("a.wav", voices[0].read_bytes())}, timeout=60)
    (found,) = sent.json()["answers"]
    assert found["path"] == "a.wav" and found["label"]
    assert httpx.get(f"{address}/ready", timeout=60).status_code == 200


def test_clips_of_requests_that_wait_are_answered_as_one_batch(address: str, voices: list[Path]) -> None:
    def asked(path: Path) -> str:
        sent = httpx.post(f"{address}/v1/predict", content=path.read_bytes(), timeout=60)
        return str(sent.json()["answers"][0]["label"])

    with ThreadPoolExecutor(16) as clients:
        assert all(clients.map(asked, voices[:64]))
    lines = httpx.get(f"{address}/metrics", timeout=60).text.splitlines()
    counted = {line.split()[0]: float(line.split()[1]) for line in lines if line.startswith("agr_batch_clips_")}
    assert counted["agr_batch_clips_sum"] == 64
    assert counted["agr_batch_clips_count"] < 48

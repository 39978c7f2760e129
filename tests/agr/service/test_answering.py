"""Clips of several requests go through the model together."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from prometheus_client import REGISTRY

from agr.inference import predictor
from tests.agr.service.conftest import eventually


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

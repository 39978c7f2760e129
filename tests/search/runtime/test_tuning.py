"""How a search's points are handed to Ray Tune."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import tune

from search.runtime import tuning
from search.runtime.cluster import Allocation
from search.session import display


def test_tune_knows_the_number_of_workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told: dict[str, Any] = {}

    def tuner(_trainable: object, **named: Any) -> SimpleNamespace:
        told.update(named)
        return SimpleNamespace(fit=lambda: None)

    monkeypatch.setattr(tune, "Tuner", tuner)
    session = SimpleNamespace(id="search-1", name="a search")
    allocation = Allocation("cpu", {"CPU": 1.0}, workers=3)
    job = SimpleNamespace(finals_uri=str(tmp_path))
    monkeypatch.setattr(display, "shown", lambda *_: nullcontext())
    searcher = SimpleNamespace(exhausted=True)
    tuning.tune_points(session, searcher, job, allocation, "5 trials on", None, 5)  # type: ignore[arg-type]
    assert told["tune_config"].max_concurrent_trials == 3
    assert told["tune_config"].num_samples == 5
    assert told["run_config"].name == "search-1"

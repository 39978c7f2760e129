"""How a search's points are handed to Ray Tune."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import tune

from search import tuning
from search.cluster import Slots


def test_tune_is_told_of_all_workers_or_it_would_start_them_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told: dict[str, Any] = {}

    def tuner(_trainable: object, **named: Any) -> SimpleNamespace:
        told.update(named)
        return SimpleNamespace(fit=lambda: None)

    monkeypatch.setattr(tune, "Tuner", tuner)
    session = SimpleNamespace(id="search-1")
    slots = Slots("cpu", {"CPU": 1.0}, workers=3)
    job = SimpleNamespace(finals=str(tmp_path))
    tuning.tune_points(session, object(), 5, job, slots, tmp_path)  # type: ignore[arg-type]
    assert told["tune_config"].max_concurrent_trials == 3
    assert told["tune_config"].num_samples == 5
    assert told["run_config"].name == "search-1"

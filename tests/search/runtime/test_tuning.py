"""How a search's points are handed to Ray Tune."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import tune
from ray.tune.error import TuneError

from agr.errors import AgrError
from search.runtime import tuning
from search.runtime.cluster import Allocation
from search.session import display


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What Tune's `Tuner` is told; its `fit` is one that ends at once."""
    told: dict[str, Any] = {"fit": lambda: None}

    def tuner(_trainable: object, **named: Any) -> SimpleNamespace:
        told.update(named)
        return SimpleNamespace(fit=told["fit"])

    monkeypatch.setattr(tune, "Tuner", tuner)
    monkeypatch.setattr(display, "shown", lambda *_: nullcontext())
    return told


def train(folder: Path) -> None:
    session = SimpleNamespace(id="search-1", name="a search")
    allocation = Allocation("cpu", {"CPU": 1.0}, workers=3)
    job, searcher = SimpleNamespace(finals_uri=str(folder)), SimpleNamespace(exhausted=True)
    tuning.tune_points(session, searcher, job, allocation, "5 trials on", None, 5)  # type: ignore[arg-type]


@pytest.mark.parametrize(("cause", "error"), [("[Errno 28] No space left on device", AgrError), ("bug", TuneError)])
def test_a_full_disk_is_one_line_and_a_mistake_of_ours_is_none(
    told: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: str, error: type[Exception]
) -> None:
    def fit() -> None:
        raise TuneError(f"Traceback (most recent call last):\n  File ...\nOSError: {cause}\n")

    told["fit"] = fit
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=4096 if path == str(tmp_path) else 1e9))
    with pytest.raises(error, match=cause.replace("[", r"\[")) as raised:
        train(tmp_path)
    line = f"{tmp_path}: OSError: {cause}; the same command goes on"
    assert error is TuneError or str(raised.value) == line


def test_tune_knows_the_number_of_workers(told: dict[str, Any], tmp_path: Path) -> None:
    train(tmp_path)
    assert told["tune_config"].max_concurrent_trials == 3
    assert told["tune_config"].num_samples == 5
    assert told["run_config"].name == "search-1"

"""Searches that run at the same time on one store: the database is never locked, no run is lost, `best` is whole."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from mlflow import MlflowClient

from agr.inference import bundle
from agr.registry import resolve
from agr.registry.uri import DIGEST_TAG

SCRIPT = Path(__file__).resolve().parents[2] / "search" / "run_grid.py"
RATES = ("0.01", "0.001")


def test_two_searches_of_one_name_that_make_one_new_store(prepared_root: Path, tmp_path: Path) -> None:
    known = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "RAY", "TUNE"))}
    fixed = ["--data", str(prepared_root), "--epochs", "1", "2", "--gamma", "0.5", "--num-workers", "1"]
    started = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), *fixed, "--lr", rate, "--name", "mine"],
            cwd=tmp_path,
            env=known,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rate in RATES
    ]
    ended = [process.communicate(timeout=240) for process in started]
    for process, (out, err) in zip(started, ended, strict=True):
        assert process.returncode == 0, err
        assert "registered  agr version" in out
        assert "database is locked" not in out + err
        assert "Traceback" not in err
    uri = f"sqlite:///{tmp_path}/mlflow_store/mlflow.db"
    client = MlflowClient(uri, uri)
    runs = client.search_runs([client.get_experiment_by_name("agr").experiment_id])
    trials = Counter("mlflow.parentRunId" in run.data.tags for run in runs)
    assert trials == {False: 2, True: 4}
    assert {run.info.status for run in runs} == {"FINISHED"}
    by_id = {run.info.run_id: run for run in runs}
    parents = {run.info.run_id: run for run in runs if "mlflow.parentRunId" not in run.data.tags}
    assert {run.info.run_name for run in parents.values()} == {"mine"}
    assert sorted(run.data.params["lr"] for run in parents.values()) == sorted(RATES)
    for run in (by_id[key] for key in by_id.keys() - parents.keys()):
        assert run.data.params["lr"] == parents[run.data.tags["mlflow.parentRunId"]].data.params["lr"]
    for run in parents.values():
        champion = by_id[run.data.tags["champion_run_id"]]
        assert champion.data.tags["mlflow.parentRunId"] == run.info.run_id
    assert [model.name for model in client.search_registered_models()] == ["agr"]
    versions = {int(each.version): each for each in client.search_model_versions("name = 'agr'")}
    assert versions.keys() == {1, 2}
    aliases = client.get_registered_model("agr").aliases
    best = versions[int(aliases["best"])]
    scores = [float(each.tags["test_balanced_accuracy"]) for each in versions.values()]
    assert float(best.tags["test_balanced_accuracy"]) == max(scores)
    found = resolve.resolve("models:/agr/best", uri)
    assert found.sha256 == best.tags[DIGEST_TAG]
    assert bundle.load(found.folder).info.test["balanced_accuracy"] == pytest.approx(max(scores), abs=1e-6)

"""The notebook runs from its first cell to its last, on a small corpus and a model of its own."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import nbformat
import pytest

from agr.inference import bundle

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "voices.ipynb"

pytestmark = pytest.mark.services


def notebook() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]


def shown(cell: Any, kind: str) -> list[str]:
    """What a cell shows of one kind, such as `text/plain`."""
    return [output.data[kind] for output in cell.outputs if kind in output.get("data", {})]


def test_outputs_are_not_in_version_control() -> None:
    cells = [cell for cell in notebook().cells if cell.cell_type == "code"]
    assert [(cell.outputs, cell.execution_count) for cell in cells] == [([], None)] * len(cells)


def test_every_cell_runs(
    store: str, bundle_folder: Path, demo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(demo_root, tmp_path / "demo-voices-0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("AGR_DATA", str(tmp_path))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(NOTEBOOK.parents[1]), os.environ.get("PYTHONPATH", "")]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Jupyter's packages, while they are imported and their sockets close
        from nbclient import NotebookClient

        done = NotebookClient(notebook(), timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    answer, explanation, score = (
        next(cell for cell in done.cells if cell.cell_type == "code" and cell.source.endswith(end))
        for end in ("\nanswer", "explain()", "len(result.seen_speakers)")
    )
    assert "s of speech)" in shown(answer, "text/plain")[0]
    assert shown(explanation, "image/png")[0].startswith("iVBOR")
    assert shown(score, "text/plain")[0].endswith(f", {len(bundle.read_seen(bundle_folder).speakers)})")

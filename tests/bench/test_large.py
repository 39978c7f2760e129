"""The folder of very many clips that `bench/large.py` searches."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from agr.data import image_set, shards, splits
from agr.data.image_set import ImageSet

FOLDER = Path(__file__).resolve().parents[2] / "bench"


def test_clips_are_repeated_over_many_shards(
    monkeypatch: pytest.MonkeyPatch, prepared_root: Path, images: ImageSet, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(shards, "SIZE", 64)
    large = importlib.import_module("large")
    data = image_set.load(large.enlarge(prepared_root, 1000, tmp_path / "large"))
    assert len(data) == len(set(data.recordings.tolist())) == 1000
    assert len(image_set.shards_of(data)) > 5
    np.testing.assert_array_equal(np.array(data.pixels), np.array(images.pixels)[np.arange(1000) % 80])
    assert len(splits.make(data).train) == 600
    sys.modules.pop("large")

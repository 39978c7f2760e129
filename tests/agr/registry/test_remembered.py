"""What a service keeps of the version that answered last; test_live.py of the service starts without the store."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from agr.common.files import tree_digest
from agr.registry.remembered import recall, remember
from agr.registry.uri import BUNDLE, ModelLocation

URI = "models:/agr/best"


@pytest.fixture
def found(bundle_folder: Path, tmp_path: Path) -> ModelLocation:
    shutil.copytree(bundle_folder, tmp_path / "model" / BUNDLE)
    return ModelLocation(tmp_path / "model", "agr", 3, tree_digest(tmp_path / "model" / BUNDLE))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AGR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_each_store_has_its_own(found: ModelLocation) -> None:
    remember(URI, "http://one", found)
    kept = recall(URI, "http://one")
    assert kept is not None
    assert (kept.name, kept.version, kept.sha256) == (found.name, found.version, found.sha256)
    assert recall(URI, "http://another") is None


def test_a_cache_that_cannot_be_written_costs_one_line(
    found: ModelLocation, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cache.write_text("a file")
    remember(URI, None, found)
    assert capfd.readouterr().err.count("a start while the store is away will find no model\n") == 1
    assert recall(URI, None) is None


def test_without_a_home_nothing_is_kept(found: ModelLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AGR_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    remember(URI, None, found)
    assert recall(URI, None) is None

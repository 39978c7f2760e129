"""What a service keeps of the version that answered last; test_live.py of the service starts without the store."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
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


def test_workers_that_see_versions_at_once_leave_one_whole_copy(
    found: ModelLocation, cache: Path, tmp_path: Path
) -> None:
    locations = [found]
    for version in range(4, 7):
        folder = tmp_path / str(version)
        shutil.copytree(found.folder, folder)
        (folder / BUNDLE / "padding").write_bytes(bytes([version]) * 2**22)
        locations.append(ModelLocation(folder, "agr", version, tree_digest(folder / BUNDLE)))
    for _ in range(5):
        with ThreadPoolExecutor(len(locations)) as workers:
            list(workers.map(lambda location: remember(URI, None, location), locations))
        kept = recall(URI, None)
        assert kept is not None
        assert kept.version in range(3, 7)
        assert [path for path in kept.folder.parent.iterdir() if path.is_dir()] == [kept.folder]


def test_a_copy_that_was_never_finished_is_cleared_away(found: ModelLocation, cache: Path) -> None:
    remember(URI, None, found)
    (last,) = cache.rglob("last.json")
    (last.parent / "half").mkdir()
    remember(URI, None, found)
    assert [path.name for path in last.parent.iterdir() if path.is_dir()] == [found.sha256]


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

"""The champion that comes with AGR in a new store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from agr.errors import ModelError
from agr.inference import bundle, model_card
from agr.registry.records import Version
from search.results.shipped import adopt


class Registry:
    """What `adopt` asks of a tracker."""

    def __init__(self, best: Version | None = None, model: str = "agr") -> None:
        self.model, self.best = model, best
        self.registered: list[tuple[str, Path, Mapping[str, object]]] = []

    def version_by_alias(self, alias: str) -> Version | None:
        assert alias == "best"
        return self.best

    def register(self, run_id: str, folder: Path, tags: Mapping[str, object], description: str) -> int:
        self.registered.append((run_id, folder, tags))
        return 1

    def move_alias(self, alias: str, expected: int | None, version: int) -> bool:
        assert (alias, expected) == ("best", None)
        self.best = Version(version, self.registered[-1][1])
        return True


@pytest.fixture
def shipped(bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = shutil.copytree(bundle_folder, tmp_path / "shipped")
    info = json.loads((folder / bundle.INFO).read_text(encoding="utf-8"))
    info["data"]["synthetic"] = False
    (folder / bundle.INFO).write_text(json.dumps(info), encoding="utf-8")
    (folder / model_card.FILE).write_text("# A card\n", encoding="utf-8")
    monkeypatch.setenv("AGR_CHAMPION", str(folder))
    return folder


def test_it_is_the_best_of_a_new_store(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    registry = Registry()
    assert adopt(registry, "a run") == 1  # type: ignore[arg-type]
    assert registry.best == Version(1, shipped)
    ((run, folder, tags),) = registry.registered
    assert (run, folder, tags["synthetic"]) == ("a run", shipped, "false")
    assert "it is best until beaten" in capsys.readouterr().err


def test_a_store_with_a_best_version_is_left_alone(shipped: Path) -> None:
    registry = Registry(Version(3, shipped))
    assert adopt(registry, "a run") is None  # type: ignore[arg-type]
    assert not registry.registered


def test_models_of_a_trainable_have_no_champion(shipped: Path) -> None:
    registry = Registry(model="agr-digits")
    assert adopt(registry, "a run") is None  # type: ignore[arg-type]
    assert not registry.registered


def test_without_a_champion_nothing_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGR_CHAMPION", "none")
    assert adopt(Registry(), "a run") is None  # type: ignore[arg-type]


def test_a_damaged_champion_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "agr.json").write_text("{}", encoding="utf-8")
    monkeypatch.setenv("AGR_CHAMPION", str(tmp_path))
    with pytest.raises(ModelError, match=r"agr\.json"):
        adopt(Registry(), "a run")  # type: ignore[arg-type]

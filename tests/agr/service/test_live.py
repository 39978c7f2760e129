"""`best` moves, and the service follows."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from unittest.mock import Mock

import pytest

from agr.errors import ModelError
from agr.inference import bundle
from agr.registry import tracker as registry_tracker
from agr.registry.resolve import resolve
from agr.registry.uri import BEST
from agr.service.live import Follower
from agr.service.problems import Refused
from agr.training.model import build
from tests.stores import new_store


@pytest.fixture(scope="module")
def made_store(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a store with versions 1 and 2, of which 1 is `best`; copy it, do not write to it."""
    folder = tmp_path_factory.mktemp("made")
    tracker = registry_tracker.Tracker(new_store(folder / "store"))
    other = folder / "other"
    bundle.save(
        other, build("cnn", seed=5).state_dict(), bundle.read_info(bundle_folder), bundle.read_seen(bundle_folder)
    )
    for model in (bundle_folder, other):
        tracker.register(tracker.start_run("made", {}, {}), model, {})
    tracker.set_alias(BEST, 1)
    return folder / "store"


@pytest.fixture
def own_store(made_store: Path, tmp_path: Path) -> str:
    """A store that the test may change: versions 1 and 2, `best` is 1."""
    shutil.copytree(made_store, tmp_path / "store")
    return f"sqlite:///{tmp_path / 'store' / 'mlflow.db'}"


def test_the_version_that_best_names_answers(own_store: str) -> None:
    follower = Follower("models:/agr/best", own_store, 1.0)
    follower.look()
    first = follower.model()
    registry_tracker.Tracker(own_store).set_alias(BEST, 2)
    assert follower.model() is first
    follower.look()
    assert (first.version, follower.model().version) == (1, 2)
    assert first.digest != follower.model().digest


def test_a_version_whose_files_were_changed_is_refused(own_store: str, capfd: pytest.CaptureFixture[str]) -> None:
    follower = Follower("models:/agr/best", own_store, 1.0)
    follower.look()
    info = bundle.locate(resolve("models:/agr/2", own_store).folder) / bundle.INFO
    info.write_text(json.dumps(json.loads(info.read_text()) | {"temperature": 2.0}))
    registry_tracker.Tracker(own_store).set_alias(BEST, 2)
    follower.look()
    follower.look()
    assert follower.model().version == 1
    assert capfd.readouterr().err.count("its files were changed") == 1


def test_a_store_that_is_away_changes_nothing(own_store: str) -> None:
    follower = Follower("models:/agr/best", own_store, 1.0)
    follower.look()
    database = own_store.removeprefix("sqlite:///")
    os.rename(database, f"{database}.away")
    follower.look()
    assert follower.model().version == 1
    os.rename(f"{database}.away", database)
    registry_tracker.Tracker(own_store).set_alias(BEST, 2)
    follower.look()
    assert follower.model().version == 2


@pytest.mark.parametrize("trouble", [ModelError("no answer"), OSError("no answer"), ValueError("half an answer")])
def test_a_store_that_goes_away_while_a_version_is_fetched_is_asked_at_the_next_look(
    own_store: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], trouble: Exception
) -> None:
    follower = Follower("models:/agr/best", own_store, 1.0)
    follower.look()
    registry_tracker.Tracker(own_store).set_alias(BEST, 2)
    with monkeypatch.context() as away:
        away.setattr("agr.registry.resolve.resolve", Mock(side_effect=trouble))
        follower.look()
    assert follower.model().version == 1
    follower.look()
    assert follower.model().version == 2
    assert capfd.readouterr().err.count("the version before it goes on answering") == 1


def test_a_version_that_cannot_be_loaded_is_not_fetched_at_each_look(
    own_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = Follower("models:/agr/best", own_store, 1.0)
    follower.look()
    fetched = Mock(wraps=resolve)
    monkeypatch.setattr("agr.registry.resolve.resolve", fetched)
    monkeypatch.setattr("agr.inference.bundle.load", Mock(side_effect=ModelError("weights of another shape")))
    registry_tracker.Tracker(own_store).set_alias(BEST, 2)
    follower.look()
    follower.look()
    assert follower.model().version == 1
    assert fetched.call_count == 1


def test_a_start_without_the_store_answers_with_the_version_seen_last(
    own_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGR_CACHE", str(tmp_path / "cache"))
    before = Follower("models:/agr/best", own_store, 1.0)
    before.look()
    registry_tracker.Tracker(own_store).set_alias(BEST, 2)
    before.look()
    (tmp_path / "store").rename(tmp_path / "away")
    restarted = Follower("models:/agr/best", own_store, 1.0)
    restarted.look()
    assert restarted.model().identity == before.model().identity
    assert restarted.model().version == 2
    assert len(list((tmp_path / "cache" / "models").glob("*/*/"))) == 1  # version 1 is not kept
    (tmp_path / "away").rename(tmp_path / "store")
    registry_tracker.Tracker(own_store).set_alias(BEST, 1)
    restarted.look()
    assert restarted.model().version == 1


def test_a_remembered_version_that_was_changed_does_not_answer(
    own_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGR_CACHE", str(tmp_path / "cache"))
    Follower("models:/agr/best", own_store, 1.0).look()
    (info,) = (tmp_path / "cache").glob(f"models/*/*/**/{bundle.INFO}")
    info.write_text(json.dumps(json.loads(info.read_text()) | {"temperature": 2.0}))
    (tmp_path / "store").rename(tmp_path / "away")
    restarted = Follower("models:/agr/best", own_store, 1.0)
    restarted.look()
    with pytest.raises(Refused):
        restarted.model()


def test_without_a_store_the_trouble_is_told(tmp_path: Path) -> None:
    follower = Follower("models:/agr/best", f"sqlite:///{tmp_path / 'none.db'}", 1.0)
    follower.look()
    with pytest.raises(Refused, match="no store at") as caught:
        follower.model()
    assert caught.value.status_code == 503

"""`search.report`: the commands that a search says to type next."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agr.training import Settings
from search.champion import Ending
from search.report import _next_commands, _others
from search.session import Record
from search.task import VOICES

NOTHING = Ending([], None, None, "", "")
BEST = Ending([], None, 3, "best", "")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlflow_store").mkdir()
    return f"sqlite:///{tmp_path / 'mlflow_store' / 'mlflow.db'}"


def test_in_the_repository_its_own_env_file_says_where_the_runs_are(store: str) -> None:
    Path("mlflow_store/env").touch()
    assert _next_commands(store, NOTHING) == ["mlflow --env-file mlflow_store/env ui"]


def test_in_a_folder_without_that_file_the_store_is_named(store: str) -> None:
    assert _next_commands(store, NOTHING) == [f"mlflow ui --backend-store-uri {store}"]


def test_a_server_is_opened_and_shows_no_password(store: str) -> None:
    shown, *_ = _next_commands("http://ann:secret@127.0.0.1:1", NOTHING)
    assert shown.startswith("open http://") and "secret" not in shown


def test_a_registered_version_is_asked_by_its_alias_unless_it_is_a_trainable_of_ones_own(store: str) -> None:
    assert _next_commands(store, BEST)[1:] == ["python -m agr.predict --model-uri models:/agr/best clip.wav"]
    assert _next_commands(store, Ending([], None, 3, "best", "", model="digits"))[1:] == []


def test_of_the_champion_is_said_what_else_differs_between_the_trials() -> None:
    axes = replace(VOICES, axes=("epochs", "lr"))
    settings = Settings(9, 0.01, 0.3, batch_size=64, dropout=0.25), Settings(9, 0.02, 0.3, batch_size=16, seed=1)
    ranking = [Record(each, str(number), axes) for number, each in enumerate(settings)]
    assert _others(ranking) == "batch_size 64, dropout 0.25"
    assert _others(ranking[:1]) == ""

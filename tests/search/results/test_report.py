"""`search.results.report`: the commands that a search says to type next."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from agr.registry.uri import StoreUri
from agr.training.settings import Settings
from search.outbox.outbox import Outbox
from search.results.champion import Ending
from search.results.report import _others, next_commands, say
from search.session.session import Record, Session
from search.tasks.agr_task import VOICES
from tests.search.parts import FakeTracker, epoch, report

NOTHING = Ending([], None, None, "", "")
BEST = Ending([], None, 3, "best", "")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoreUri:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlflow_store").mkdir()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return StoreUri(f"sqlite:///{tmp_path / 'mlflow_store' / 'mlflow.db'}")


def test_in_the_repository_its_own_env_file_says_where_the_runs_are(store: StoreUri) -> None:
    Path("mlflow_store/env").touch()
    assert next_commands(store, NOTHING) == ["mlflow --env-file mlflow_store/env ui"]


def test_in_a_folder_without_that_file_the_store_is_named(store: StoreUri) -> None:
    assert next_commands(store, NOTHING) == [f"mlflow ui --backend-store-uri {store.whole}"]


def test_a_server_is_opened_and_shows_no_password(store: StoreUri) -> None:
    shown, *_ = next_commands(StoreUri("http://ann:secret@127.0.0.1:1"), NOTHING)
    assert shown == "open 'http://***@127.0.0.1:1'"


def test_a_registered_version_is_asked_by_its_alias_unless_it_is_a_trainable_of_ones_own(store: StoreUri) -> None:
    assert next_commands(store, BEST)[1:] == ["python -m agr.predict --model-uri models:/agr/best clip.wav"]
    assert next_commands(store, Ending([], None, 3, "best", "", model="digits"))[1:] == []


@pytest.mark.parametrize(
    ("uri", "option"),
    [
        ("http://127.0.0.1:5000", "--tracking-uri http://127.0.0.1:5000 "),
        ("sqlite:////srv/a b/m.db?timeout=30", "--tracking-uri 'sqlite:////srv/a b/m.db?timeout=30' "),
        ("postgresql://ann:secret@db/mlflow", "--tracking-uri 'postgresql://***@db/mlflow' "),
    ],
)
def test_the_predict_command_names_the_store_that_the_search_used(store: StoreUri, uri: str, option: str) -> None:
    expected = f"python -m agr.predict --model-uri models:/agr/best {option}clip.wav"
    assert next_commands(StoreUri(uri), BEST)[1] == expected


def test_the_predict_command_leaves_out_the_store_of_the_environment(
    store: StoreUri, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = "postgresql://ann:secret@db/mlflow"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert next_commands(StoreUri(uri), BEST)[1] == "python -m agr.predict --model-uri models:/agr/best clip.wav"
    assert "--tracking-uri" in next_commands(store, BEST)[1]


def test_of_the_champion_is_said_what_else_differs_between_the_trials() -> None:
    axes = replace(VOICES, axes=("epochs", "lr"))
    settings = Settings(9, 0.01, 0.3, batch_size=64, dropout=0.25), Settings(9, 0.02, 0.3, batch_size=16, seed=1)
    ranking = [Record(each, str(number), axes) for number, each in enumerate(settings)]
    assert _others(ranking) == "batch_size 64, dropout 0.25"
    assert _others(ranking[:1]) == ""


def test_brackets_in_a_reason_and_a_name_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    tracker = FakeTracker()
    session = Session("[proj]", cast(Outbox, tracker), tracker.start_run("s", {}, {}), {}, 2, VOICES)
    for trial, failed in (("a", ""), ("b", "[/data/x] is gone")):
        session.start(trial, Settings(1, 0.01, 0.3).config())
        session.advance(trial, report([epoch(1)], ["s"]))
        session.end(trial, None, failed)
    tracker.uri = StoreUri("sqlite:///m.db")  # type: ignore[assignment]
    say(Ending(session.ranking(), None, None, "", "no model: [/data/x] and [proj]"), session, 1.0, False, False)
    text = capsys.readouterr().out
    assert "[/data/x] is gone" in text
    assert "no model: [/data/x] and [proj]" in text

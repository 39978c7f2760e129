"""`search.results.report`: the commands that a search says to type next."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agr import __version__
from agr.registry.uri import StoreUri
from agr.training.settings import Settings
from search.results.champion import SearchResult
from search.results.report import next_commands, page, print_summary
from search.session.session import Record, Session
from search.tasks.agr_task import AGR_SCHEMA
from tests.search.fakes import FakeTracker, epoch

NOTHING = SearchResult([], None, None, "", "")
BEST = SearchResult([], None, 3, "best", "")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoreUri:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlflow_store").mkdir()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return StoreUri(f"sqlite:///{tmp_path / 'mlflow_store' / 'mlflow.db'}")


def test_in_the_repository_its_own_env_file_says_where_the_runs_are(store: StoreUri) -> None:
    Path("mlflow_store/env").touch()
    assert next_commands(store, NOTHING, True) == ["mlflow --env-file mlflow_store/env ui"]


def test_in_a_folder_without_that_file_the_store_is_named(store: StoreUri) -> None:
    assert next_commands(store, NOTHING, True) == [f"mlflow ui --backend-store-uri {store.whole}"]


def test_a_server_is_opened_and_shows_no_password(store: StoreUri) -> None:
    shown, *_ = next_commands(StoreUri("http://ann:secret@127.0.0.1:1"), NOTHING, True)
    assert shown == "open 'http://***@127.0.0.1:1'"


def test_predict_command_names_the_alias_unless_it_is_a_trainable(store: StoreUri) -> None:
    assert next_commands(store, BEST, True)[1:] == ["python -m agr.predict --model-uri models:/agr/best CLIP"]
    assert next_commands(store, SearchResult([], None, 3, "best", "", model="digits"), True)[1:] == []


@pytest.mark.parametrize(
    ("uri", "option"),
    [
        ("http://127.0.0.1:5000", "--tracking-uri http://127.0.0.1:5000 "),
        ("sqlite:////srv/a b/m.db?timeout=30", "--tracking-uri 'sqlite:////srv/a b/m.db?timeout=30' "),
        ("postgresql://ann:secret@db/mlflow", "--tracking-uri 'postgresql://***@db/mlflow' "),
    ],
)
def test_the_predict_command_names_the_store_that_the_search_used(store: StoreUri, uri: str, option: str) -> None:
    expected = f"python -m agr.predict --model-uri models:/agr/best {option}CLIP"
    assert next_commands(StoreUri(uri), BEST, True)[1] == expected


def test_the_predict_command_leaves_out_the_store_of_the_environment(
    store: StoreUri, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = "postgresql://ann:secret@db/mlflow"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert next_commands(StoreUri(uri), BEST, True)[1] == "python -m agr.predict --model-uri models:/agr/best CLIP"
    assert "--tracking-uri" in next_commands(store, BEST, True)[1]


def test_champion_line_names_other_settings_that_differ(capsys: pytest.CaptureFixture[str]) -> None:
    axes = replace(AGR_SCHEMA, axes=("epochs", "lr"))
    settings = Settings(9, 0.01, 0.3, batch_size=64, dropout=0.25), Settings(9, 0.02, 0.3, batch_size=16, seed=1)
    ranking = [Record(each, str(number), axes, history=[epoch(1)]) for number, each in enumerate(settings)]

    def lines(of: list[Record]) -> str:
        session = Session("grid", FakeTracker(), "run0", {}, len(of), axes)
        print_summary(SearchResult(of, None, None, "", ""), session, 1.0, leaky=False, synthetic=False)
        return capsys.readouterr().out

    champion = "\nchampion    epochs 9, lr 0.01\n"
    assert f"{champion}            batch_size 64, dropout 0.25\nvalidation  " in lines(ranking)
    assert f"{champion}validation  " in lines(ranking[:1])


def test_the_predict_command_reads_a_demo_voice_that_is_there(store: StoreUri) -> None:
    clip = Path(f"data/demo-voices-{__version__}/data/01/0_01_0.wav")
    clip.parent.mkdir(parents=True)
    clip.touch()
    assert next_commands(store, BEST, True)[1] == f"python -m agr.predict --model-uri models:/agr/best {clip}"
    assert next_commands(store, BEST, False)[1].endswith(" CLIP"), (
        "a made-up voice says nothing about a model of people"
    )


def test_plain_mlflow_ui_is_named_where_it_opens_the_store(store: StoreUri) -> None:
    Path("mlflow_store/mlflow.db").touch()
    Path("mlflow.db").touch()
    assert next_commands(store, NOTHING, True) == [f"mlflow ui --backend-store-uri {store.whole}"]
    Path("mlflow.db").unlink()
    Path("mlflow.db").symlink_to("mlflow_store/mlflow.db")
    assert next_commands(store, NOTHING, True) == ["mlflow ui"]


def test_links_lead_to_the_search_and_the_model_and_its_page_shows_the_grid(
    capsys: pytest.CaptureFixture[str],
) -> None:
    record = Record(Settings(9, 0.01, 0.3), "run1", history=[epoch(1)])
    session = Session("grid", FakeTracker(StoreUri("http://host:1/")), "run0", {}, 1)
    result = SearchResult([record], None, 3, "best", "")
    print_summary(result, session, 1.0, leaky=False, synthetic=False)
    assert "  http://host:1/#/experiments/7/runs/run0\n  http://host:1/#/models/agr\n" in capsys.readouterr().out
    text = page(result, session)
    assert "[agr version 3](#/models/agr/versions/3)" in text
    assert "(get-artifact?path=grid.png&run_uuid=run0)" in text

"""Passwords in URIs: known wherever they stand, refused where everybody reads them, shown nowhere."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from agr.common.credentials import PASSWORD, USERNAME, harmless, hide, log_in, user_and_password
from agr.errors import ModelError, SettingsError
from agr.registry import resolve
from agr.registry.uri import StoreUri

pytestmark = [
    pytest.mark.usefixtures("elsewhere"),
]

SERVER, DATABASE = "http://ann:s3cr%40t@127.0.0.1:1", "postgresql+nodriver://ann:s3cr%40t@127.0.0.1/mlflow"


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's variables are as before when the test is over."""
    for name in (USERNAME, PASSWORD, "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, "")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("http://h:5000/x", ("", "")),
        ("http://[::1]:5000/x@y", ("", "")),
        ("http://h:5000/x@y", ("", "")),
        ("http://ann@h", ("ann", "")),
        ("https://ann:pw@h:5000/x?y=z", ("ann", "pw")),
        ("postgresql://u:p@w@h/d", ("u", "p@w")),
        ("postgresql://u:p/w@h/d", ("u", "p/w")),
        ("postgresql://u:p:w@h/d", ("u", "p:w")),
        ("s3://key:secret@bucket/stages", ("key", "secret")),
        ("s3://bucket/a@b/c", ("", "")),
        ("sqlite:////home/a@b/c.db", ("", "")),
        ("sqlite:///a:b@c.db", ("", "")),
        ("mlflow_store/stages", ("", "")),
    ],
)
def test_user_and_password_are_told_from_the_rest(uri: str, expected: tuple[str, str]) -> None:
    assert user_and_password(uri) == expected


@pytest.mark.parametrize(
    ("text", "uri", "expected"),
    [
        ("postgresql://u:p@w@h/d: no", "postgresql://u:p@w@h/d", "postgresql://***@h/d: no"),
        ("login u with a/b failed", "postgresql://u:a%2Fb@h/d", "login u with *** failed"),
        ("postgresql://h/d?password=x: no", "postgresql://h/d?password=x", "postgresql://h/d?***: no"),
        ("http://h:5000/x: no", "http://h:5000/x", "http://h:5000/x: no"),
        ("sqlite:////home/a@b/c.db: no", "sqlite:////home/a@b/c.db", "sqlite:////home/a@b/c.db: no"),
    ],
)
def test_what_is_hidden_of_a_uri(text: str, uri: str, expected: str) -> None:
    assert hide(text, uri) == expected


@pytest.mark.parametrize(
    ("uri", "left", "user", "password"),
    [
        ("https://ann:s3cr%40t@h:5000/x", "https://h:5000/x", "ann", "s3cr@t"),
        ("http://a%3Ab:p@h", "http://h", "a:b", "p"),
        ("http://ann@h", "http://h", "ann", "as before"),
        ("http://h:5000", "http://h:5000", "as before", "as before"),
        ("postgresql://u:p@h/d", "postgresql://u:p@h/d", "as before", "as before"),
    ],
)
def test_a_servers_password_goes_where_mlflow_looks_for_it(
    uri: str, left: str, user: str, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(USERNAME, "as before")
    monkeypatch.setenv(PASSWORD, "as before")
    assert log_in(uri) == left
    assert (os.environ[USERNAME], os.environ[PASSWORD]) == (user, password)


def test_the_variable_that_names_the_store_may_hold_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:s3cr%40t@127.0.0.1:1")
    assert StoreUri.default().whole == os.environ["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:1"
    assert (os.environ[USERNAME], os.environ[PASSWORD]) == ("ann", "s3cr@t")


@pytest.mark.parametrize("uri", [SERVER, DATABASE, "postgresql+nodriver://127.0.0.1/mlflow?user=ann&password=s3cr%40t"])
def test_no_message_shows_a_password(uri: str) -> None:
    from agr.registry.pull import download
    from agr.registry.tracker import Tracker

    for call in (
        lambda: Tracker(uri),
        lambda: download("models:/agr/best", uri),
        lambda: resolve.resolve("models:/agr/best", uri),
    ):
        with pytest.raises(ModelError) as caught:
            call()
        error = caught.value
        assert "127.0.0.1" in str(error)
        assert "\n" not in str(error)
        assert "s3cr" not in str(error)
        assert "s3cr" not in "".join(traceback.format_exception(error))  # as Python would print it


@pytest.mark.parametrize(
    "uri",
    [
        "https://ann@h",
        "s3://bucket/stages",
        "postgresql://mlflow@h/d",
        "postgresql://h/d?sslkey=client.pem",
        "file:///a?b=c",
    ],
)
def test_a_flag_takes_a_uri_without_a_password(uri: str) -> None:
    assert harmless(uri) == uri


FLAGS = [
    ("agr.predict", ["clip.wav", "--tracking-uri"]),
    ("agr.explain", ["clip.wav", "--png", "x.png", "--tracking-uri"]),
    ("agr.card", ["--tracking-uri"]),
    ("agr.migrate", ["--to"]),
    ("agr.migrate", ["--to", "http://127.0.0.1:1", "--from"]),
    ("search.run_grid", ["--tracking-uri"]),
    ("search.run_grid", ["--stage-store"]),
    ("search.stages.__main__", ["list", "--stage-store"]),
]


@pytest.mark.parametrize(("module", "flags"), FLAGS, ids=[f"{module} {flags[-1]}" for module, flags in FLAGS])
@pytest.mark.parametrize(
    "uri", [SERVER, DATABASE, "s3://ann:s3cr@b/x", "s3://b/x?secret_key=s3cr", "db://h?password=s3cr"]
)
def test_a_flag_with_a_password_is_refused_before_anything_happens(module: str, flags: list[str], uri: str) -> None:
    main = importlib.import_module(module).main
    with pytest.raises(SettingsError) as caught:
        main([*flags, uri])
    assert "a password on the command line; expected it in MLFLOW_TRACKING_USERNAME" in str(caught.value)
    assert "AWS_SECRET_ACCESS_KEY" in str(caught.value)
    assert "s3cr" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_at_the_terminal_the_refusal_is_one_line() -> None:
    command = [sys.executable, "-m", "agr.predict", "clip.wav", "--tracking-uri", SERVER]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("agr: http://***@127.0.0.1:1: a password on the command line")
    assert len(done.stderr.splitlines()) == 1


def test_pictures_and_pages_of_the_documentation_hold_no_password() -> None:
    """Also not in a picture's own notes, where drawing programs put the command that made it."""
    root = Path(__file__).resolve().parents[3]
    files = [path for folder in ("docs", "docker") for path in (root / folder).rglob("*") if path.is_file()]
    assert {".png", ".md", ".yaml"} <= {path.suffix for path in files}
    for path in [*files, root / "README.md"]:
        for word in path.read_bytes().split():
            if b"://" in word and word.isascii():
                assert user_and_password(word.decode())[1] in ("", "..."), path

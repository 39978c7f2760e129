"""Model URIs: what they mean, and that reading SQLite ourselves finds what MLflow finds."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agr.errors import ModelError
from agr.inference import bundle
from agr.registry import uri as registry_uri
from agr.registry.resolve import pin, resolve
from agr.registry.uri import ModelLocation, StoreUri, normalise


def database(store: str) -> Path:
    return Path(store.removeprefix("sqlite:///"))


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refusal(uri: str, store: str | None = None) -> str:
    with pytest.raises(ModelError) as caught:
        resolve(uri, store)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("models:/agr/best", "models:/agr@best"),
        ("models:/agr@best", "models:/agr@best"),
        ("models:/agr/3", "models:/agr/3"),
        ("models:/agr/latest", "models:/agr/latest"),
        ("models:/agr/challenger", "models:/agr@challenger"),
        ("models:/some other-name/v2", "models:/some other-name@v2"),
        ("models:/agr/2nd", "models:/agr@2nd"),
        ("models:/agr", "models:/agr"),
        ("models:/agr/a/b", "models:/agr/a/b"),
        ("runs:/0123abcd/model", "runs:/0123abcd/model"),
        ("folder/best", "folder/best"),
    ],
)
def test_an_alias_written_like_a_stage_becomes_an_alias(uri: str, expected: str) -> None:
    assert normalise(uri) == expected
    assert normalise(expected) == expected


@pytest.mark.parametrize(
    ("uri", "version"),
    [
        ("models:/agr/best", 1),
        ("models:/agr@best", 1),
        ("models:/agr@challenger", 2),
        ("models:/agr/1", 1),
        ("models:/agr/2", 2),
        ("models:/agr/latest", 2),  # version 3 was deleted
    ],
)
def test_sqlite_read_directly_gives_what_mlflow_gives(store: str, uri: str, version: int) -> None:
    import mlflow

    from agr.registry.pull import download

    found = resolve(uri, store)
    assert (found.name, found.version) == ("agr", version)
    client = mlflow.MlflowClient(store, store)
    source = client.get_model_version_download_uri("agr", str(found.version))
    theirs = Path(mlflow.artifacts.download_artifacts(artifact_uri=source, tracking_uri=store))
    assert files(found.folder) == files(theirs)
    asked = download(normalise(uri), store)
    assert (asked.name, asked.version) == (found.name, found.version)
    assert files(asked.folder) == files(found.folder)


@pytest.mark.parametrize("uri", ["models:/agr@best", "models:/agr@challenger", "models:/agr/2"])
def test_a_known_version_is_found_without_mlflow(store: str, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from agr.registry import pull

    monkeypatch.setattr(pull, "download", None)
    found = resolve(uri, store)
    assert database(store).parent / "artifacts" in found.folder.parents
    assert "a b#c 50%" in str(found.folder)


def test_a_runs_model_is_found(store: str) -> None:
    import mlflow

    run = mlflow.MlflowClient(store, store).get_model_version("agr", "2").run_id
    found = resolve(f"runs:/{run}/model", store)
    assert (found.name, found.version) == (None, None)
    assert files(found.folder) == files(resolve("models:/agr/2", store).folder)


def test_mlflow_is_not_imported_for_a_local_store(store: str) -> None:
    script = (
        "import sys; from agr.inference import bundle; from agr.registry.resolve import resolve; "
        "bundle.load(resolve(*sys.argv[1:]).folder); "
        "print([name for name in ('mlflow', 'sqlalchemy', 'pandas', 'ray', 'matplotlib') if name in sys.modules])"
    )
    command = [sys.executable, "-c", script, "models:/agr/best", store]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_store_is_only_read(store: str) -> None:
    before = database(store).read_bytes()
    resolve("models:/agr/best", store)
    assert database(store).read_bytes() == before


def test_a_relative_uri_counts_from_the_current_folder(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(database(store).parent)
    assert resolve("models:/agr/best", "sqlite:///mlflow.db") == resolve("models:/agr/best", store)


def test_the_store_is_named_by_the_environment_or_lies_in_mlflow_store(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    assert resolve("models:/agr/best").version == 1
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.chdir(tmp_path)
    assert registry_uri.StoreUri.default().whole == f"sqlite:///{tmp_path}/mlflow_store/mlflow.db"
    assert f"no store at {tmp_path / 'mlflow_store' / 'mlflow.db'}; run a search first" in refusal("models:/agr/best")


def test_agr_store_is_a_folder_or_a_uri(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for named in (str(database(store).parent), store):
        monkeypatch.setenv("AGR_STORE", named)
        assert resolve("models:/agr/best").version == 1
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    assert registry_uri.StoreUri.default().whole == f"sqlite:///{tmp_path}/other.db"


def test_user_and_password_leave_agr_store(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("AGR_STORE", "https://ann:s3cret@mlflow.example.org")
    assert registry_uri.StoreUri.default().whole == "https://mlflow.example.org" == os.environ["AGR_STORE"]
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "s3cret"


@pytest.mark.parametrize(
    ("variables", "folder", "expected"),
    [
        ({}, "", "MLFLOW_TRACKING_URI and AGR_STORE are not set; no mlflow_store/ in {here} or above it"),
        ({}, "mlflow_store", "MLFLOW_TRACKING_URI and AGR_STORE are not set; this is the nearest mlflow_store/"),
        ({"AGR_STORE": "elsewhere"}, "", "AGR_STORE names it"),
        ({"AGR_STORE": "sqlite:///no.db"}, "", "AGR_STORE names it"),
        ({"AGR_STORE": "elsewhere", "MLFLOW_TRACKING_URI": "sqlite:///no.db"}, "", "MLFLOW_TRACKING_URI names it"),
    ],
)
def test_a_missing_store_is_told_with_where_it_was_looked_for(
    variables: dict[str, str], folder: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here := tmp_path / "here").mkdir()
    (tmp_path / folder).mkdir(exist_ok=True)
    monkeypatch.chdir(here)
    for name in ("MLFLOW_TRACKING_URI", "AGR_STORE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert refusal("models:/agr/best").endswith(f"({expected.format(here=here)})")


@pytest.mark.parametrize("uri", ["models:/agr/best", "models:/agr/1", "runs:/abc/model"])
def test_a_missing_store_is_one_line_and_is_not_created(tmp_path: Path, uri: str) -> None:
    assert "no store at" in refusal(uri, f"sqlite:///{tmp_path / 'sub' / 'mlflow.db'}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("uri", "part"),
    [
        ("models:/agr/none", "alias none not found"),
        ("models:/agr@none", "alias none not found"),
        ("models:/agr/17", "version=17"),
        ("models:/agr/3", "version=3"),
        ("models:/other/best", "name=other not found"),
        ("models:/other/latest", "name=other not found"),
        ("models:/m-0123456789abcdef0123456789abcdef", "m-0123456789abcdef0123456789abcdef"),
        ("models:/", "models:/"),
        ("runs:/0123/model", "0123"),
        ("runs:/", "runs:/"),
    ],
)
def test_what_is_not_registered_is_named_in_one_line(store: str, uri: str, part: str) -> None:
    text = refusal(uri, store)
    assert part in text
    assert store in text


@pytest.mark.parametrize("name", ["agr", "some other-name", "m-1"])
def test_a_name_without_a_version_is_told_what_is_missing(store: str, name: str) -> None:
    text = refusal(f"models:/{name}", store)
    assert text == (
        f"models:/{name}: a name without version or alias; "
        f"expected models:/{name}/best, models:/{name}/3 or models:/{name}/latest"
    )


@pytest.mark.parametrize("uri", ["nowhere", "models", "models:agr/best", "a\nb", "x" * 300, "runs", ""])
def test_a_folder_that_is_not_there_is_named_in_one_line(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="no such folder; expected champion, models:/agr/best"):
        resolve(uri)


def test_a_folder_is_itself(bundle_folder: Path) -> None:
    assert resolve(str(bundle_folder)) == ModelLocation(bundle_folder)


@pytest.mark.parametrize("keep", [64, 30_000])
def test_a_damaged_database_is_one_line(store: str, tmp_path: Path, keep: int) -> None:
    damaged = tmp_path / "mlflow.db"
    damaged.write_bytes(database(store).read_bytes()[:keep].ljust(5_000, b"\x07"))
    assert str(damaged) in refusal("models:/agr/best", f"sqlite:///{damaged}")


def test_what_sqlite_cannot_read_is_left_to_mlflow(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from agr.registry import pull

    damaged = tmp_path / "mlflow.db"
    damaged.write_bytes(b"SQLite format 3\0" + bytes(5_000))
    asked = ModelLocation(tmp_path, "agr", 9)
    monkeypatch.setattr(pull, "download", lambda uri, store, into: asked)
    assert resolve("models:/agr/best", f"sqlite:///{damaged}") is asked


def test_a_version_whose_files_are_gone_is_one_line(store: str, tmp_path: Path) -> None:
    moved = tmp_path / "mlflow.db"
    shutil.copy(database(store), moved)
    with sqlite3.connect(moved) as connection:
        connection.execute("UPDATE runs SET artifact_uri = 'file:///nowhere/at/all'")
    connection.close()
    assert "expected a model in" in refusal("models:/agr/best", f"sqlite:///{moved}")


def test_a_source_on_another_machine_is_left_to_mlflow(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agr.registry import pull

    moved = tmp_path / "mlflow.db"
    shutil.copy(database(store), moved)
    with sqlite3.connect(moved) as connection:
        connection.execute("UPDATE model_versions SET source = 's3://bucket/model' WHERE version = 1")
    connection.close()
    monkeypatch.setattr(pull, "download", lambda uri, store, into: ModelLocation(tmp_path, "asked", 1))
    assert resolve("models:/agr/best", f"sqlite:///{moved}").name == "asked"
    assert resolve("models:/agr/2", f"sqlite:///{moved}").name == "agr"


def test_the_resolved_folder_is_a_model(store: str, bundle_folder: Path) -> None:
    assert bundle.load(resolve("models:/agr/best", store).folder).info == bundle.read_info(bundle_folder)


@pytest.mark.parametrize(
    ("uri", "database"),
    [
        ("sqlite:///a b/m.db", Path("a b/m.db")),
        ("sqlite:////srv/m.db?timeout=30", Path("/srv/m.db")),
        ("sqlite:///:memory:", None),
        ("sqlite://", None),
        ("sqlite:///file:m.db?mode=ro&uri=true", None),
        ("https://ann:secret@host/m.db", None),
    ],
)
def test_the_database_of_a_store_uri_has_no_parameters(uri: str, database: Path | None) -> None:
    assert StoreUri(uri).database == database


def test_a_store_uri_as_text_shows_no_secret() -> None:
    for uri in ("https://ann:s3cr%40t@host", "postgresql://ann:s3cr%40t@host/d", "postgresql://h/d?password=s3cr%40t"):
        store = StoreUri(uri)
        for text in (str(store), repr(store), f"{store}", store.hide(f"no login with s3cr@t at {uri}")):
            assert "s3cr" not in text
            assert "***" in text


def test_a_sqlite_uri_with_parameters_finds_the_model(store: str) -> None:
    assert resolve("models:/agr/best", f"{store}?timeout=30") == resolve("models:/agr/best", store)


def test_the_champion_answers_where_there_is_no_store(
    bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AGR_CHAMPION", str(bundle_folder))
    monkeypatch.setenv("AGR_STORE", str(tmp_path))
    assert resolve("models:/agr/best") == resolve("champion") == ModelLocation(bundle_folder, "champion")
    assert "the champion that comes with AGR answers" in capsys.readouterr().err
    with pytest.raises(ModelError, match="no store at"):
        resolve("models:/agr/3")


@pytest.mark.parametrize("uri", ["models:/agr/best", "models:/agr@best", "models:/agr/1"])
def test_a_uri_is_pinned_to_the_version_that_it_names_now(store: str, uri: str) -> None:
    from agr.registry import pull

    assert pin(uri, store) == "models:/agr/1"
    assert pull.pin(uri, store) == "models:/agr/1"


def test_a_folder_is_its_own_pin(tmp_path: Path) -> None:
    assert pin(str(tmp_path)) == str(tmp_path)


@pytest.mark.parametrize("find", [pin, resolve])
def test_a_server_that_does_not_answer_is_told_in_the_words_of_the_system(
    find: Callable[[str, str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    server = "http://127.0.0.1:1"
    with pytest.raises(ModelError, match=f"^models:/agr/3: Connection refused; expected a model in {server}$"):
        find("models:/agr/3", server)


def test_a_server_that_is_silent_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ModelError, match=f"^models:/agr/3: timed out; expected a model in {server}$"):
            pin("models:/agr/3", server)

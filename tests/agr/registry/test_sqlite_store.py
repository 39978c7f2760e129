"""A SQLite store is created completely or not at all, and finds its artifacts after it was moved or copied."""

from __future__ import annotations

import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace

import pytest

from agr.errors import ModelError
from agr.registry import sqlite_store
from agr.registry.resolve import resolve
from agr.registry.uri import StoreUri

pytestmark = pytest.mark.usefixtures("elsewhere")

BEST = "models:/agr/best"
REST = {"mlflow.db", ".mlflow.db.lock"}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_three_processes_at_once_create_one_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    barrier, made = Barrier(3), []

    def make(uri: str) -> MlflowClient:
        made.append(uri)
        return MlflowClient(uri)

    def create(number: int) -> None:
        barrier.wait()
        sqlite_store.create(StoreUri(uri))

    monkeypatch.setattr(sqlite_store, "MlflowClient", make)
    uri = f"sqlite:///{tmp_path}/a b/mlflow.db"
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(create, range(3)))
    assert len(made) == 1
    assert names(tmp_path / "a b") == REST
    assert [each.name for each in MlflowClient(uri).search_experiments()] == ["Default"]


def test_the_remains_of_a_killed_process_are_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    folder = tmp_path / "store"
    uri = f"sqlite:///{folder}/mlflow.db"

    def killed(uri: str) -> None:
        with sqlite3.connect(uri.removeprefix("sqlite:///")) as connection:
            connection.execute("CREATE TABLE metrics (key TEXT)")
        connection.close()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sqlite_store, "MlflowClient", killed)
        with pytest.raises(KeyboardInterrupt):
            sqlite_store.create(StoreUri(uri))
    assert "mlflow.db" not in names(folder)
    sqlite_store.create(StoreUri(uri))
    assert names(folder) == REST
    assert len(MlflowClient(uri).search_experiments()) == 1


def test_a_store_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"whatever it is")
    sqlite_store.create(StoreUri(f"sqlite:///{tmp_path}/mlflow.db"))
    assert (tmp_path / "mlflow.db").read_bytes() == b"whatever it is"


@pytest.mark.parametrize(
    "uri", ["http://h:5000", "postgresql://h/d", "sqlite://", "sqlite:///:memory:", "sqlite:///file:x?uri=true"]
)
def test_other_kinds_of_store_are_not_created(uri: str) -> None:
    sqlite_store.create(StoreUri(uri))


def folder_of(store: str) -> Path:
    return Path(store.removeprefix("sqlite:///")).parent


def locations(database: Path) -> set[str]:
    """Every artifact location that MLflow has stored."""
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT artifact_uri FROM runs UNION ALL SELECT artifact_location FROM experiments")
        found = {row[0] for row in rows}
    connection.close()
    return found


def change(database: Path, statement: str, value: str) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute(statement, (value,))
    connection.close()


def left_alone(database: Path) -> bool:
    """Whether no location changes."""
    before = locations(database)
    sqlite_store.relocate_artifacts(StoreUri(f"sqlite:///{database}"), "agr")
    return locations(database) == before


@pytest.fixture
def copy(store: str, tmp_path: Path) -> Path:
    """The copied folder of a store; the original still exists."""
    return Path(shutil.copytree(folder_of(store), tmp_path / "another #1" / "store"))


def test_a_copied_store_uses_its_own_copy_of_a_model(store: str, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from agr.registry import pull

    monkeypatch.setattr(pull, "download", None)
    found = resolve(BEST, f"sqlite:///{copy / 'mlflow.db'}")
    assert copy in found.folder.parents
    assert found.version == resolve(BEST, store).version
    assert folder_of(store) in resolve(BEST, store).folder.parents


def test_a_copied_store_logs_and_serves_artifacts_beside_it(
    store: str, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    from agr.registry.tracker import Tracker

    uri = f"sqlite:///{copy / 'mlflow.db'}"
    before = sorted(folder_of(store).rglob("*"))
    tracker = Tracker(uri)
    says = f"agr: {copy}: moved or copied from {folder_of(store)}; its runs have their files here from now on\n"
    assert capsys.readouterr().err == says
    run = tracker.start_run("next", {}, {})
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "grid.png").write_bytes(b"png")
    tracker.log_folder(run, tmp_path / "pictures")
    assert (copy / "artifacts" / run / "artifacts" / "grid.png").is_file()
    assert sorted(folder_of(store).rglob("*")) == before
    client = MlflowClient(uri, uri)
    served = client.get_run(client.get_model_version("agr", "1").run_id)
    assert served.info.artifact_uri == f"{sqlite_store.artifact_location(StoreUri(uri))}/{served.info.run_id}/artifacts"
    Tracker(uri)
    assert capsys.readouterr().err == ""


def test_a_store_where_it_was_made_is_left_alone(store: str) -> None:
    database = folder_of(store) / "mlflow.db"
    before = database.read_bytes()
    for experiment in ("agr", "nobody"):
        sqlite_store.relocate_artifacts(StoreUri(store), experiment)
    assert database.read_bytes() == before


def test_a_database_without_its_files_is_left_alone(copy: Path) -> None:
    shutil.rmtree(copy / "artifacts")
    assert left_alone(copy / "mlflow.db")


def test_one_folder_under_two_names_is_left_alone(store: str, copy: Path) -> None:
    shutil.rmtree(copy / "artifacts")
    (copy / "artifacts").symlink_to(folder_of(store) / "artifacts")
    assert left_alone(copy / "mlflow.db")


@pytest.mark.parametrize("place", ["s3://bucket/artifacts", "file:///srv/elsewhere", "/srv/artifacts"])
def test_a_chosen_artifact_location_is_left_alone(copy: Path, place: str) -> None:
    change(copy / "mlflow.db", "UPDATE experiments SET artifact_location = ? WHERE name = 'agr'", place)
    assert left_alone(copy / "mlflow.db")


@pytest.mark.parametrize("uri", ["http://127.0.0.1:1", "postgresql://nowhere/agr", "sqlite:///{here}/none.db"])
def test_a_store_without_a_file_is_left_alone(uri: str, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    sqlite_store.relocate_artifacts(StoreUri(uri.format(here=tmp_path)), "agr")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_that_is_no_mlflow_database_is_left_alone(tmp_path: Path) -> None:
    for number, content in enumerate((b"", b"no database at all", b"SQLite format 3\0" + bytes(5_000))):
        database = tmp_path / f"{number}.db"
        database.write_bytes(content)
        sqlite_store.relocate_artifacts(StoreUri(f"sqlite:///{database}"), "agr")
        assert database.read_bytes() == content


def test_only_locations_below_the_old_one_are_changed(store: str, copy: Path) -> None:
    database, odd = copy / "mlflow.db", f"{sqlite_store.artifact_location(StoreUri(store))}-2/x/artifacts"
    change(database, "UPDATE runs SET artifact_uri = ? WHERE rowid = 1", odd)
    sqlite_store.relocate_artifacts(StoreUri(f"sqlite:///{database}"), "agr")
    new = sqlite_store.artifact_location(StoreUri(f"sqlite:///{database}"))
    others = {location for location in locations(database) if "mlruns" not in location and location != new}
    assert odd in others
    assert len(others) == 3
    assert all(location.startswith(f"{new}/") for location in others - {odd})


def test_plain_mlflow_ui_opens_the_store_of_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = StoreUri(f"sqlite:///{tmp_path / 'mlflow_store' / 'mlflow.db'}")
    sqlite_store.link(StoreUri(f"sqlite:///{tmp_path / 'elsewhere' / 'mlflow.db'}"))
    assert not Path("mlflow.db").is_symlink()
    sqlite_store.link(store)
    assert Path("mlflow.db").readlink() == Path("mlflow_store/mlflow.db")
    Path("mlflow.db").unlink()
    Path("mlflow.db").write_text("theirs")
    sqlite_store.link(store)
    assert Path("mlflow.db").read_text() == "theirs"


@pytest.mark.parametrize(
    ("mounts", "kind"),
    [
        ([("/", "ext4"), ("{here}", "nfs4")], "nfs4"),
        ([("/", "nfs"), ("{here}/store", "ext4")], ""),
        ([("/", "nfs"), ("{here}", "ext4")], ""),
        ([("{here}", "ext4"), ("{here}", "cifs")], "cifs"),
        ([("/", "ext4"), ("{here}-not", "lustre")], ""),
        ([("/", "ext4"), ("{here}/sub", "fuse.sshfs")], "fuse.sshfs"),
        ([], ""),
    ],
)
def test_a_store_on_a_network_file_system_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mounts: list[tuple[str, str]], kind: str
) -> None:
    here = tmp_path.resolve()
    table = [SimpleNamespace(mountpoint=point.format(here=here), fstype=fstype) for point, fstype in mounts]
    monkeypatch.setattr("psutil.disk_partitions", lambda all: table)
    monkeypatch.setattr(sqlite_store, "MlflowClient", lambda uri: Path(uri.removeprefix("sqlite:///")).touch())
    folder = here / ("sub" if kind == "fuse.sshfs" else "store")
    (here / "link").symlink_to(folder, target_is_directory=True)
    store = StoreUri(f"sqlite:///{here / 'link' / 'mlflow.db'}")
    if kind:
        with pytest.raises(ModelError, match=rf"link/mlflow\.db: it lies on a network file system \({kind}\), whose"):
            sqlite_store.create(store)
        assert not folder.exists()
    else:
        folder.mkdir()
        sqlite_store.create(store)
        assert (folder / "mlflow.db").exists()


def test_where_mounts_cannot_be_listed_a_store_is_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(all: bool) -> None:
        raise PermissionError("no /proc")

    monkeypatch.setattr("psutil.disk_partitions", fail)
    assert sqlite_store.network_file_system(tmp_path) == ""

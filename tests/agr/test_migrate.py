"""Moving one MLflow store into another: nothing is lost, nothing doubled, whenever it is stopped."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agr import predict
from agr.errors import AgrError, ModelError, SettingsError
from agr.registry.records import metric_points
from agr.training.loop import Epoch
from tests.stores import new_store

if TYPE_CHECKING:
    from mlflow import MlflowClient

pytestmark = [
    pytest.mark.usefixtures("elsewhere"),
]

HISTORY = tuple(
    Epoch(k, 0.01 / k, 1 / k, 0.5, 0.51, 0.7 - k / 1e4, 0.6, 0.61, 0.1, seconds=k / 8) for k in range(1, 31)
)
MARKS = {"agr.migrated_from", "agr.migrated_at"}
MOVED = ("runs: 3", "params: 4", "metric points: 271", "artifacts: 23", "models: 1", "versions: 3", "aliases: 2")


def client_of(uri: str) -> MlflowClient:
    from mlflow import MlflowClient

    return MlflowClient(uri, uri)


def migrate(source: str, target: str, *flags: str) -> int:
    from agr.migrate import main

    return main(["--from", source, "--to", target, *flags])


@pytest.fixture(scope="module")
def laptop(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A search of two trials and three versions of `agr`: 1, 2 (`challenger`) and 4 (`best`); read it only."""
    from agr.registry.tracker import Tracker

    folder = tmp_path_factory.mktemp("laptop")
    uri = new_store(folder / "a b")
    tracker, client = Tracker(uri), client_of(uri)
    search = tracker.start_run("search", {"trials": 2}, {"synthetic": True, "agr.migrated_at": "an earlier move"})
    tracker.log_dataset(search, "demo", "0123456789abcdef", "data/demo", '{"clips": 80}')
    best = tracker.start_run("best", {"lr": 0.01, "epochs": 30, "gamma": 0.5}, {"seed": 0}, search)
    tracker.log_points(best, metric_points(HISTORY), 1000)
    failed = tracker.start_run("failed", {}, {f"tag {k}": k for k in range(120)}, search)
    tracker.log_points(failed, metric_points((), {"val_loss": math.nan}), 1000)
    (folder / "pictures").mkdir()
    (folder / "pictures" / "grid.png").write_bytes(b"png" * 1000)
    tracker.log_folder(search, folder / "pictures")
    tracker.log_folder(search, folder / "pictures", "deep/er")
    tracker.set_tags(search, {"champion_run_id": best})
    for run, status in ((failed, "FAILED"), (best, "FINISHED"), (search, "KILLED")):
        tracker.end_run(run, status)
    for run in (best, best, failed, search):
        tracker.register(run, bundle_folder, {"search": "s", "run": run})
    client.delete_model_version("agr", "3")
    client.update_model_version("agr", "4", "the fourth")
    tracker.set_alias("best", 4)
    tracker.set_alias("challenger", 2)
    return uri


@pytest.fixture
def server(tmp_path: Path) -> str:
    """An empty store of its own."""
    return new_store(tmp_path / "server")


def contents(uri: str, experiment: str = "agr") -> dict[str, Any]:
    """Everything that is to be moved, with run ids replaced by runs' names, and nothing of what MLflow may change."""
    client = client_of(uri)
    runs = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    names = {run.info.run_id: run.info.run_name for run in runs}
    assert len(set(names.values())) == len(runs), "no run is there twice"
    versions = client.search_model_versions("name = 'agr'")
    return {
        "runs": {run.info.run_name: run_contents(client, run, names) for run in runs},
        "versions": {
            int(version.version): {
                "run": names[version.run_id],
                "path": version.source.partition(version.run_id)[2],
                "tags": tags_of(version.tags, names),
                "description": version.description,
                "files": files_of(client, version.run_id, "model"),
            }
            for version in versions
        },
        "model": client.get_registered_model("agr").description,
        "aliases": {name: int(number) for name, number in client.get_registered_model("agr").aliases.items()},
    }


def run_contents(client: MlflowClient, run: Any, names: dict[str, str]) -> dict[str, Any]:
    histories = {key: client.get_metric_history(run.info.run_id, key) for key in run.data.metrics}
    return {
        "params": run.data.params,
        "tags": tags_of(run.data.tags, names),
        "metrics": {key: [(p.step, repr(p.value), p.timestamp) for p in points] for key, points in histories.items()},
        "latest": {key: repr(value) for key, value in run.data.metrics.items()},
        "inputs": [item.to_dictionary() for item in run.inputs.dataset_inputs],
        "info": (run.info.status, run.info.start_time, run.info.end_time),
        "files": files_of(client, run.info.run_id, ""),
    }


def tags_of(tags: dict[str, str], names: dict[str, str]) -> dict[str, str]:
    return {key: names.get(value, value) for key, value in tags.items() if key not in MARKS}


def files_of(client: MlflowClient, run_id: str, path: str) -> dict[str, bytes]:
    if not client.list_artifacts(run_id):
        return {}
    folder = Path(client.download_artifacts(run_id, path))
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def runs_of(uri: str) -> dict[str, Any]:
    client = client_of(uri)
    return {run.info.run_name: run for run in client.search_runs([client.get_experiment_by_name("agr").experiment_id])}


def test_everything_arrives(laptop: str, server: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert migrate(laptop, server) == 0
    assert contents(server) == contents(laptop)
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "experiments: 1 moved, 1 there already"
    assert out[1:] == [f"{line} moved" for line in MOVED]
    old, new = runs_of(laptop), runs_of(server)
    assert {name: run.data.tags["agr.migrated_from"] for name, run in new.items()} == {
        name: run.info.run_id for name, run in old.items()
    }
    assert new["best"].data.tags["mlflow.parentRunId"] == new["search"].info.run_id
    assert new["search"].data.tags["champion_run_id"] == new["best"].info.run_id


def test_the_model_answers_when_the_laptop_is_gone(
    laptop: str, server: str, tmp_path: Path, voices: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(Path(laptop.removeprefix("sqlite:///")).parent, folder)
    assert migrate(str(folder), server) == 0
    shutil.rmtree(folder)
    capsys.readouterr()
    flags = ["--model-uri", "models:/agr/best", "--tracking-uri"]
    assert predict.main([*flags, server, "--json", str(voices[0])]) == 0
    moved = json.loads(capsys.readouterr().out)
    assert predict.main([*flags, laptop, "--json", str(voices[0])]) == 0
    assert json.loads(capsys.readouterr().out) == moved
    assert moved["model"] == {"name": "agr", "version": 4}


def test_again_nothing_is_moved(laptop: str, server: str, capsys: pytest.CaptureFixture[str]) -> None:
    migrate(laptop, server)
    before = contents(server)
    capsys.readouterr()
    assert migrate(laptop, server) == 0
    assert contents(server) == before
    assert capsys.readouterr().out.splitlines() == [
        "experiments: 2 there already",
        "runs: 3 there already",
        "params: none",
        "metric points: none",
        "artifacts: none",
        "models: 1 there already",
        "versions: 3 there already",
        "aliases: 2 there already",
    ]


def interrupted(method: Callable[..., Any], call: int) -> Callable[..., Any]:
    """The method, which does its work and is killed after that in its n-th call."""
    calls = iter(range(1, 1000))

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs)
        if next(calls) == call:
            raise KeyboardInterrupt
        return result

    return wrapper


@pytest.mark.parametrize(
    ("method", "call"),
    [
        ("create_run", 3),
        ("log_batch", 2),
        ("log_inputs", 1),
        ("log_artifacts", 1),
        ("set_terminated", 2),
        ("set_tag", 2),
        ("create_model_version", 3),
        ("delete_model_version", 1),
        ("set_registered_model_alias", 1),
    ],
)
def test_killed_in_between_it_is_finished_the_next_time(
    laptop: str, server: str, method: str, call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, method, interrupted(getattr(MlflowClient, method), call))
        with pytest.raises(KeyboardInterrupt):
            migrate(laptop, server)
    for model in client_of(server).search_registered_models():
        assert not model.aliases or method == "set_registered_model_alias"
    assert migrate(laptop, server) == 0
    assert contents(server) == contents(laptop)


def test_a_run_that_arrived_in_part_is_named_as_such(
    laptop: str, server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_tag", interrupted(MlflowClient.set_tag, 1))
        with pytest.raises(KeyboardInterrupt):
            migrate(laptop, server)
    capsys.readouterr()
    migrate(laptop, server)
    assert "runs: 2 sent again that had arrived in part, 1 there already" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("harm", ["missing", "short"])
def test_an_artifact_that_did_not_arrive_whole_is_noticed_and_sent_again(
    laptop: str, server: str, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    upload = MlflowClient.log_artifacts

    def careless(self: MlflowClient, run_id: str, folder: str) -> None:
        victim = next(iter(Path(folder).rglob("grid.png")), Path(folder) / "model" / "MLmodel")
        if harm == "missing":
            victim.unlink()
        else:
            victim.write_bytes(victim.read_bytes()[:-1])
        upload(self, run_id, folder)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_artifacts", careless)
        with pytest.raises(ModelError, match=r"did not arrive whole; expected [0-9]+ bytes"):
            migrate(laptop, server)
    assert client_of(server).search_registered_models() == []
    assert migrate(laptop, server) == 0
    assert contents(server) == contents(laptop)


def test_the_source_is_only_read(laptop: str, server: str) -> None:
    folder = Path(laptop.removeprefix("sqlite:///")).parent

    def every() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    before = every()
    migrate(laptop, server)
    assert every() == before


@pytest.fixture
def busy(server: str, bundle_folder: Path) -> str:
    """A server with an own version 1 of `agr`, its `best`."""
    from agr.registry.tracker import Tracker

    tracker = Tracker(server)
    run = tracker.start_run("own", {}, {})
    tracker.set_alias("best", tracker.register(run, bundle_folder, {}))
    tracker.end_run(run, "FINISHED")
    return server


def test_where_others_have_versions_numbers_change_and_aliases_stay(
    laptop: str, busy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert migrate(laptop, busy) == 0
        out = capsys.readouterr().out.splitlines()
        assert out[8:] == [
            "agr version 1 is version 2 there",
            "agr version 2 is version 3 there",
            "agr@best stays at version 1 there; --aliases overwrite makes it 4",
        ]
        assert contents(busy)["aliases"] == {"best": 1, "challenger": 3}
    assert sorted(contents(busy)["versions"]) == [1, 2, 3, 4]
    assert contents(busy)["versions"][3] == contents(laptop)["versions"][2]


def test_an_alias_is_moved_when_told_to(laptop: str, busy: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert migrate(laptop, busy, "--aliases", "overwrite") == 0
    assert contents(busy)["aliases"] == {"best": 4, "challenger": 3}
    assert capsys.readouterr().out.splitlines()[-1] == "agr@best was version 1 there and is now 4"


def test_a_run_that_goes_on_is_sent_again(server: str, tmp_path: Path) -> None:
    from agr.registry.tracker import Tracker

    tracker = Tracker(new_store(tmp_path / "going"))
    run = tracker.start_run("going", {"lr": 1}, {})
    tracker.log_points(run, metric_points(HISTORY[:2]), 1000)
    migrate(tracker.uri.whole, server)
    assert runs_of(server)["going"].info.status == "RUNNING"
    tracker.log_points(run, metric_points(HISTORY[2:]), 1000)
    tracker.end_run(run, "FINISHED")
    migrate(tracker.uri.whole, server)
    (moved,) = runs_of(server).values()
    assert moved.info.status == "FINISHED"
    points = client_of(server).get_metric_history(moved.info.run_id, "val_loss")
    assert [(p.step, p.value) for p in points] == [(e.epoch, e.val_loss) for e in HISTORY]


def test_what_belongs_to_no_run_is_left_and_said(
    laptop: str, server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    shutil.copy(laptop.removeprefix("sqlite:///"), folder / "mlflow.db")
    copy = client_of(f"sqlite:///{folder}/mlflow.db")
    copy.delete_run(runs_of(laptop)["search"].info.run_id)
    copy.create_model_version("agr", "s3://bucket/model")
    assert migrate(str(folder), server) == 1
    shown = capsys.readouterr()
    assert "versions: 2 moved" in shown.out.splitlines()
    assert "agr: left behind: agr version 5: s3://bucket/model belongs to no run that is moved" in shown.err
    assert "agr: left behind: agr@best: its version 4 is not moved" in shown.err
    assert client_of(server).get_registered_model("agr").aliases == {"challenger": 2}


@pytest.mark.parametrize(
    ("source", "target", "error", "part"),
    [
        ("nowhere", "http://127.0.0.1:1", ModelError, "nowhere/mlflow.db: no such file; expected a store"),
        ("sqlite:///nowhere.db", "http://127.0.0.1:1", ModelError, "--from sqlite:///nowhere.db: no such file"),
        ("LAPTOP", "elsewhere", SettingsError, "--to elsewhere: expected the URI of another MLflow store"),
        ("LAPTOP", "LAPTOP", SettingsError, "expected the URI of another MLflow store"),
        ("LAPTOP", "http://127.0.0.1:1", ModelError, "Connection refused; expected an MLflow tracking server"),
        ("LAPTOP", "http://u:key@h", SettingsError, "http://***@h: a password on the command line; expected it in MLF"),
        ("postgresql://u:key@h/d", "http://h", SettingsError, "postgresql://***@h/d: a password on the command line"),
    ],
)
def test_wrong_usage_is_one_line(laptop: str, source: str, target: str, error: type[AgrError], part: str) -> None:
    stores = [laptop if text == "LAPTOP" else text for text in (source, target)]
    with pytest.raises(error) as caught:
        migrate(*stores)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)

"""What the tracker writes, read back with MLflow's own client from a real SQLite store."""

from __future__ import annotations

import math
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from threading import Barrier, Thread
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agr import __version__
from agr.common.files import tree_digest
from agr.errors import ModelError
from agr.inference import bundle
from agr.registry import resolve
from agr.registry.records import VERSION, metric_points
from agr.registry.uri import BUNDLE, DIGEST_TAG
from agr.training.loop import Epoch
from tests.stores import new_store

if TYPE_CHECKING:
    from agr.registry.tracker import Tracker

pytestmark = pytest.mark.usefixtures("elsewhere")

HISTORY = tuple(
    Epoch(k, 0.01 / k, 1 / k, 0.5, 0.51, 0.7 - k / 1e4, 0.6, 0.61, 0.1, seconds=k / 8) for k in range(1, 301)
)


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Tracker:
    from agr.registry.tracker import Tracker

    return Tracker(new_store(tmp_path_factory.mktemp("tracking")))


@pytest.fixture
def client(tracker: Tracker) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracker.uri.whole, tracker.uri.whole)


def test_runs_nest_with_params_and_tags_as_text(tracker: Tracker, client: Any) -> None:
    parent = tracker.start_run("grid", {"split": "speakers"}, {"leaky": False})
    children = [tracker.start_run(f"t{k}", {"lr": 0.1**k, "epochs": k}, {"rank": k}, parent) for k in (1, 2)]
    run = client.get_run(parent)
    assert run.info.run_name == "grid"
    assert run.info.status == "RUNNING"
    assert run.data.params == {"split": "speakers"}
    assert run.data.tags["leaky"] == "False"
    assert "mlflow.parentRunId" not in run.data.tags
    found = client.search_runs([run.info.experiment_id], f"tags.mlflow.parentRunId = '{parent}'")
    assert {child.info.run_id for child in found} == set(children)
    second = client.get_run(children[1])
    assert second.data.params == {"lr": str(0.1**2), "epochs": "2"}
    assert second.data.tags["rank"] == "2"


def test_a_deleted_experiment_is_refused_with_the_command_that_restores_it(
    tracker: Tracker, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner
    from mlflow.experiments import commands

    number = client.create_experiment("deleted")
    client.delete_experiment(number)
    with pytest.raises(ModelError, match="experiment deleted was deleted; expected one to log to: ") as refused:
        type(tracker)(tracker.uri, "deleted")
    variable, _, _, *command = str(refused.value).split("`")[1].split()
    monkeypatch.setenv(*variable.split("="))
    assert CliRunner().invoke(commands, command).exit_code == 0
    assert client.get_experiment(number).lifecycle_stage == "active"
    type(tracker)(tracker.uri, "deleted")


def test_no_run_becomes_mlflows_active_one(tracker: Tracker) -> None:
    import mlflow

    before = mlflow.get_tracking_uri()
    tracker.start_run("quiet", {}, {})
    assert mlflow.active_run() is None
    assert mlflow.get_tracking_uri() == before


def test_metrics_of_more_than_one_batch_are_logged(tracker: Tracker, client: Any) -> None:
    run = tracker.start_run("curves", {}, {})
    tracker.log_points(run, metric_points(HISTORY), 1000)
    assert len(HISTORY) * (len(asdict(HISTORY[0])) - 1) > 2 * 1000
    for key in asdict(HISTORY[0]).keys() - {"epoch"}:
        points = client.get_metric_history(run, key)
        assert [(point.step, point.value) for point in points] == [(e.epoch, getattr(e, key)) for e in HISTORY]
    assert "epoch" not in client.get_run(run).data.metrics


def test_epochs_are_logged_one_at_a_time(tracker: Tracker, client: Any) -> None:
    run = tracker.start_run("as they come", {}, {})
    for epoch in HISTORY[:3]:
        tracker.log_points(run, metric_points([epoch]), 1000)
    tracker.log_points(run, metric_points([]), 1000)
    assert [point.step for point in client.get_metric_history(run, "val_loss")] == [1, 2, 3]


def test_single_metrics_are_logged_and_tags_change(tracker: Tracker, client: Any) -> None:
    run = tracker.start_run("single", {}, {"kept": 1, "changed": "before"})
    tracker.log_points(run, metric_points((), {"test_accuracy": 0.25, "count": 7}), 1000)
    tracker.set_tags(run, {"changed": "after", "new": True})
    found = client.get_run(run).data
    assert found.metrics == {"test_accuracy": 0.25, "count": 7.0}
    own = {key: value for key, value in found.tags.items() if not key.startswith("mlflow.")}
    assert own == {"kept": "1", "changed": "after", "new": "True"}


def test_nan_metrics_are_logged(tracker: Tracker, client: Any) -> None:
    run = tracker.start_run("diverged", {}, {})
    tracker.log_points(run, metric_points((), {"val_loss": math.nan}), 1000)
    assert math.isnan(client.get_metric_history(run, "val_loss")[0].value)


def test_the_data_of_a_run_is_logged(tracker: Tracker, client: Any) -> None:
    run = tracker.start_run("data", {}, {})
    tracker.log_dataset(run, "demo", "0123456789abcdef", "data/demo", '{"clips": 80}')
    (used,) = client.get_run(run).inputs.dataset_inputs
    dataset = used.dataset
    assert (dataset.name, dataset.digest, dataset.profile) == ("demo", "0123456789abcdef", '{"clips": 80}')
    assert [(tag.key, tag.value) for tag in used.tags] == [("mlflow.data.context", "training")]


def test_a_folder_becomes_artifacts_beside_the_database(tracker: Tracker, client: Any, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "grid.png").write_bytes(b"png")
    run = tracker.start_run("pictures", {}, {})
    tracker.log_folder(run, pictures)
    tracker.log_folder(run, pictures, "again")
    assert [item.path for item in client.list_artifacts(run)] == ["again", "grid.png"]
    root = Path(tracker.uri.whole.removeprefix("sqlite:///")).parent / "artifacts"
    assert client.get_run(run).info.artifact_uri.startswith(root.as_uri())
    assert [path.read_bytes() for path in root.rglob("grid.png")] == [b"png", b"png"]


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_a_run_ends_with_a_status(tracker: Tracker, client: Any, status: str) -> None:
    run = tracker.start_run("ending", {"lr": 1}, {"search": "s"})
    assert dict(tracker.unfinished_runs())[run]["search"] == "s"
    tracker.end_run(run, status)
    assert client.get_run(run).info.status == status
    assert run not in dict(tracker.unfinished_runs())


def test_versions_count_up_and_an_alias_moves(tracker: Tracker, client: Any, bundle_folder: Path) -> None:
    import mlflow

    from agr.registry.pull import download
    from agr.registry.uri import BEST

    assert tracker.version_by_alias(BEST) is None
    for number in (1, 2):
        run = tracker.start_run("champion", {}, {})
        assert tracker.register(run, bundle_folder, {"data": "demo", "synthetic": True}) == number
        tracker.set_alias(BEST, number)
        best = tracker.version_by_alias(BEST)
        assert best is not None
        assert best.version == number
        assert bundle.load(best.folder).info == bundle.read_info(bundle_folder)
    version = client.get_model_version("agr", "2")
    assert version.run_id == run
    digest = tree_digest(resolve.resolve("models:/agr/2", tracker.uri.whole).folder / BUNDLE)
    assert version.tags == {"data": "demo", "synthetic": "True", DIGEST_TAG: digest}
    assert client.get_registered_model("agr").aliases == {BEST: 2}
    found = download("models:/agr/best", tracker.uri.whole)
    assert (found.name, found.version, found.sha256) == ("agr", 2, digest)
    assert resolve.resolve("models:/agr/latest", tracker.uri.whole).version == 2
    folder = found.folder
    text = (folder / "MLmodel").read_text()
    assert "loader_module: agr.serving" in text
    assert "code:" not in text
    assert (folder / "requirements.txt").read_text().split() == ["mlflow==" + mlflow.__version__, f"agr=={__version__}"]
    kinds = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert kinds == {"", ".txt", ".yaml", ".json", ".safetensors"}


def finished(tracker: Tracker, plan: str, bundle: Path | None = None, trials: int = 2, of: int = 2) -> tuple[str, str]:
    """A finished search of `of` points with so many finished trials; returns its run and one of its trials."""
    run = tracker.start_run("grid", {"trials": of}, {"plan": plan})
    children = [tracker.start_run(f"e{k}", {"epochs": k}, {}, run) for k in range(trials)]
    if bundle:
        tracker.set_tags(run, {VERSION: tracker.register(children[0], bundle, {})})
    tracker.log_points(run, [("val_loss", 0.5, 0)], 1)
    for each in (*children, run):
        tracker.end_run(each, "FINISHED")
    return run, children[0]


def test_a_search_that_is_whole_is_found_with_its_champion(tracker: Tracker, bundle_folder: Path) -> None:
    finished(tracker, "whole", bundle_folder)
    run, trial = finished(tracker, "whole", bundle_folder)
    found = tracker.finished_search({"plan": "whole"})
    assert found is not None
    tracker.set_alias("challenger", found.version or 0)
    assert (found.run_id, found.name, found.metrics, found.alias) == (
        run,
        "grid",
        {"val_loss": 0.5},
        str(found.version),
    )
    assert trial in {each.run_id for each in found.trials}
    again = tracker.finished_search({"plan": "whole"})
    assert again is not None
    assert again.alias == "challenger"


def test_a_search_that_is_not_whole_is_not_found(tracker: Tracker, client: Any, bundle_folder: Path) -> None:
    finished(tracker, "lost a trial", trials=1)
    tracker.end_run(finished(tracker, "failed")[0], "FAILED")
    tracker.delete_run(finished(tracker, "deleted")[0])
    tracker.delete_run(finished(tracker, "a trial was deleted")[1])
    finished(tracker, "its champion was deleted", bundle_folder)
    last = tracker.finished_search({"plan": "its champion was deleted"})
    assert last is not None
    client.delete_model_version("agr", str(last.version))
    for plan in ("lost a trial", "failed", "deleted", "a trial was deleted", "its champion was deleted", "never"):
        assert tracker.finished_search({"plan": plan}) is None, plan
    assert finished(tracker, "leaky")[0]
    assert getattr(tracker.finished_search({"plan": "leaky"}), "version", 0) is None


def test_trackers_that_create_an_experiment_at_once_share_it(tracker: Tracker, client: Any) -> None:
    from agr.registry.tracker import Tracker

    barrier = Barrier(4)

    def start(number: int) -> str:
        barrier.wait()
        return Tracker(tracker.uri.whole, "race").start_run(f"r{number}", {}, {})

    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(start, range(4)))
    experiments = {client.get_run(run).info.experiment_id for run in runs}
    assert experiments == {client.get_experiment_by_name("race").experiment_id}


def test_an_experiment_that_another_process_has_just_created_is_used(
    tracker: Tracker, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    from agr.registry.tracker import Tracker

    answers = [None, client.get_experiment_by_name("agr")]  # not there yet, and a moment later it is
    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", lambda self, name: answers.pop(0))
    run = Tracker(tracker.uri.whole).start_run("late", {}, {})
    assert answers == []
    assert client.get_run(run).info.artifact_uri.startswith("file://")


def test_a_store_that_cannot_be_opened_is_refused_in_one_line(tmp_path: Path) -> None:
    from agr.registry.tracker import Tracker

    (tmp_path / "file").write_bytes(b"this is no database" * 100)
    for uri in (f"sqlite:///{tmp_path}/file", f"sqlite:///{tmp_path}/file/mlflow.db", "postgresql+nodriver://x/y"):
        with pytest.raises(ModelError, match="expected an MLflow tracking store") as caught:
            Tracker(uri)
        assert str(caught.value).startswith(uri)
        assert "\n" not in str(caught.value)


def test_a_version_is_registered_in_a_sqlite_store_with_parameters(bundle_folder: Path, tmp_path: Path) -> None:
    from agr.registry.tracker import Tracker

    tracker = Tracker(f"sqlite:///{tmp_path}/new/mlflow.db?timeout=30")
    run = tracker.start_run("trial", {}, {})
    assert tracker.register(run, bundle_folder, {}) == 1
    assert {path.name for path in (tmp_path / "new").iterdir()} >= {"mlflow.db", "artifacts"}
    assert resolve.resolve("models:/agr/1", tracker.uri).version == 1


class Healthy(BaseHTTPRequestHandler):
    """Answers every request as an MLflow server without experiments would."""

    def do_GET(self) -> None:
        if "/health" in self.path:
            self.answer(200, b"OK")
        else:
            self.answer(404, b'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"}')

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(200, b'{"experiment_id": "7"}')

    def answer(self, status: int, body: bytes) -> None:
        seen.append(self.headers["Authorization"])
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


seen: list[str | None] = []


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificate and key of 127.0.0.1, which nobody has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now, address = datetime.now(UTC), x509.IPAddress(ip_address("127.0.0.1"))
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(1), now + timedelta(1))
    signed = made.add_extension(x509.SubjectAlternativeName([address]), critical=False).sign(key, hashes.SHA256())
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    plain = PrivateFormat.PKCS8, NoEncryption()
    path.write_bytes(key.private_bytes(Encoding.PEM, *plain) + signed.public_bytes(Encoding.PEM))
    return path


@pytest.fixture
def tls_server(certificate: Path) -> Iterator[str]:
    """The URI of a server with that certificate."""
    seen.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Healthy) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_server_with_an_unknown_certificate_is_refused_in_one_line(tls_server: str) -> None:
    from agr.registry.tracker import Tracker

    with pytest.raises(ModelError, match=r"certificate verify failed.*; expected an MLflow tracking server") as caught:
        Tracker(tls_server)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_SERVER_CERT_PATH", "MLFLOW_TRACKING_INSECURE_TLS"])
def test_mlflows_tls_settings_apply_to_the_first_request(
    tls_server: str, certificate: Path, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agr.registry.tracker import Tracker

    monkeypatch.setenv(variable, str(certificate) if variable.endswith("PATH") else "true")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "abc")
    assert Tracker(tls_server).uri.whole == tls_server
    assert set(seen) == {"Bearer abc"}

"""The one module that knows MLflow: runs, metrics, pictures, registered versions and their aliases.

    tracker = Tracker(default_tracking_uri())
    parent = tracker.start_run("grid", params={...}, tags={...})

Everything goes through MLflow's client with explicit run ids; MLflow's global active run is never touched.
"""

from __future__ import annotations

import os
import tempfile
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow.pyfunc
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models.signature import ModelSignature
from mlflow.types import ColSpec, Schema
from sqlalchemy.exc import SQLAlchemyError

from agr import __version__, bundle
from agr.corpus import CLASSES
from agr.errors import ModelError
from agr.registry import SQLITE, normalise, resolve
from agr.serving import COLUMN
from agr.training import Epoch

EXPERIMENT = "agr"
PROBE_SECONDS = 20
REGISTERED_MODEL = "agr"
BEST, CHALLENGER = "best", "challenger"
STORE_ERRORS = (MlflowException, SQLAlchemyError, OSError, ImportError)  # the last: a database without its driver
NOT_THERE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # how MLflow says that there is no such alias
POINTS_A_BATCH = 1000  # as many as MLflow takes at once
DOCUMENTED = (
    "Tells female from male voices in clips of one second and more. Load with mlflow.pyfunc; "
    "column `audio` takes the bytes of a WAV, FLAC, OGG or MP3 file."
)


@dataclass(frozen=True)
class Version:
    """One registered version and where its files are."""

    version: int
    folder: Path


class Tracker:
    """An experiment of a tracking store; created there if need be."""

    def __init__(self, uri: str, experiment: str = EXPERIMENT) -> None:
        """Open the store. Raises: ModelError if it cannot be reached."""
        self.uri = uri
        try:
            if uri.startswith(SQLITE):
                Path(uri.removeprefix(SQLITE)).parent.mkdir(parents=True, exist_ok=True)
            elif uri.startswith(("http://", "https://")):
                _probe(uri)
            self._client = MlflowClient(uri, uri)
            self._experiment = self._find_or_create(experiment)
        except STORE_ERRORS as error:
            raise ModelError(f"{uri}: {_first_line(error)}; expected an MLflow tracking store") from error

    def _find_or_create(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        try:
            return str(self._client.create_experiment(name, artifact_location=_artifact_root(self.uri)))
        except MlflowException:  # somebody else was faster
            found = self._client.get_experiment_by_name(name)
            if found is None:
                raise
            return str(found.experiment_id)

    def start_run(
        self, name: str, params: Mapping[str, object], tags: Mapping[str, object], parent: str | None = None
    ) -> str:
        """Create a run, nested under `parent` if given; returns its id."""
        every = {key: str(value) for key, value in tags.items()}
        if parent is not None:
            every["mlflow.parentRunId"] = parent
        run = self._client.create_run(self._experiment, tags=every, run_name=name)
        self._client.log_batch(run.info.run_id, params=[Param(key, str(value)) for key, value in params.items()])
        return str(run.info.run_id)

    def log_dataset(self, run_id: str, name: str, digest: str, source: str, profile: str) -> None:
        """Record which data a run used."""
        dataset = Dataset(name=name, digest=digest, source_type="local", source=source, profile=profile)
        self._client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])

    def log_epochs(self, run_id: str, epochs: Sequence[Epoch], totals: Mapping[str, float] | None = None) -> None:
        """Every metric of every epoch, the step being the epoch, and single numbers with them, in batches."""
        now = int(time.time() * 1000)
        points = [
            Metric(key, float(value), now, epoch.epoch)
            for epoch in epochs
            for key, value in asdict(epoch).items()
            if key != "epoch"
        ]
        points += [Metric(key, float(value), now, 0) for key, value in (totals or {}).items()]
        for start in range(0, len(points), POINTS_A_BATCH):
            self._client.log_batch(run_id, metrics=points[start : start + POINTS_A_BATCH])

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Single numbers of a run."""
        self.log_epochs(run_id, (), metrics)

    def set_tags(self, run_id: str, tags: Mapping[str, object]) -> None:
        """Add or change tags of a run."""
        self._client.log_batch(run_id, tags=[RunTag(key, str(value)) for key, value in tags.items()])

    def log_folder(self, run_id: str, folder: Path, name: str | None = None) -> None:
        """Every file of a folder as artifacts."""
        self._client.log_artifacts(run_id, str(folder), name)

    def end_run(self, run_id: str, status: str) -> None:
        """End a run: FINISHED, FAILED or KILLED."""
        self._client.set_terminated(run_id, status)

    def unfinished(self) -> list[tuple[str, dict[str, str]]]:
        """Runs of the experiment that still count as running: id and tags."""
        runs = self._client.search_runs([self._experiment], "attributes.status = 'RUNNING'", max_results=1000)
        return [(str(run.info.run_id), dict(run.data.tags)) for run in runs]

    def register(self, run_id: str, folder: Path, tags: Mapping[str, object], description: str = "") -> int:
        """Log a bundle as the MLflow model of a run and register it as a new version; returns its number."""
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "model"
            _save_model(folder, path)
            self._client.log_artifacts(run_id, str(path), "model")
        try:
            self._client.create_registered_model(REGISTERED_MODEL, description=DOCUMENTED)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        every = {key: str(value) for key, value in tags.items()}
        source = f"runs:/{run_id}/model"
        version = self._client.create_model_version(
            REGISTERED_MODEL, source, run_id, tags=every, description=description or None
        )
        return int(version.version)

    def aliased(self, alias: str) -> Version | None:
        """The version an alias points at, its files on this machine; None if there is no such alias."""
        try:
            found = self._client.get_model_version_by_alias(REGISTERED_MODEL, alias)
        except MlflowException as error:
            if error.error_code not in NOT_THERE:
                raise
            return None
        place = resolve(f"models:/{REGISTERED_MODEL}/{found.version}", self.uri)
        return Version(int(found.version), place.folder)

    def set_alias(self, alias: str, version: int) -> None:
        """Point an alias at a version; another version loses it."""
        self._client.set_registered_model_alias(REGISTERED_MODEL, alias, str(version))


def download(uri: str, tracking_uri: str) -> tuple[Path, str | None, int | None]:
    """The files behind `models:/...` or `runs:/...`: a folder, the registered name and the version.

    Raises: ModelError if there is no such model.
    """
    uri = normalise(uri)
    name, version = None, None
    try:
        client = MlflowClient(tracking_uri, tracking_uri)
        if uri.startswith("models:/"):
            name, version = _name_and_version(client, uri)
            uri = client.get_model_version_download_uri(name, str(version))
        folder = mlflow.artifacts.download_artifacts(artifact_uri=uri, tracking_uri=tracking_uri)
    except STORE_ERRORS as error:
        raise ModelError(f"{uri}: {_first_line(error)}; expected a model in {tracking_uri}") from error
    return Path(folder), name, version


def _name_and_version(client: MlflowClient, uri: str) -> tuple[str, int]:
    rest = uri.removeprefix("models:/")
    if "@" in rest:
        name, alias = rest.split("@", 1)
        return name, int(client.get_model_version_by_alias(name, alias).version)
    name, _, version = rest.partition("/")
    if version == "latest":
        return name, max((int(v.version) for v in client.search_model_versions(f"name = '{name}'")), default=0)
    return name, int(client.get_model_version(name, version).version)


def _save_model(folder: Path, path: Path) -> None:
    """An MLflow model of a bundle: MLflow loads it with agr.serving, which reads safetensors and JSON only."""
    outputs = [ColSpec("string", "label"), *(ColSpec("double", name) for name in CLASSES), ColSpec("string", "error")]
    renamed = path.parent / bundle.MLMODEL_DATA.name
    renamed.symlink_to(folder.resolve(), target_is_directory=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*input example.*")  # a second of audio is no readable example
        mlflow.pyfunc.save_model(
            path=str(path),
            loader_module="agr.serving",
            data_path=str(renamed),
            signature=ModelSignature(Schema([ColSpec("binary", COLUMN)]), Schema(outputs)),
            pip_requirements=[f"agr=={__version__}"],
        )


def _artifact_root(uri: str) -> str | None:
    """Beside a SQLite file; a tracking server chooses its own."""
    if not uri.startswith(SQLITE):
        return None
    return (Path(uri.removeprefix(SQLITE)).resolve().parent / "artifacts").as_uri()


def _probe(uri: str) -> None:
    """MLflow would try an unreachable server for minutes without a word. Raises: ModelError."""
    try:
        urllib.request.urlopen(uri, timeout=PROBE_SECONDS).close()
    except urllib.error.HTTPError:
        return  # it answers; what it says MLflow understands better
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ModelError(f"{uri}: {reason}; expected an MLflow tracking server that answers") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")

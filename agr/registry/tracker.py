"""An experiment in an MLflow store: runs, metrics, files, registered versions and their aliases.

    tracker = Tracker(StoreUri.default())
    parent = tracker.start_run("grid", params={...}, tags={...})

Everything goes through MLflow's client with explicit run ids; MLflow's global active run is never touched.
"""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from agr.registry.mlflow_env import ALREADY_EXISTS, STORE_ERRORS, all_pages, one_line, root_cause  # before MLflow

# isort: split
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, Experiment, InputTag, LifecycleStage, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from agr.common.files import tree_digest
from agr.errors import ModelError
from agr.registry import aliases, sqlite_store
from agr.registry.mlflow_model import save_model
from agr.registry.records import VERSION, FinishedSearch, FinishedTrial, MetricPoint, Texts, Version, as_text
from agr.registry.resolve import resolve
from agr.registry.uri import BUNDLE, DIGEST_TAG, EXPERIMENT, REGISTERED_MODEL, StoreUri

PROBE_SECONDS = 20
PARENT = "mlflow.parentRunId"  # tag of a nested run
BATCH_POINTS = 1000  # the most that MLflow takes at once
MODEL_DESCRIPTION = (
    "Tells female from male voices in clips of one second and more. Load with mlflow.pyfunc; "
    "column `audio` takes the bytes of a sound file of any format."
)


class Tracker:
    """An experiment of a tracking store, created if it does not exist."""

    def __init__(self, uri: StoreUri | str, experiment: str = EXPERIMENT, model: str = REGISTERED_MODEL) -> None:
        """Open the store. model: the name under which versions are registered. Raises: ModelError."""
        self.experiment, self.model = experiment, model
        self.uri = store = StoreUri.of(uri).log_in()
        try:
            if store.is_server:
                _probe(store)
            sqlite_store.create(store)
            sqlite_store.link(store)
            sqlite_store.relocate_artifacts(store, experiment)
            self._client = MlflowClient(store.whole, store.whole)
            self._experiment = self._find_or_create(experiment)
        except STORE_ERRORS as error:
            raise ModelError(f"{store}: {store.hide(one_line(error))}; expected an MLflow tracking store") from None

    def _find_or_create(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            place = sqlite_store.artifact_location(self.uri)
            try:
                return str(self._client.create_experiment(name, artifact_location=place))
            except MlflowException:  # another process has just created it
                if (found := self._client.get_experiment_by_name(name)) is None:
                    raise
        self._require_active(found)
        return str(found.experiment_id)

    def _require_active(self, found: Experiment) -> None:
        if found.lifecycle_stage != LifecycleStage.ACTIVE:  # MLflow would refuse every run
            restore = f"mlflow experiments restore --experiment-id {found.experiment_id}"
            command = f"MLFLOW_TRACKING_URI={shlex.quote(str(self.uri))} {restore}"
            raise ModelError(
                f"{self.uri}: experiment {found.name} was deleted; expected one to log to: `{command}` restores it"
            )

    def require_experiment(self) -> None:
        """Check that nobody has deleted the experiment. Raises: ModelError with the command that restores it."""
        self._require_active(self._client.get_experiment(self._experiment))

    def start_run(self, name: str, params: Texts, tags: Texts, parent: str | None = None, at: int | None = None) -> str:
        """Create a run, nested under `parent` if given; returns its id. at: start time, ms since 1970."""
        texts = as_text(tags) | ({} if parent is None else {PARENT: parent})
        run = self._client.create_run(self._experiment, start_time=at, tags=texts, run_name=name)
        self.set_params(run.info.run_id, params)
        return str(run.info.run_id)

    def run_page(self, run_id: str) -> str:
        """The address of a run's page in MLflow's UI, behind that of the server."""
        return f"#/experiments/{self._experiment}/runs/{run_id}"

    def set_params(self, run_id: str, params: Texts) -> None:
        """Set parameters of a run; MLflow lets nobody change them afterwards."""
        self._client.log_batch(run_id, params=[Param(key, str(value)) for key, value in params.items()])

    def log_dataset(self, run_id: str, name: str, digest: str, source: str, profile: str) -> None:
        """Record which data a run used."""
        dataset = Dataset(name=name, digest=digest, source_type="local", source=source, profile=profile)
        self._client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])

    def log_points(self, run_id: str, points: Sequence[MetricPoint], at: int) -> None:
        """Log metrics with the time `at`, ms since 1970; MLflow stores a point that is logged twice only once."""
        metrics = [Metric(key, value, at, step) for key, value, step in points]
        for start in range(0, len(metrics), BATCH_POINTS):
            self._client.log_batch(run_id, metrics=metrics[start : start + BATCH_POINTS])

    def set_tags(self, run_id: str, tags: Texts) -> None:
        """Add or change tags of a run."""
        self._client.log_batch(run_id, tags=[RunTag(key, str(value)) for key, value in tags.items()])

    def log_folder(self, run_id: str, folder: Path, name: str | None = None) -> None:
        """Log every file of a folder as an artifact, in the folder `name` if given."""
        self._client.log_artifacts(run_id, str(folder), name)

    def end_run(self, run_id: str, status: str, at: int | None = None) -> None:
        """End a run as FINISHED, FAILED or KILLED. at: end time, ms since 1970."""
        self._client.set_terminated(run_id, status, at)

    def find_runs(self, key: str, value: str) -> list[str]:
        """Ids of the runs with this tag, oldest first."""
        runs = self._client.search_runs([self._experiment], f"tags.`{key}` = '{value}'", order_by=["start_time ASC"])
        return [str(run.info.run_id) for run in runs]

    def delete_run(self, run_id: str) -> None:
        """Mark a run as deleted; MLflow can restore it."""
        self._client.delete_run(run_id)

    def unfinished_runs(self) -> list[tuple[str, dict[str, str]]]:
        """Id and tags of the runs whose status is RUNNING."""
        runs = self._client.search_runs([self._experiment], "attributes.status = 'RUNNING'", max_results=1000)
        return [(str(run.info.run_id), dict(run.data.tags)) for run in runs]

    def finished_trials(self, tags: Mapping[str, str]) -> list[FinishedTrial]:
        """Finished trials with these tags, oldest first."""
        trials = [run for run in self._finished(tags) if PARENT in run.data.tags]
        return [FinishedTrial(str(r.info.run_id), dict(r.data.params), dict(r.data.metrics)) for r in trials[::-1]]

    def finished_search(self, tags: Mapping[str, str]) -> FinishedSearch | None:
        """The newest finished search with these tags that has all of its trials and a champion that can be read."""
        for run in self._finished(tags):
            if PARENT in run.data.tags:
                continue
            about, data, version = run.info, run.data, run.data.tags.get(VERSION)
            trials = self.finished_trials({PARENT: about.run_id})
            aliases = () if version is None else self._aliases(version)
            if aliases is not None and len(trials) == int(data.params.get("trials", 0)):
                number, what = int(version) if version else None, (dict(data.tags), dict(data.metrics), trials)
                return FinishedSearch(str(about.run_id), str(about.run_name), about.start_time, *what, number, aliases)
        return None

    def _finished(self, tags: Mapping[str, str]) -> Iterator[Run]:
        wanted = [f"tags.`{key}` = '{value}'" for key, value in tags.items()]
        query = " and ".join(["attributes.status = 'FINISHED'", *wanted])
        return all_pages(partial(self._client.search_runs, [self._experiment], query))

    def _aliases(self, version: str) -> Sequence[str] | None:
        """The aliases of a version; None if it was deleted, or its files were deleted or changed."""
        try:
            with tempfile.TemporaryDirectory() as scratch:
                resolve(f"models:/{self.model}/{version}", self.uri, Path(scratch))
        except ModelError:
            return None
        return tuple(self._client.get_model_version(self.model, version).aliases)

    def register(self, run_id: str, folder: Path, tags: Texts, description: str = "") -> int:
        """Register a bundle as a new version; returns its number. Raises: ModelError if it did not arrive undamaged."""
        texts = as_text(tags)
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "model"
            save_model(folder, path)
            texts[DIGEST_TAG] = tree_digest(path / BUNDLE)
            self._client.log_artifacts(run_id, str(path), "model")
        version = self._create_version(run_id, texts, description, MODEL_DESCRIPTION)
        resolve(f"models:/{self.model}/{version}", self.uri)  # compares the digest of the files that arrived
        return version

    def _create_version(self, run_id: str, tags: Mapping[str, str], description: str, model_description: str) -> int:
        try:
            self._client.create_registered_model(self.model, description=model_description)
        except MlflowException as error:
            if error.error_code != ALREADY_EXISTS:
                raise
        source = f"runs:/{run_id}/model"
        version = self._client.create_model_version(self.model, source, run_id, dict(tags), None, description or None)
        return int(version.version)

    def register_files(self, run_id: str, folder: Path, tags: Texts) -> int:
        """Log a folder unchanged as the model of a run and register it as a new version; returns its number."""
        self._client.log_artifacts(run_id, str(folder), "model")
        return self._create_version(run_id, as_text(tags), "", "Safetensors and JSON of a custom trainable.")

    def tags_by_alias(self, alias: str) -> tuple[int, Mapping[str, str]] | None:
        """The number and the tags of the version that an alias points at; None if there is no such alias."""
        version = aliases.version_of_alias(self._client, self.model, alias)
        return None if version is None else (version, self._client.get_model_version(self.model, str(version)).tags)

    def version_of_run(self, run_id: str) -> int | None:
        """The first version that was registered from a run; None if there is none."""
        found = self._client.search_model_versions(f"run_id = '{run_id}'")
        return min((int(version.version) for version in found), default=None)

    def version_by_alias(self, alias: str) -> Version | None:
        """The version that an alias points at, with its files on this machine; None if there is no such alias."""
        version = aliases.version_of_alias(self._client, self.model, alias)
        if version is None:
            return None
        try:
            return Version(version, resolve(f"models:/{self.model}/{version}", self.uri).folder)
        except ModelError as error:
            return Version(version, Path(), str(error))

    def set_alias(self, alias: str, version: int) -> None:
        """Point an alias at a version, whatever it pointed at before."""
        self._client.set_registered_model_alias(self.model, alias, str(version))

    def move_alias(self, alias: str, expected: int | None, version: int) -> bool:
        """Point an alias at a version if it points at the expected one; returns whether it does now."""
        return aliases.compare_and_set(self._client, self.model, alias, expected, version)


def _probe(store: StoreUri) -> None:
    """Make one request without MLflow's silent retries, which take minutes. Raises: ModelError without an answer."""
    creds = get_default_host_creds(store.whole)
    try:
        http_request(creds, "/health", "GET", max_retries=0, timeout=PROBE_SECONDS, raise_on_status=False)
    except (MlflowException, OSError) as error:
        why = store.hide(root_cause(error))
        raise ModelError(f"{store}: {why}; expected an MLflow tracking server that answers") from error

"""The files of a model, fetched by MLflow's own client from any store that it knows."""

from __future__ import annotations

from pathlib import Path

from agr.faults import STORE_ERRORS, first_line  # before MLflow, which it tells to be quiet

# isort: split
import mlflow.artifacts
from mlflow import MlflowClient

from agr.credentials import hide, log_in
from agr.errors import ModelError
from agr.registry import DIGEST_TAG, Found, normalise


def download(uri: str, tracking_uri: str) -> Found:
    """The files behind `models:/...` or `runs:/...`.

    Raises: ModelError if there is no such model.
    """
    uri, tracking_uri = normalise(uri), log_in(tracking_uri)
    name, version, digest = None, None, None
    try:
        client = MlflowClient(tracking_uri, tracking_uri)
        if uri.startswith("models:/"):
            name, version = _name_and_version(client, uri)
            uri = client.get_model_version_download_uri(name, str(version))
            digest = client.get_model_version(name, str(version)).tags.get(DIGEST_TAG)
        folder = mlflow.artifacts.download_artifacts(artifact_uri=uri, tracking_uri=tracking_uri)
    except STORE_ERRORS as error:
        why = f"{uri}: {first_line(error)}; expected a model in {tracking_uri}"
        raise ModelError(hide(why, tracking_uri)) from None
    return Found(Path(folder), name, version, digest)


def _name_and_version(client: MlflowClient, uri: str) -> tuple[str, int]:
    rest = uri.removeprefix("models:/")
    if "@" in rest:
        name, alias = rest.split("@", 1)
        return name, int(client.get_model_version_by_alias(name, alias).version)
    name, _, version = rest.partition("/")
    if version == "latest":
        return name, max((int(v.version) for v in client.search_model_versions(f"name = '{name}'")), default=0)
    return name, int(client.get_model_version(name, version).version)

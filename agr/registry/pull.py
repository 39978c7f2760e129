"""Download a model with MLflow's own client, from any kind of store."""

from __future__ import annotations

from pathlib import Path

from agr.registry.mlflow_env import STORE_ERRORS, is_outage, one_line, root_cause  # before MLflow

# isort: split
import mlflow.artifacts
from mlflow import MlflowClient

from agr.errors import ModelError
from agr.registry.uri import DIGEST_TAG, ModelLocation, StoreUri, normalise


def download(uri: str, tracking_uri: StoreUri | str, into: Path | None = None) -> ModelLocation:
    """The files of `models:/...` or `runs:/...`. Raises: ModelError if there is no such model.

    into: the folder to copy them to; by default one that is left behind, or where a local store has them.
    """
    uri, store = normalise(uri), StoreUri.of(tracking_uri).log_in()
    name, version, digest = None, None, None
    try:
        client = MlflowClient(store.whole, store.whole)
        if uri.startswith("models:/"):
            name, version = _name_and_version(client, uri)
            uri = client.get_model_version_download_uri(name, str(version))
            digest = client.get_model_version(name, str(version)).tags.get(DIGEST_TAG)
        folder = mlflow.artifacts.download_artifacts(
            artifact_uri=uri, dst_path=into and str(into), tracking_uri=store.whole
        )
    except STORE_ERRORS as error:
        raise ModelError(f"{uri}: {store.hide(_why(error))}; expected a model in {store}") from None
    return ModelLocation(Path(folder), name, version, digest)


def pin(uri: str, tracking_uri: StoreUri | str) -> str:
    """`models:/agr/3` for what `models:/...` names now. Raises: ModelError if there is none, or no store answers."""
    uri, store = normalise(uri), StoreUri.of(tracking_uri).log_in()
    try:
        name, version = _name_and_version(MlflowClient(store.whole, store.whole), uri)
    except STORE_ERRORS as error:
        raise ModelError(f"{uri}: {store.hide(_why(error))}; expected a model in {store}") from None
    return f"models:/{name}/{version}"


def _why(error: Exception) -> str:
    """Of a store that does not answer only the operating system's message, for MLflow adds those of three libraries."""
    return root_cause(error) if is_outage(error) else one_line(error)


def _name_and_version(client: MlflowClient, uri: str) -> tuple[str, int]:
    rest = uri.removeprefix("models:/")
    if "@" in rest:
        name, alias = rest.split("@", 1)
        return name, int(client.get_model_version_by_alias(name, alias).version)
    name, _, version = rest.partition("/")
    if version == "latest":
        return name, max((int(v.version) for v in client.search_model_versions(f"name = '{name}'")), default=0)
    return name, int(client.get_model_version(name, version).version)

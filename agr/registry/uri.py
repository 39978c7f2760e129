"""Names in the model registry: store URIs, model URIs, aliases. Nothing here opens a store."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from agr.common.credentials import harmless, hide, log_in

STORE = Path("mlflow_store")
EXPERIMENT = "agr"
REGISTERED_MODEL = "agr"
BEST, CHALLENGER = "best", "challenger"  # aliases
MODEL_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<version>\d+|latest)|@(?P<alias>[^/@]+))")
ALIAS_AS_STAGE = re.compile(r"models:/([^/@]+)/([^/@]*[^/@\d][^/@]*)")
NAME_ALONE = re.compile(r"models:/(?!m-[0-9a-f]{32})[^/@]+")  # MLflow itself names a model that was logged m-...
SQLITE = "sqlite:///"
DIGEST_TAG = "bundle_sha256"  # of a version: what `files.tree_digest` said of its bundle when it was registered
ARTIFACTS = "artifacts"  # beside a SQLite store: a folder for each run, in which MLflow makes another of that name
BUNDLE = Path("data") / "bundle"  # where an MLflow model keeps the bundle
COLUMN = "audio"  # of the table that it answers


@dataclass(frozen=True)
class ModelLocation:
    """A model's folder on this machine, and its registered name, version and bundle's digest where it has them."""

    folder: Path
    name: str | None = None
    version: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, repr=False)
class StoreUri:
    """The URI of an MLflow store. As text it shows no password and no query; only `whole` holds them.

    Attributes:
        whole: what MLflow is given.
    """

    whole: str

    @classmethod
    def of(cls, uri: StoreUri | str) -> StoreUri:
        """The URI that a caller from outside passed as text."""
        return cls(uri) if isinstance(uri, str) else uri

    @classmethod
    def from_option(cls, text: str) -> StoreUri:
        """For argparse's `type`. Raises: SettingsError if the text holds a password."""
        return cls(harmless(text))

    @classmethod
    def default(cls) -> StoreUri:
        """`MLFLOW_TRACKING_URI`, else the SQLite store in `mlflow_store/` of the current folder.

        A server's user and password are taken out of the variable and put into MLflow's own two.
        """
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            return cls(f"{SQLITE}{(STORE / 'mlflow.db').resolve()}")
        uri = cls(os.environ["MLFLOW_TRACKING_URI"]).log_in()
        os.environ["MLFLOW_TRACKING_URI"] = uri.whole
        return uri

    def __str__(self) -> str:
        return self.shown

    __repr__ = __str__

    @property
    def shown(self) -> str:
        """The URI as people may see it."""
        return self.hide(self.whole)

    @property
    def is_server(self) -> bool:
        """Whether MLflow reaches it over HTTP."""
        return self.whole.startswith(("http://", "https://"))

    @property
    def database(self) -> Path | None:
        """The SQLite file; None for any other store. Parameters like `?timeout=30` are no part of its name."""
        path = self.whole.removeprefix(SQLITE).partition("?")[0]
        plain = self.whole.startswith(SQLITE) and path not in ("", ":memory:") and not path.startswith("file:")
        return Path(path) if plain else None

    def hide(self, text: str) -> str:
        """A text in which this URI's user, password and query are replaced by `***`."""
        return hide(text, self.whole)

    def log_in(self) -> StoreUri:
        """The URI without a server's user and password, which MLflow finds in its own variables from now on."""
        return StoreUri(log_in(self.whole))


def normalise(uri: str) -> str:
    """`models:/agr/best` to `models:/agr@best`: MLflow takes the first for one of its old stages."""
    match = ALIAS_AS_STAGE.fullmatch(uri)
    if match is None or match[2] == "latest":
        return uri
    return f"models:/{match[1]}@{match[2]}"

"""Store URIs, model URIs and names in the registry. Nothing here opens a store."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from agr.common.credentials import harmless, hide, log_in
from agr.common.places import STORE, STORE_VARIABLE, nearest_store, store_folder

TRACKING_URI = "MLFLOW_TRACKING_URI"
DATABASE = "mlflow.db"  # in the folder of a store
EXPERIMENT = "agr"
REGISTERED_MODEL = "agr"
BEST, CHALLENGER = "best", "challenger"  # aliases
CHAMPION = "champion"  # as a model URI: the one that comes with AGR
MODEL_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<version>\d+|latest)|@(?P<alias>[^/@]+))")
ALIAS_AS_STAGE = re.compile(r"models:/([^/@]+)/([^/@]*[^/@\d][^/@]*)")
NAME_ALONE = re.compile(r"models:/(?!m-[0-9a-f]{32})[^/@]+")  # MLflow names logged models m-...
SQLITE = "sqlite:///"
DIGEST_TAG = "bundle_sha256"  # tag of a version: `files.tree_digest` of its bundle
ARTIFACTS = "artifacts"  # beside a SQLite store: ARTIFACTS/RUN/ARTIFACTS/...
BUNDLE = Path("data") / "bundle"  # inside an MLflow model
COLUMN = "audio"  # of the table that an MLflow model is given


@dataclass(frozen=True)
class ModelLocation:
    """A model's folder on this machine; name, version and digest of the bundle if it is registered."""

    folder: Path
    name: str | None = None
    version: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, repr=False)
class StoreUri:
    """The URI of an MLflow store. As text it shows neither password nor query."""

    whole: str  # with password and query, for MLflow only

    @classmethod
    def of(cls, uri: StoreUri | str) -> StoreUri:
        """Accept text as well."""
        return cls(uri) if isinstance(uri, str) else uri

    @classmethod
    def from_option(cls, text: str) -> StoreUri:
        """For argparse's `type`. Raises: SettingsError if the text contains a password."""
        return cls(harmless(text))

    @classmethod
    def default(cls) -> StoreUri:
        """`MLFLOW_TRACKING_URI`, else `AGR_STORE` if it is a URI, else the SQLite store in `store_folder`.

        User and password of a server are moved from the variable to MLflow's own two.
        """
        variable = _variable()
        if variable is None:
            return cls(f"{SQLITE}{(store_folder() / DATABASE).resolve()}")
        uri = cls(os.environ[variable]).log_in()
        os.environ[variable] = uri.whole
        return uri

    @classmethod
    def searched(cls) -> str:
        """How `default` found its store, for an error."""
        if named := _variable() or (os.environ.get(STORE_VARIABLE) and STORE_VARIABLE):
            return f"{named} names it"
        above = f"this is the nearest {STORE}/" if nearest_store() else f"no {STORE}/ in {Path.cwd()} or above it"
        return f"{TRACKING_URI} and {STORE_VARIABLE} are not set; {above}"

    def __str__(self) -> str:
        return self.hide(self.whole)

    __repr__ = __str__

    @property
    def is_server(self) -> bool:
        """Whether MLflow reaches it over HTTP."""
        return self.whole.startswith(("http://", "https://"))

    @property
    def database(self) -> Path | None:
        """The SQLite file, without parameters like `?timeout=30`; None for any other store."""
        path = self.whole.removeprefix(SQLITE).partition("?")[0]
        plain = self.whole.startswith(SQLITE) and path not in ("", ":memory:") and not path.startswith("file:")
        return Path(path) if plain else None

    def hide(self, text: str) -> str:
        """The text with this URI's user, password and query replaced by `***`."""
        return hide(text, self.whole)

    def log_in(self) -> StoreUri:
        """The URI without user and password of a server, which are put into MLflow's own variables."""
        return StoreUri(log_in(self.whole))


def _variable() -> str | None:
    """The variable that names the URI of a store; None if a folder holds it."""
    if os.environ.get(TRACKING_URI):
        return TRACKING_URI
    return STORE_VARIABLE if "://" in os.environ.get(STORE_VARIABLE, "") else None


def normalise(uri: str) -> str:
    """`models:/agr/best` to `models:/agr@best`: MLflow reads the first as one of its old stages."""
    match = ALIAS_AS_STAGE.fullmatch(uri)
    return f"models:/{match[1]}@{match[2]}" if match and match[2] != "latest" else uri

"""Move a laptop's runs and registered models to a tracking server, or to any other MLflow store.

    python -m agr.migrate --from mlflow_store --to https://mlflow.example.org

It may be stopped at any time and repeated: what has arrived is recognised by its tag `agr.migrated_from` and left as
it is, a run that arrived in part is sent again. The source is only read. A server's user and password stand in
MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, a PostgreSQL's password in PGPASSWORD; none is ever shown.

Versions whose files belong to no run that is moved are left behind (said, with exit status 1), and so are deleted
runs, traces, prompts and the models of MLflow's own `log_model`. One migration into a store at a time.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from agr.common.cli import complain
from agr.common.progress import terminal_progress
from agr.errors import ModelError, SettingsError
from agr.registry.migration import CONTENTS, MOVED, RESENT, THERE, Migration
from agr.registry.mlflow_env import STORE_ERRORS, one_line
from agr.registry.uri import SQLITE, STORE, StoreUri

# isort: split


def _source(text: str) -> StoreUri:
    """A store, or the folder of one."""
    return StoreUri.from_option(text if "://" in text else f"{SQLITE}{text}/mlflow.db")


def _place(uri: StoreUri) -> str:
    return os.path.realpath(uri.database) if uri.database is not None else uri.whole


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 1 if something was left behind."""
    parser = argparse.ArgumentParser(prog="python -m agr.migrate", description="Move runs and models to another store.")
    where = "a folder or a URI (default: mlflow_store)"
    home = StoreUri(f"{SQLITE}{STORE}/mlflow.db")
    parser.add_argument("--from", dest="source", type=_source, metavar="URI", default=home, help=where)
    to = "the store that is to have them"
    parser.add_argument("--to", dest="target", type=StoreUri.from_option, metavar="URI", required=True, help=to)
    parser.add_argument("--aliases", choices=("keep", "overwrite"), default="keep", help="that differ (default: keep)")
    options = parser.parse_args(arguments)
    source, target = options.source, options.target
    if source.database is not None and not source.database.is_file():
        raise ModelError(f"--from {source}: no such file; expected a store that a search has filled")
    if "://" not in target.whole or _place(source) == _place(target):
        raise SettingsError(f"--to {target}: expected the URI of another MLflow store")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # of every run
    try:
        migration = Migration(source, target.log_in(), options.aliases == "overwrite", terminal_progress)
        migration.run()
    except (*STORE_ERRORS, ModelError) as error:
        raise ModelError(source.hide(target.hide(one_line(error)))) from None
    for kind in CONTENTS:
        said = [f"{n} {what}" for what in (MOVED, RESENT, THERE) if (n := migration.counts[kind, what])]
        print(f"{kind}: {', '.join(said) or 'none'}")
    print(*migration.notes, sep="\n", end="\n" * bool(migration.notes))
    for text in migration.left_behind:
        complain(f"left behind: {text}")
    return int(bool(migration.left_behind))


if __name__ == "__main__":
    from agr.common.cli import run

    run(main)

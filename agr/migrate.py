"""Move runs and registered models from one MLflow store to another, such as from a laptop to a tracking server.

    python -m agr.migrate --from mlflow_store --to https://mlflow.example.org

It may be stopped and repeated: runs and versions that have arrived are recognised by the tag `agr.migrated_from`; a run
that arrived in part is sent again. The source is only read. A server's user and password are read from
MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, a PostgreSQL password from PGPASSWORD; none is ever shown. Not
moved are deleted runs, traces, prompts, models of MLflow's own `log_model`, and versions whose files belong to no run
that is moved; such versions are listed, and the exit status is 1. Run one migration into a store at a time.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from agr.common.cli import ArgumentParser, complain, run
from agr.common.places import store_folder
from agr.common.printable import printable
from agr.common.progress import terminal_progress
from agr.errors import ModelError, SettingsError
from agr.registry.migration import CONTENTS, MOVED, RESENT, THERE, Migration
from agr.registry.mlflow_env import STORE_ERRORS, one_line  # before MLflow, whose output it silences
from agr.registry.uri import DATABASE, SQLITE, StoreUri

# isort: split


def _source(text: str) -> StoreUri:
    """The URI of a store, from a URI or a folder."""
    return StoreUri.from_option(text if "://" in text else f"{SQLITE}{text}/{DATABASE}")


def _location(uri: StoreUri) -> str:
    return os.path.realpath(uri.database) if uri.database is not None else uri.whole


def main(arguments: Sequence[str] | None = None, prog: str = "python -m agr.migrate") -> int:
    """Run the command; returns the exit status, 1 if something was left behind."""
    parser = ArgumentParser(prog=prog, description="Move runs and models to another store.")
    where = "the store to read, a folder or a URI (default: the nearest mlflow_store/ upwards)"
    home = StoreUri(f"{SQLITE}{store_folder()}/{DATABASE}")
    parser.add_argument("--from", dest="source", type=_source, metavar="URI", default=home, help=where)
    to = "the URI of the store to write to"
    parser.add_argument("--to", dest="target", type=StoreUri.from_option, metavar="URI", required=True, help=to)
    differ = "what to do with aliases that differ in the target (default: keep)"
    parser.add_argument("--aliases", choices=("keep", "overwrite"), default="keep", help=differ)
    options = parser.parse_args(arguments)
    source, target = options.source, options.target
    if source.database is not None and not source.database.is_file():
        raise ModelError(f"--from {source}: no such file; expected a store that a search has filled")
    if "://" not in target.whole or _location(source) == _location(target):
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
    print(*map(printable, migration.notes), sep="\n", end="\n" * bool(migration.notes))
    for text in migration.left_behind:
        complain(f"left behind: {text}")
    return int(bool(migration.left_behind))


if __name__ == "__main__":
    run(main)

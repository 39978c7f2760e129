"""Deliver to MLflow what a search could not deliver itself.

python -m search.outbox deliver mlflow_store/outbox/FILE.jsonl
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agr.common.cli import ArgumentParser
from agr.common.credentials import harmless
from agr.errors import OutageError, StoreError
from agr.registry.uri import REGISTERED_MODEL
from search.outbox.deliverer import deliver_file
from search.outbox.entries import read
from search.outbox.mlflow_process import MlflowProcess


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 1 if MLflow refused something."""
    parser = ArgumentParser(prog="python -m search.outbox", description="Deliver what MLflow did not receive.")
    parser.add_argument("action", choices=("deliver",))
    parser.add_argument("file", type=Path, help="left by a search in mlflow_store/outbox")
    parser.add_argument(
        "--tracking-uri", type=harmless, help="default: the store that the search logged to, else MLFLOW_TRACKING_URI"
    )
    options = parser.parse_args(arguments)
    left = read(options.file)
    with MlflowProcess() as mlflow:
        store = mlflow.open(options.tracking_uri or left.uri, left.experiment, REGISTERED_MODEL)
        try:
            undelivered = deliver_file(store, options.file)
        except StoreError as error:
            raise OutageError(f"{store.uri}: {error}; {options.file} stays") from error
    print(f"{undelivered.points} points of {len(undelivered.runs)} runs delivered to {store.uri}")
    return 1 if undelivered.refused else 0


if __name__ == "__main__":
    from agr.common.cli import run

    run(main)

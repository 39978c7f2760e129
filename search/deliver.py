"""The command line of `python -m search.outbox`: what a search could not deliver to MLflow itself, from its file.

python -m search.outbox deliver mlflow_store/outbox/FILE.jsonl
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from agr.credentials import hide
from agr.errors import OutageError, StoreError
from agr.registry import EXPERIMENT, REGISTERED_MODEL, STORE
from search.clerk import Clerk
from search.entries import deliver_file, read


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m search.outbox", description="Deliver what MLflow did not get.")
    parser.add_argument("action", choices=("deliver",))
    parser.add_argument("file", type=Path, help=f"made by a search in {STORE / 'outbox'}")
    parser.add_argument("--tracking-uri", help="default: the store that the search logged to, else MLFLOW_TRACKING_URI")
    options = parser.parse_args(arguments)
    uri = options.tracking_uri or read(options.file).uri
    with Clerk() as clerk:
        tracker = clerk.open(uri, EXPERIMENT, REGISTERED_MODEL)
        shown = hide(tracker.uri, tracker.uri)
        try:
            left = deliver_file(tracker, options.file)
        except StoreError as error:
            raise OutageError(f"{shown}: {error}; {options.file} stays") from error
    print(f"{left.points} points of {len(left.runs)} runs delivered to {shown}")
    return 0

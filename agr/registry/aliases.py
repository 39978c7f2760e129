"""Compare-and-set of an alias, which MLflow's registry lacks.

    moved = compare_and_set(client, "agr", "best", expected=3, version=4)

Every store creates a registered model of a given name only once, so a model `agr.best.moving` is the lock and a tag of
it names the owner. Who waits deletes a lock that had one owner for LEASE_SECONDS. Known limit: a process suspended for
that long before its last request still moves the alias; so may two that delete an abandoned lock at the same instant.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from agr.registry.mlflow_env import ALREADY_EXISTS, DOES_NOT_EXIST, NOT_FOUND  # before MLflow

# isort: split
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

LEASE_SECONDS, POLL_SECONDS = 30.0, 0.2
OWNER = "owner"


def version_of_alias(client: MlflowClient, model: str, alias: str) -> int | None:
    """The number of the version that an alias points at; None if there is no such alias."""
    found = _if_there(client.get_model_version_by_alias, model, alias)
    return int(found.version) if found else None


def compare_and_set(client: MlflowClient, model: str, alias: str, expected: int | None, version: int) -> bool:
    """Point an alias at a version if it points at the expected one (None: no such alias); returns whether it does."""
    lock = f"{model}.{alias}.moving"
    with _locked(client, lock) as owner:
        now = version_of_alias(client, model, alias)
        if now == version:  # the call is repeated because its answer was lost
            return True
        if now != expected or _owner(client, lock) != owner:
            return False
        client.set_registered_model_alias(model, alias, str(version))
        return True


@contextmanager
def _locked(client: MlflowClient, lock: str) -> Iterator[str]:
    """Wait for the lock and hold it; yields the name of its owner."""
    own, other, since = uuid.uuid4().hex, "", time.monotonic()
    while not _create(client, lock, own):
        if (found := _owner(client, lock)) != other:
            other, since = found, time.monotonic()
        elif found and time.monotonic() - since > LEASE_SECONDS:
            _if_there(client.delete_registered_model, lock)
        time.sleep(POLL_SECONDS)
    try:
        yield own
    finally:
        if _owner(client, lock) == own:
            _if_there(client.delete_registered_model, lock)


def _create(client: MlflowClient, lock: str, own: str) -> bool:
    try:
        client.create_registered_model(lock, {OWNER: own}, "A lock that AGR holds for a moment.")
    except MlflowException as error:
        if error.error_code not in (ALREADY_EXISTS, DOES_NOT_EXIST):  # the second if the lock was deleted meanwhile
            raise
        return _owner(client, lock) == own  # a request that was sent twice
    return True


def _owner(client: MlflowClient, lock: str) -> str:
    found = _if_there(client.get_registered_model, lock)
    return str(found.tags.get(OWNER, "?")) if found else ""


def _if_there(call: Callable[..., Any], *values: str) -> Any:
    """Make a call of MLflow's client; None if what it is about does not exist."""
    try:
        return call(*values)
    except MlflowException as error:
        if error.error_code not in NOT_FOUND:
            raise
        return None

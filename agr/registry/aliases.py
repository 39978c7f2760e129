"""Compare-and-set of an alias, which MLflow's registry lacks.

    moved = compare_and_set(client, "agr", "best", expected=3, version=4)

MLflow sets an alias without any check, but every store creates a registered model of a given name only once. So a
registered model `agr.best.moving` is the lock: its creator reads the alias, moves it and deletes the lock. A tag of the
lock names its owner. A lock with the same owner for LEASE_SECONDS was left by a process that died, and whoever waits
deletes it; each process measures that with its own clock.

Known limit: a process that is suspended for that long between its last check of the lock and its next request still
moves the alias, and so may two processes that delete an abandoned lock at the same instant.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from agr.registry.mlflow_env import ALREADY_EXISTS, DOES_NOT_EXIST, NOT_FOUND  # before MLflow

# isort: split
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

LEASE_SECONDS, POLL_SECONDS = 30.0, 0.2
OWNER = "owner"


def version_of_alias(client: MlflowClient, model: str, alias: str) -> int | None:
    """The number of the version that an alias points at; None if there is no such alias."""
    try:
        return int(client.get_model_version_by_alias(model, alias).version)
    except MlflowException as error:
        if error.error_code not in NOT_FOUND:
            raise
        return None


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
            _delete(client, lock)
        time.sleep(POLL_SECONDS)
    try:
        yield own
    finally:
        if _owner(client, lock) == own:
            _delete(client, lock)


def _create(client: MlflowClient, lock: str, own: str) -> bool:
    try:
        client.create_registered_model(lock, {OWNER: own}, "A lock that AGR holds for a moment.")
    except MlflowException as error:
        if error.error_code not in (ALREADY_EXISTS, DOES_NOT_EXIST):  # the second if the lock was deleted meanwhile
            raise
        return _owner(client, lock) == own  # a request that was sent twice
    return True


def _owner(client: MlflowClient, lock: str) -> str:
    try:
        return str(client.get_registered_model(lock).tags.get(OWNER, "?"))
    except MlflowException as error:
        if error.error_code not in NOT_FOUND:
            raise
        return ""


def _delete(client: MlflowClient, lock: str) -> None:
    try:
        client.delete_registered_model(lock)
    except MlflowException as error:
        if error.error_code not in NOT_FOUND:
            raise

"""Compare-and-set of an alias on a real SQLite store, by several processes of which one may die."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST

from tests.stores import new_store

if TYPE_CHECKING:
    from mlflow import MlflowClient

pytestmark = pytest.mark.usefixtures("elsewhere")

VERSIONS = 5
LOCK = "m.best.moving"


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with a registered model `m` of five versions."""
    folder = tmp_path_factory.mktemp("aliases")
    uri = new_store(folder)
    client = opened(uri)
    client.create_registered_model("m")
    for _ in range(VERSIONS):
        client.create_model_version("m", str(folder))
    return uri


@pytest.fixture
def client(uri: str, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """The store without aliases and locks, which are waited for only briefly."""
    from agr.registry import aliases

    monkeypatch.setattr(aliases, "POLL_SECONDS", 0.01)
    found = opened(uri)
    found.delete_registered_model_alias("m", "best")
    for model in found.search_registered_models():
        if model.name != "m":
            found.delete_registered_model(model.name)
    return found


def opened(uri: str) -> MlflowClient:
    from mlflow import MlflowClient

    return MlflowClient(uri, uri)


def best(client: MlflowClient) -> dict[str, int]:
    """Every alias of `m`, and that no lock is left."""
    assert [model.name for model in client.search_registered_models()] == ["m"]
    return {alias: int(version) for alias, version in client.get_registered_model("m").aliases.items()}


def test_an_alias_moves_from_the_expected_version_only(client: MlflowClient) -> None:
    from agr.registry.aliases import compare_and_set, version_of_alias

    assert version_of_alias(client, "m", "best") is None
    assert version_of_alias(client, "no such model", "best") is None
    assert not compare_and_set(client, "m", "best", 1, 2)
    assert best(client) == {}
    assert compare_and_set(client, "m", "best", None, 2)
    assert not compare_and_set(client, "m", "best", None, 3)
    assert not compare_and_set(client, "m", "best", 1, 3)
    assert best(client) == {"best": 2}
    assert compare_and_set(client, "m", "best", 2, 3)
    assert version_of_alias(client, "m", "best") == 3
    assert compare_and_set(client, "m", "best", 2, 3)  # the same call again, as when its answer was lost
    assert best(client) == {"best": 3}


def test_one_of_several_that_expect_the_same_version_moves_the_alias(uri: str, client: MlflowClient) -> None:
    from agr.registry.aliases import compare_and_set

    barrier = threading.Barrier(VERSIONS)

    def move(version: int) -> bool:
        own = opened(uri)
        barrier.wait()
        return compare_and_set(own, "m", "best", None, version)

    with ThreadPoolExecutor(VERSIONS) as pool:
        moved = list(pool.map(move, range(1, VERSIONS + 1)))
    assert sum(moved) == 1
    assert best(client) == {"best": moved.index(True) + 1}


class Stopped:
    """A client that stops before it sets an alias, as a slow process would, until it is let go."""

    def __init__(self, client: MlflowClient) -> None:
        self._client, self.arrived, self.go = client, threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        self.arrived.set()
        assert self.go.wait(60)
        self._client.set_registered_model_alias(name, alias, version)


def test_a_second_caller_waits_for_the_first_and_then_changes_nothing(uri: str, client: MlflowClient) -> None:
    from agr.registry.aliases import compare_and_set

    slow: Any = Stopped(opened(uri))
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(compare_and_set, slow, "m", "best", None, 1)
        assert slow.arrived.wait(60)
        second = pool.submit(compare_and_set, client, "m", "best", None, 2)
        assert not second.done()
        slow.go.set()
        assert (first.result(60), second.result(60)) == (True, False)
    assert best(client) == {"best": 1}


def test_a_lock_whose_owner_died_is_taken_over(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from agr.registry import aliases

    client.create_registered_model(LOCK, {aliases.OWNER: "dead"})
    monkeypatch.setattr(aliases, "LEASE_SECONDS", 0.05)
    assert aliases.compare_and_set(client, "m", "best", None, 1)
    assert best(client) == {"best": 1}


def test_a_caller_that_lost_the_lock_changes_nothing(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from agr.registry import aliases

    def look(found: MlflowClient, model: str, alias: str) -> None:
        found.delete_registered_model(LOCK)  # another process took this one for dead
        found.create_registered_model(LOCK, {aliases.OWNER: "another"})

    monkeypatch.setattr(aliases, "version_of_alias", look)
    assert not aliases.compare_and_set(client, "m", "best", None, 1)
    assert client.get_registered_model(LOCK).tags == {aliases.OWNER: "another"}  # and leaves the other's lock alone
    assert client.get_registered_model("m").aliases == {}


def test_an_error_of_the_store_is_not_taken_for_a_lock(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.exceptions import MlflowException

    from agr.registry import aliases

    def refuse(*args: object) -> None:
        raise MlflowException("out of order")

    monkeypatch.setattr(client, "create_registered_model", refuse)
    with pytest.raises(MlflowException, match="out of order"):
        aliases.compare_and_set(client, "m", "best", None, 1)


class Refusing:
    """A client that refuses to create the lock, the first `times` times."""

    def __init__(self, code: int, times: float) -> None:
        self._code, self._times, self.calls = code, times, 0
        self._owner: dict[str, str] | None = None
        self.aliases: dict[str, str] = {}

    def _refuse(self, code: int) -> None:
        from mlflow.exceptions import MlflowException

        raise MlflowException("refused", error_code=code)

    def create_registered_model(self, name: str, tags: dict[str, str], description: str) -> None:
        self.calls += 1
        if self.calls <= self._times:
            self._refuse(self._code)
        self._owner = tags

    def get_registered_model(self, name: str) -> Any:
        if self._owner is None:
            self._refuse(RESOURCE_DOES_NOT_EXIST)
        return SimpleNamespace(tags=self._owner)

    def delete_registered_model(self, name: str) -> None:
        self._owner = None

    def get_model_version_by_alias(self, name: str, alias: str) -> Any:
        self._refuse(RESOURCE_DOES_NOT_EXIST)

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        self.aliases[alias] = version


def test_a_lock_that_is_deleted_while_mlflow_reads_it_is_tried_again() -> None:
    """MLflow meets another process's lock, reads it, and finds that it no longer exists."""
    from agr.registry.aliases import compare_and_set

    client: Any = Refusing(RESOURCE_DOES_NOT_EXIST, times=1)
    assert compare_and_set(client, "m", "best", None, 1)
    assert (client.calls, client.aliases) == (2, {"best": "1"})


def test_a_lock_that_mlflow_refuses_is_not_tried_for_ever() -> None:
    from mlflow.exceptions import MlflowException

    from agr.registry.aliases import compare_and_set

    client: Any = Refusing(INVALID_PARAMETER_VALUE, times=math.inf)
    with pytest.raises(MlflowException, match="refused"):
        compare_and_set(client, "a/b", "best", None, 1)
    assert (client.calls, client.aliases) == (1, {})

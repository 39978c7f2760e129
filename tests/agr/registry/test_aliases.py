"""Compare-and-set of an alias on a real SQLite store: of several one moves it, and a dead one holds nobody up long."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from mlflow import MlflowClient

from agr.registry.uri import StoreUri

pytestmark = [
    pytest.mark.usefixtures("elsewhere"),
]

VERSIONS = 5
LOCK = "m.best.moving"


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with a registered model `m` of five versions."""
    from agr.registry import sqlite_store

    folder = tmp_path_factory.mktemp("aliases")
    sqlite_store.create(StoreUri(f"sqlite:///{folder}/mlflow.db"))
    client = opened(f"sqlite:///{folder}/mlflow.db")
    client.create_registered_model("m")
    for _ in range(VERSIONS):
        client.create_model_version("m", str(folder))
    return f"sqlite:///{folder}/mlflow.db"


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


def test_of_those_that_expect_the_same_version_one_moves_it(uri: str, client: MlflowClient) -> None:
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


def test_who_comes_between_the_look_and_the_move_waits_and_finds_it_moved(uri: str, client: MlflowClient) -> None:
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


def test_who_lost_the_lock_meanwhile_moves_nothing(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from agr.registry import aliases

    def look(found: MlflowClient, model: str, alias: str) -> None:
        found.delete_registered_model(LOCK)  # another process took this one for dead
        found.create_registered_model(LOCK, {aliases.OWNER: "another"})

    monkeypatch.setattr(aliases, "version_of_alias", look)
    assert not aliases.compare_and_set(client, "m", "best", None, 1)
    assert client.get_registered_model(LOCK).tags == {aliases.OWNER: "another"}  # and leaves the other's lock alone
    assert client.get_registered_model("m").aliases == {}


def test_a_store_in_trouble_is_no_lock_that_is_taken(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.exceptions import MlflowException

    from agr.registry import aliases

    def refuse(*args: object) -> None:
        raise MlflowException("out of order")

    monkeypatch.setattr(client, "create_registered_model", refuse)
    with pytest.raises(MlflowException, match="out of order"):
        aliases.compare_and_set(client, "m", "best", None, 1)


def test_a_lock_that_goes_while_mlflow_looks_at_it_is_tried_again() -> None:
    """MLflow meets the other's lock, asks for it, and finds that it is no longer there."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

    from agr.registry import aliases

    class Client:
        calls = 0

        def create_registered_model(self, *_: object) -> None:
            self.calls += 1
            if self.calls == 1:
                raise MlflowException("gone", error_code=RESOURCE_DOES_NOT_EXIST)

        def get_registered_model(self, name: str) -> None:
            raise MlflowException("gone", error_code=RESOURCE_DOES_NOT_EXIST)

    client = Client()
    with aliases._locked(client, "m.best.moving") as owner:
        assert owner
    assert client.calls == 2


def test_a_lock_that_mlflow_refuses_is_not_tried_for_ever() -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

    from agr.registry import aliases

    class Client:
        def create_registered_model(self, *_: object) -> None:
            raise MlflowException("no such name", error_code=INVALID_PARAMETER_VALUE)

        def get_registered_model(self, name: str) -> None:
            raise AssertionError("a refusal is no lock to wait for")

    with pytest.raises(MlflowException, match="no such name"), aliases._locked(Client(), "a/b.best.moving"):
        pass

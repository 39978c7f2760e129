"""A store whose calls are made elsewhere: by MLflow's own process.

client = StoreClient(call, uri, "agr")
client.unfinished_runs()                         # returns call(Store.unfinished_runs)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from agr.registry.records import Store
from agr.registry.uri import StoreUri

P = ParamSpec("P")
T = TypeVar("T")


class Call(Protocol):
    """Makes a call of a store and returns its answer."""

    def __call__(self, method: Callable[Concatenate[Store, P], T], /, *values: P.args, **named: P.kwargs) -> T:
        """Raises: StoreError if the store does not take the call."""


def _sent(method: Callable[Concatenate[Store, P], T]) -> Callable[Concatenate[StoreClient, P], T]:
    def send(client: StoreClient, /, *values: P.args, **named: P.kwargs) -> T:
        return client.call(method, *values, **named)

    return send


class StoreClient:
    """Has the methods of `Store`, and each sends itself."""

    def __init__(self, call: Call, uri: StoreUri, model: str) -> None:
        """Pass every call on to `call`."""
        self.call, self.uri, self.model = call, uri, model

    start_run = _sent(Store.start_run)
    set_params = _sent(Store.set_params)
    log_dataset = _sent(Store.log_dataset)
    log_points = _sent(Store.log_points)
    set_tags = _sent(Store.set_tags)
    log_folder = _sent(Store.log_folder)
    end_run = _sent(Store.end_run)
    find_runs = _sent(Store.find_runs)
    delete_run = _sent(Store.delete_run)
    unfinished_runs = _sent(Store.unfinished_runs)
    finished_trials = _sent(Store.finished_trials)
    register = _sent(Store.register)
    register_files = _sent(Store.register_files)
    version_of_run = _sent(Store.version_of_run)
    version_by_alias = _sent(Store.version_by_alias)
    tags_by_alias = _sent(Store.tags_by_alias)
    set_alias = _sent(Store.set_alias)
    move_alias = _sent(Store.move_alias)

"""MLflow in another process: imported there while this one imports torch, and never in this one's way.

    with MlflowProcess() as mlflow:
        store = mlflow.open(tracking_uri, "agr", "agr")    # a `Store`, as `agr.registry.tracker.Tracker` is

A call that MLflow does not take raises StoreError. If the process dies, the next call has another one.
"""

from __future__ import annotations

import functools
import os
import re
import textwrap
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any, Self, cast

from agr.common.function_worker import FunctionWorker
from agr.common.waiting import result_of
from agr.common.worker import WorkerDied
from agr.errors import AgrError, ModelError, StoreError
from agr.registry.records import Store
from agr.registry.uri import EXPERIMENT, StoreUri

Target = tuple[StoreUri | None, str, str]  # a store's URI, its experiment, the model's name
ENDED = "its process ended"
PATIENCE = 180  # seconds in which MLflow's process may do nothing: a server may take 30 to answer, three times
SYSTEM_ERROR = re.compile(r"\[Errno -?\d+\] ([^'\")]+)")


class MlflowProcess:
    """The process. It makes calls one after the other, in their order."""

    def __init__(self) -> None:
        """Start it; it imports MLflow at once."""
        self._worker = FunctionWorker("agr.registry.tracker", name="the MLflow process")
        self._worker.patience = PATIENCE
        self._target: Target | None = None
        self._opened = False

    @property
    def pid(self) -> int | None:
        """Its process id; None while there is no process."""
        return self._worker.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.close()

    def open(self, uri: str | None, experiment: str, model: str) -> Store:
        """A store; None is `StoreUri.default`. Returns at once, the first call opens it.

        Calls raise ModelError if it could not be opened, until the first that was answered.
        """
        named = StoreUri(uri) if uri else None
        self._target = named, experiment, model
        return client(self._call, named.log_in() if named else StoreUri.default(), model, experiment)

    def _call(self, method: str, /, *values: Any, **named: Any) -> Any:
        assert self._target is not None
        for last in (self._opened, True):  # opening a store twice does no harm
            try:
                reply = self._worker.submit(_call, self._target, method, *values, **named)
                answer, error, opened = result_of(reply, "MLflow")
                break
            except (WorkerDied, CancelledError):
                if last:
                    raise StoreError(ENDED, passing=True) from None
        if self._opened and not opened:  # a new process met an outage
            error = StoreError(str(error), passing=True)
        self._opened |= opened
        if error is not None:
            raise error
        return answer


class _Client:
    def __init__(self, call: Callable[..., Any], uri: StoreUri, model: str, experiment: str) -> None:
        self._call, self.uri, self.model, self.experiment = call, uri, model, experiment

    def __getattr__(self, method: str) -> Callable[..., Any]:
        return functools.partial(self._call, method)


def client(call: Callable[..., Any], uri: StoreUri, model: str, experiment: str = EXPERIMENT) -> Store:
    """A store whose methods are carried out by `call`, which gets the method's name and its arguments."""
    return cast(Store, _Client(call, uri, model, experiment))


def _call(target: Target, method: str, /, *values: Any, **named: Any) -> tuple[Any, AgrError | None, bool]:
    """In MLflow's process: make a call. Returns: its answer, or its error, and whether the store is open."""
    answer, refusal = None, None
    try:
        answer = make(_open(*target), method, *values, **named)
    except AgrError as error:
        refusal = error
    return answer, refusal, _open.cache_info().currsize > 0


@functools.cache  # an error is raised again by the next call, which tries anew
def _open(uri: StoreUri | None, experiment: str, model: str) -> Store:
    from agr.registry.tracker import Tracker

    tracker = Tracker(uri or StoreUri.default(), experiment, model)
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"  # from here on a repeated call must be known as one
    return tracker


def make(store: Store, method: str, /, *values: Any, **named: Any) -> Any:
    """Make a call of a store. Raises: StoreError, or ModelError that no failing call is behind."""
    from agr.registry.mlflow_env import STORE_ERRORS, is_outage

    try:
        return getattr(store, method)(*values, **named)
    except ModelError as error:
        first = error.__context__
        if isinstance(first, STORE_ERRORS) and is_outage(first):
            raise StoreError(reason(first, store.uri), passing=True) from error
        raise
    except AgrError:
        raise
    except Exception as error:  # whatever it is, the other calls are still made
        passing = isinstance(error, STORE_ERRORS) and is_outage(error)
        raise StoreError(reason(error, store.uri), passing) from error


def reason(error: Exception, uri: StoreUri) -> str:
    """An error in a few words, without what the store's URI hides."""
    text = uri.hide(str(error) or type(error).__name__)
    found = SYSTEM_ERROR.search(text)  # deep in what MLflow, requests and urllib3 say of it
    return textwrap.shorten(found[1] if found else text, 160, placeholder=" ...")

"""MLflow in a process of its own: imported while this one imports torch, and out of this one's way ever after.

    with MlflowProcess() as clerk:                                # MLflow is on its way
        ...
        store = clerk.open(tracking_uri, "agr", "agr")    # a `Store`, as `agr.registry.tracker.Tracker` is

A call that MLflow does not take raises StoreError. The process may die: the next call has another one.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import textwrap
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Concatenate

from agr.common.cli import quick_imports
from agr.common.processes import ctrl_c_ignored
from agr.errors import AgrError, ModelError, StoreError
from agr.registry.records import Store
from agr.registry.uri import StoreUri
from search.outbox.store_client import P, StoreClient, T

ENDED = "its process ended"
REASON_LENGTH = 160
SYSTEM_ERROR = re.compile(r"\[Errno -?\d+\] ([^'\")]+)")


class MlflowProcess:
    """The process. Its calls are made one after the other, in the order in which they are asked for."""

    def __init__(self) -> None:
        """Start it; it imports MLflow at once."""
        self._opening: tuple[StoreUri | None, str, str] | None = None
        self._opened = self._left = False
        self._line, self._process = _started()
        self._thread = ThreadPoolExecutor(1, "clerk")  # Ctrl-C interrupts who waits for an answer, not its reading

    def __enter__(self) -> MlflowProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left = True
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._process.kill()

    def open(self, uri: str | None, experiment: str, model: str) -> StoreClient:
        """A store; None is `StoreUri.default`. Returns at once, the first call opens it.

        Calls raise ModelError if it could not be opened, until the first that was answered.
        """
        named = StoreUri(uri) if uri else None
        self._opening = named, experiment, model
        return StoreClient(self._call, named.log_in() if named else StoreUri.default(), model)

    def _call(self, method: Callable[Concatenate[Store, P], T], /, *values: P.args, **named: P.kwargs) -> T:
        try:
            answer, error = self._thread.submit(self._exchange, method.__name__, values, named).result()
        except (RuntimeError, CancelledError):  # this search is leaving
            raise StoreError(ENDED, passing=True) from None
        if error is not None:
            raise error
        found: T = answer
        return found

    def _exchange(self, *call: object) -> tuple[Any, AgrError | None]:
        with suppress(EOFError, OSError):
            self._line.send((self._opening, *call))
            answer, error, opened = self._line.recv()
            if self._opened and not opened:  # a new process met an outage
                error = StoreError(str(error), passing=True)
            self._opened |= opened
            return answer, error
        if not self._left:
            self._process.kill()
            self._line, self._process = _started()
        return None, StoreError(ENDED, passing=True)


def _started() -> tuple[Connection, multiprocessing.process.BaseProcess]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there,), name="clerk", daemon=True)
    with ctrl_c_ignored():  # what it has to do, its owner tells it
        process.start()
    there.close()
    return here, process


def _serve(line: Connection) -> None:
    """Answer until the other end is closed; a process that is killed closes its end too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with quick_imports():
        import_module("agr.registry.tracker")
    store: Store | None = None
    with suppress(EOFError, OSError):
        while True:
            opening, name, values, named = line.recv()
            answer, refusal = None, None
            try:
                store = store or _opened(*opening)
                answer = make(store, getattr(Store, name), *values, **named)
            except AgrError as error:
                refusal = error
            line.send((answer, refusal, store is not None))
    os._exit(0)  # without taking MLflow down object by object


def _opened(uri: StoreUri | None, experiment: str, model: str) -> Store:
    from agr.registry.tracker import Tracker

    tracker = Tracker(uri or StoreUri.default(), experiment, model)
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"  # from here on a repeated call must be known as one
    return tracker


def make(store: Store, method: Callable[Concatenate[Store, P], T], /, *values: P.args, **named: P.kwargs) -> T:
    """Make a call of a store. Raises: StoreError, or ModelError that no failing call is behind."""
    from agr.registry.mlflow_env import STORE_ERRORS, is_outage

    try:
        answer: T = getattr(store, method.__name__)(*values, **named)
        return answer
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
    return textwrap.shorten(found[1] if found else text, REASON_LENGTH, placeholder=" ...")

"""Functions called in one other process, in order.

    worker = FunctionWorker("matplotlib.figure")       # starts at once, and imports that module meanwhile
    drawn = worker.submit(draw, curves, path)          # a Future

Functions, arguments and results are pickled, and read by nobody but these two processes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import import_module
from multiprocessing.reduction import ForkingPickler
from typing import ParamSpec, TypeVar

from agr.common.cli import quick_imports
from agr.common.worker import WorkerDied, WorkerProcess, serve

P = ParamSpec("P")
T = TypeVar("T")


class FunctionWorker(WorkerProcess):
    """A process that calls functions, one after the other; replaced when it dies."""

    def __init__(self, *modules: str, name: str = "the worker process") -> None:
        """Start it. modules: what it imports at once. name: what messages call it."""
        super().__init__(name, f"from {__name__} import call_functions; call_functions({modules!r})")
        self._thread = ThreadPoolExecutor(1, "worker")  # Ctrl-C interrupts who waits for a result, not its transfer

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have a function of a module called. Raises: WorkerDied if this was closed.

        The future raises what the function raised, or WorkerDied if the process ended meanwhile; `close` cancels it.
        """
        try:
            return self._thread.submit(self._answer_to, functools.partial(function, *args, **kwargs))
        except RuntimeError:
            raise WorkerDied("the worker process was closed") from None

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        super().close()

    def _answer_to(self, call: functools.partial[T]) -> T:
        request = bytes(ForkingPickler.dumps(call))
        try:
            self.send(request)
            good, value = ForkingPickler.loads(self.receive())
        except WorkerDied:
            self.restart()
            raise
        if not good:
            raise value
        result: T = value
        return result


def call_functions(modules: Iterable[str]) -> None:
    """Be the process of a `FunctionWorker`."""

    def prepare() -> Callable[[bytearray], Iterable[bytes]]:
        with quick_imports():
            for module in modules:
                import_module(module)
        return _answer

    serve(prepare)


def _answer(request: bytearray) -> Iterator[bytes]:
    try:
        yield bytes(ForkingPickler.dumps((True, ForkingPickler.loads(request)())))
    except Exception as error:
        try:
            yield bytes(ForkingPickler.dumps((False, error)))
        except Exception:
            yield bytes(ForkingPickler.dumps((False, RuntimeError(f"{type(error).__name__}: {error}"))))

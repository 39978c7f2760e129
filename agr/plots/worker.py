"""Pictures drawn in a process of their own, while the one that wants them does other things.

    with PlottingProcess() as easel:
        easel.draw("heat_map", curves, folder / "grid.png", title)     # of agr.plots.search, returns at once
        ...
        easel.finish()

That process imports matplotlib as soon as it begins, and neither torch nor MLflow.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import BrokenExecutor, Future
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Any

from agr.common.processes import apart

if TYPE_CHECKING:
    pass

PLOTS = "agr.plots.search"


class PlottingProcess:
    """One process that draws what it is told, in that order."""

    def __init__(self) -> None:
        """Start it."""
        self._pool = apart(1)
        self._drawings: list[tuple[Future[None], tuple[str, tuple[Any, ...]]]] = []
        self._pool.submit(import_module, PLOTS)

    def __enter__(self) -> PlottingProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """End the process, whatever it draws, and leave nothing of it behind."""
        pool = vars(self).pop("_pool", None)
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)

    def draw(self, picture: str, *what: Any) -> None:
        """Have a function of `agr.plots.search` called."""
        try:
            drawing = self._pool.submit(_draw, picture, what)
        except BrokenExecutor as error:
            drawing = Future()
            drawing.set_exception(error)
        self._drawings.append((drawing, (picture, what)))

    def finish(self) -> None:
        """Wait for all of it; what a process that died did not draw is drawn here. Raises: what drawing raised."""
        for drawing, told in self._drawings:
            try:
                drawing.result()
            except BrokenExecutor:
                _draw(*told)
        self._drawings.clear()


def _draw(picture: str, what: Sequence[Any]) -> None:
    getattr(import_module(PLOTS), picture)(*what)

"""Pictures drawn in another process, while the one that wants them does other things.

    with PlottingProcess() as plotting:
        plotting.draw(search.heat_map, curves, folder / "grid.png", title)     # of agr.plots, returns at once
        plotting.finish()

That process imports matplotlib as soon as it starts, and neither torch nor MLflow; this one imports none of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec

from agr.common.function_worker import FunctionWorker
from agr.common.waiting import result_of
from agr.common.worker import WorkerDied

P = ParamSpec("P")


class PlottingProcess(FunctionWorker):
    """One process that draws, in the order of the calls. It is to be closed, or used as a context."""

    def __init__(self) -> None:
        """Start it."""
        super().__init__("agr.plots.search", "matplotlib.figure", name="the plotting process")
        self._drawings: list[tuple[Future[None], Callable[[], None]]] = []

    def draw(self, function: Callable[P, None], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Have a function of a module called, which writes a picture."""
        drawing = self.submit(function, *args, **kwargs), functools.partial(function, *args, **kwargs)
        self._drawings.append(drawing)

    def finish(self) -> None:
        """Wait for all pictures; draw here what a process that died did not. Raises: what drawing raised."""
        for future, draw_here in self._drawings:
            try:
                result_of(future, "a picture to be drawn")
            except WorkerDied:
                draw_here()
        self._drawings.clear()

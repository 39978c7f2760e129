"""The application: `agr serve` runs it on one machine, `search/serve.py` on Ray Serve.

app = create(Settings(model_uri="models:/agr/best"))
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles

from agr import __version__
from agr.service import documentation, invocations, problems, routes, streams
from agr.service.answering import Answering, Join, Joined
from agr.service.guard import Guard
from agr.service.live import Follower
from agr.service.service import Service
from agr.service.settings import Settings

PAGE = Path(__file__).parent / "page"
SWITCH_SECONDS = 0.0005  # between threads: whoever waits for a clip would else wait 5 ms for the one that predicts


def create(settings: Settings, join: Join = Joined) -> FastAPI:
    """The application. Its model is loaded and its processes start when it is started. join: as of `Answering`."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        follower = Follower(settings.model_uri, settings.tracking_uri, settings.poll_seconds)
        answering = Answering(settings.concurrency, settings.max_seconds, join)
        app.state.service = Service(settings, follower, answering)
        sys.setswitchinterval(SWITCH_SECONDS)
        await asyncio.to_thread(follower.look)  # nobody is let in before the model is there, if it can be had
        following = asyncio.create_task(follower.run())
        try:
            yield
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
            answering.close()

    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # it warns of what clients send
    about = "Tells women's voices from men's."
    app = FastAPI(title="AGR", version=__version__, description=about, lifespan=lifespan, docs_url=None, redoc_url=None)
    problems.install(app)
    for module in (routes, invocations, streams, documentation):
        app.include_router(module.router)
    app.mount("/static", StaticFiles(directory=PAGE, check_dir=False))

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(PAGE / "index.html")

    app.add_middleware(Guard, hosts=settings.allowed_hosts, token=settings.token)
    return app


def of_environment() -> FastAPI:
    """The application of a worker process, with the settings that its parent left in the environment."""
    return create(Settings.of_environment())

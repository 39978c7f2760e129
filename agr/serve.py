"""Serve a model over HTTP, with a page to speak into.

    python -m agr.serve --model-uri models:/agr/best --port 8000 [--workers 2]

The page is at http://127.0.0.1:8000, and `curl -F file=@memo.m4a http://127.0.0.1:8000/v1/predict` gives the answer of
`predict --json`. When the alias moves, the version that it names then answers within seconds. Recordings are kept
nowhere. Who may ask is limited by --allowed-hosts and, if the variable AGR_TOKEN is set, to clients that show it as a
bearer token. SIGTERM ends the service when what it has accepted is answered.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress

from agr.common.cli import ArgumentParser, complain, quick_imports, run
from agr.common.worker import ONE_THREAD
from agr.inference.options import add_store_arguments
from agr.registry import resolve
from agr.registry.uri import StoreUri
from agr.service.settings import LOCAL, ONE_LOOK, add_limits, settings_of

APPLICATION = "agr.service.app:of_environment"
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # where workers keep their counts
MOST_IN_A_FRAME = 2**20  # bytes of a stream
DRAIN_SECONDS = 60  # for what was accepted, after SIGTERM


def parse(arguments: Sequence[str] | None, prog: str) -> argparse.Namespace:
    """The parsed command line."""
    parser = ArgumentParser(prog=prog, description="Serve a model over HTTP, with a page to speak into.")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at; 0.0.0.0 for all (%(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="(%(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes that answer (%(default)s)")
    add_store_arguments(parser)
    add_limits(parser)
    options = parser.parse_args(arguments)
    if options.workers < 1:
        parser.error(f"--workers {options.workers}: expected 1 or more")
    return options


def main(arguments: Sequence[str] | None = None, prog: str = "python -m agr.serve") -> int:
    """Run the command until a signal ends it; returns the exit status."""
    options = parse(arguments, prog)
    settings = settings_of(options, options.host, *LOCAL)
    if not (StoreUri.of(options.tracking_uri) if options.tracking_uri else StoreUri.default()).is_server:
        resolve.pin(settings.model_uri, options.tracking_uri)  # a server may come up later than this
    os.environ.update(ONE_LOOK | os.environ | ONE_THREAD | settings.as_environment())
    shown = f"[{options.host}]" if ":" in options.host else options.host
    complain(f"http://{shown}:{options.port} is where the page and /docs will be; loading the model")
    with tempfile.TemporaryDirectory(prefix="agr-metrics-") as folder, suppress(KeyboardInterrupt):
        if options.workers > 1:
            os.environ[METRICS_FOLDER] = folder
        with quick_imports():
            import uvicorn

        uvicorn.run(
            APPLICATION,
            factory=True,
            host=options.host,
            port=options.port,
            workers=options.workers,
            access_log=False,  # nothing of what a client sends is logged
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=DRAIN_SECONDS,
            ws_max_size=MOST_IN_A_FRAME,
        )
    return 0


if __name__ == "__main__":
    run(main)

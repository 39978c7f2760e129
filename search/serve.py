"""Serve a model on Ray Serve: the application of `agr serve`, with as many replicas as the requests need.

    python search/serve.py --model-uri models:/agr/best --address auto --replicas 1:8

Without --address it starts Ray on this machine. One replica more is started when they have more than --target requests
each, and one is ended when they have fewer. Every replica follows the alias; clips that wait together go through its
model as one batch (`serve.batch`).
KubeRay runs the same by `import_path: search.serve:application` (docker/rayservice.yaml). SIGTERM or Ctrl-C ends the
service when what it has accepted is answered.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from agr.common.cli import ArgumentParser, complain, end_on_sigterm, run
from agr.common.worker import ONE_THREAD
from agr.errors import SettingsError
from agr.inference.options import add_store_arguments
from agr.registry.uri import TRACKING_URI, StoreUri
from agr.service.settings import LOCAL, ONE_LOOK, TOKEN, Settings, add_limits, settings_of

if TYPE_CHECKING:
    from fastapi import FastAPI
    from ray.serve import Application

NAME = "agr"
WAIT_SECONDS = 0.01  # of a clip for others that may join it
DRAIN_SECONDS = 60.0  # for what was accepted
PASSED_ON = ("MLFLOW_", "AWS_")  # beginnings of variables that replicas on other machines need as well


def replicas(text: str) -> tuple[int, int]:
    """`1:8`, the fewest and the most. Raises: argparse.ArgumentTypeError."""
    fewest, _, most = text.partition(":")
    if not (fewest.isdecimal() and (most or fewest).isdecimal() and 1 <= int(fewest) <= int(most or fewest)):
        raise argparse.ArgumentTypeError(f"{text}: expected the fewest and the most replicas, as 1:8")
    return int(fewest), int(most or fewest)


def deployed(settings: Settings, bounds: tuple[int, int], target: float, environment: Mapping[str, str]) -> Application:
    """The application as Ray Serve runs it. environment: variables of the replicas."""
    from ray import serve

    def build() -> FastAPI:
        from agr.service.answering import MOST_TOGETHER
        from agr.service.app import create

        return create(settings, serve.batch(max_batch_size=MOST_TOGETHER, batch_wait_timeout_s=WAIT_SECONDS))

    deployment = serve.deployment(serve.ingress(build)()).options(
        name=NAME,
        max_ongoing_requests=settings.queue,
        graceful_shutdown_timeout_s=DRAIN_SECONDS,
        health_check_period_s=5,
        ray_actor_options={"num_cpus": 1, "runtime_env": {"env_vars": {**ONE_THREAD, **ONE_LOOK, **environment}}},
        autoscaling_config={
            "min_replicas": bounds[0],
            "max_replicas": bounds[1],
            "target_ongoing_requests": target,
            "upscale_delay_s": 5,
        },
    )
    return deployment.bind()


def application(arguments: dict[str, str]) -> Application:
    """For KubeRay. arguments: `args` of a RayService's application: replicas, allowed_hosts, model_uri.

    Raises: SettingsError for others.
    """
    given = dict(arguments)
    try:
        bounds = replicas(given.pop("replicas", "1:8"))
        hosts = tuple(given.pop("allowed_hosts", " ".join(LOCAL)).split())
        settings = Settings(given.pop("model_uri", "models:/agr/best"), None, hosts, concurrency=1)
    except argparse.ArgumentTypeError as error:
        raise SettingsError(str(error)) from error
    if given:
        raise SettingsError(f"args: {', '.join(given)}; expected replicas, allowed_hosts and model_uri")
    return deployed(settings, bounds, 8.0, {})


def parse(arguments: Sequence[str] | None, prog: str) -> argparse.Namespace:
    """The parsed command line."""
    parser = ArgumentParser(prog=prog, description="Serve a model on Ray Serve.")
    parser.add_argument("--address", help="a running Ray cluster, `auto` for that of this machine (default: a new one)")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at; 0.0.0.0 for all (%(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="(%(default)s)")
    parser.add_argument("--replicas", type=replicas, default=(1, 8), help="the fewest and the most (1:8)")
    parser.add_argument("--target", type=float, default=8.0, help="requests for each replica (%(default)s)")
    add_store_arguments(parser)
    add_limits(parser)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None, prog: str = "python search/serve.py") -> int:
    """Run the command until a signal ends it; returns the exit status."""
    options = parse(arguments, prog)
    settings = settings_of(options, options.host, *LOCAL)
    store = StoreUri.of(options.tracking_uri) if options.tracking_uri else StoreUri.default()
    known = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON) or name == TOKEN}
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0"})
    complain("starting Ray Serve")
    import ray
    from ray import serve

    with suppress(KeyboardInterrupt):
        ray.init(address=options.address or "local", log_to_driver=False, logging_level="ERROR")
        try:
            serve.start(http_options={"host": options.host, "port": options.port})
            built = deployed(settings, options.replicas, options.target, known | {TRACKING_URI: store.whole})
            serve.run(built, name=NAME)
            end_on_sigterm()
            complain(f"http://{options.host}:{options.port} is where the page and /docs are")
            while True:
                time.sleep(3600)
        finally:
            serve.delete(NAME)
            if not options.address:
                serve.shutdown()
            ray.shutdown()
    return 0


if __name__ == "__main__":
    run(main)

"""Load the service: requests a second and latencies at 1, 8 and 64 clients, next to `mlflow models serve`.

    python bench/serve.py [--seconds 10] [--clients 1 8 64] [--workers 2]

Each request holds one synthetic clip; both servers have the same clips and the same model (untrained, which does not
change its speed), and run one after the other. Each is asked in the way that it is made for: a form, or base64 in
JSON. What `agr.predict` reaches in process is measured as `bench/predict.py` does. Exit status 0 if the goals hold:
FASTER times the requests a second of MLflow's server at 8 clients, the 99th percentile below MOST_MS there, and
IN_PROCESS of the clips a second in process.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import predict as in_process

from agr.recipes.voice import VOICE

FASTER, MOST_MS, IN_PROCESS, AT = 5.0, 250.0, 0.8, 8
CLIPS = 200
STARTUP_SECONDS = 120.0


@dataclass(frozen=True)
class Load:
    """What came of some seconds of requests."""

    rate: float  # answered a second
    milliseconds: tuple[float, float, float]  # 50th, 95th and 99th percentile
    failed: int


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def as_form(clip: bytes) -> tuple[bytes, str]:
    """A clip as the service takes it, and its content type."""
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="clip.wav"\r\n\r\n'
    return head + clip + b"\r\n--x--\r\n", "multipart/form-data; boundary=x"


def as_json(clip: bytes) -> tuple[bytes, str]:
    """A clip as MLflow's server takes it, and its content type."""
    return json.dumps({"inputs": {"audio": [base64.b64encode(clip).decode()]}}).encode(), "application/json"


async def load(url: str, bodies: Sequence[tuple[bytes, str]], clients: int, seconds: float) -> Load:
    """Have so many clients ask, one request after the other."""
    times: list[float] = []
    failed = 0
    end = time.perf_counter() + seconds

    async def ask(client: httpx.AsyncClient, first: int) -> None:
        nonlocal failed
        at = first
        while (start := time.perf_counter()) < end:
            body, kind = bodies[at % len(bodies)]
            at += clients
            try:
                sent = await client.post(url, content=body, headers={"Content-Type": kind})
                good = sent.status_code == 200 and b'"female":' in sent.content
            except httpx.HTTPError:
                good = False
            failed += not good
            times.append(time.perf_counter() - start)

    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(timeout=120, limits=limits, trust_env=False) as client:
        began = time.perf_counter()
        await asyncio.gather(*(ask(client, first) for first in range(clients)))
        took = time.perf_counter() - began
    p50, p95, p99 = (1000 * float(value) for value in np.percentile(times, (50, 95, 99)))
    return Load((len(times) - failed) / took, (p50, p95, p99), failed)


def measured(
    command: Sequence[str], url: str, ready: str, bodies: Sequence[tuple[bytes, str]], options: argparse.Namespace
) -> list[Load]:
    """Start a server, load it with each number of clients, and end it."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            deadline = time.monotonic() + STARTUP_SECONDS
            while not answers(ready):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise SystemExit(f"{command[0]} does not answer: {log.read().decode()}")
                time.sleep(0.2)
            asyncio.run(load(url, bodies, 2, 2.0))  # warm
            return [asyncio.run(load(url, bodies, clients, options.seconds)) for clients in options.clients]
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)


def answers(url: str) -> bool:
    """Whether a server is ready."""
    try:
        return httpx.get(url, timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python bench/serve.py", description="Load the service, and MLflow's server.")
    parser.add_argument("--seconds", type=float, default=10.0, help="of load with each number of clients")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, AT, 64])
    parser.add_argument("--workers", type=int, default=2, help="of the service")
    options = parser.parse_args(arguments)
    if AT not in options.clients:
        parser.error(f"--clients: expected {AT} among them, for which the goals are")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "clips"
        in_process.make_clips(folder, Path(scratch) / "one", CLIPS)
        os.environ["MLFLOW_TRACKING_URI"] = in_process.make_store(Path(scratch), VOICE)
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return report(folder, options, os.environ)


def report(folder: Path, options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Measure, print the table, return the exit status."""
    clips = [path.read_bytes() for path in sorted(folder.rglob("*.wav"))]
    steady = [[sys.executable, "-c", in_process.STEADY_AGR, str(folder)]]
    alone = len(clips) / in_process.in_turns(steady, environment, 3, steady=True)[0]
    port, other = free_port(), free_port()
    limits = ["--workers", str(options.workers), "--concurrency", "1", "--port", str(port)]
    ours = measured(
        [sys.executable, "-m", "agr.serve", *limits],
        f"http://127.0.0.1:{port}/v1/predict",
        f"http://127.0.0.1:{port}/ready",
        [as_form(clip) for clip in clips],
        options,
    )
    theirs = measured(
        ["mlflow", "models", "serve", "-m", "models:/agr@best", "--env-manager", "local", "-p", str(other)],
        f"http://127.0.0.1:{other}/invocations",
        f"http://127.0.0.1:{other}/ping",
        [as_json(clip) for clip in clips],
        options,
    )
    print(f"{'server':22}{'clients':>8}{'requests/s':>12}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'failed':>8}")
    for name, loads in (("agr serve", ours), ("mlflow models serve", theirs)):
        for clients, each in zip(options.clients, loads, strict=True):
            columns = "".join(f"{value:9.0f}" for value in each.milliseconds)
            print(f"{name:22}{clients:8}{each.rate:12.1f}{columns}{each.failed:8}")
    print(f"agr.predict in process: {alone:.1f} clips a second")
    at = options.clients.index(AT)
    goals = [
        (
            f"{ours[at].rate / theirs[at].rate:.1f} x MLflow's server at {AT} clients",
            ours[at].rate / theirs[at].rate >= FASTER,
        ),
        (f"p99 {ours[at].milliseconds[2]:.0f} ms at {AT} clients", ours[at].milliseconds[2] < MOST_MS),
        (
            f"{max(each.rate for each in ours) / alone:.2f} of in process",
            max(each.rate for each in ours) >= IN_PROCESS * alone,
        ),
    ]
    for text, held in goals:
        print(f"{'held  ' if held else 'MISSED'} {text}")
    return int(not all(held for _, held in goals))


if __name__ == "__main__":
    sys.exit(main())

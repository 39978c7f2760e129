"""Load the service: requests a second and latencies at 1, 8 and 64 clients, next to `mlflow models serve`.

    python bench/serve.py [--seconds 10] [--clients 1 8 64] [--workers 2]

Each request holds one synthetic clip; both servers have the same clips and the same model (untrained, which does not
change its speed), and run one after the other. Each is asked in the way that it is made for: a form, or base64 in
JSON. MLflow's server is started as it comes, with one worker, which the goal is about, and with as many as the service.
What `agr.predict` reaches in process is measured as `bench/predict.py` does. Exit status 0 if the goals hold: FASTER
times the requests a second of MLflow's server at 8 clients, the 99th percentile below MOST_MS there, and IN_PROCESS of
the clips a second in process. The column `cpu ms` is the processor time of a server for each request, which tells more
than the others where a machine has other work.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import predict as in_process

from agr.common.stuck import work_done
from agr.recipes.voice import VOICE

FASTER, MOST_MS, IN_PROCESS, AT = 5.0, 250.0, 0.8, 8
CLIPS = 200
STARTUP_SECONDS = 120.0


@dataclass
class Load:
    """What came of some seconds of requests."""

    answered: int
    failed: int
    seconds: float
    milliseconds: tuple[float, float, float]  # 50th, 95th and 99th percentile
    cpu: float = 0.0  # milliseconds of the server for each answer

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answered / self.seconds


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


def load(url: str, bodies: Sequence[tuple[bytes, str]], clients: int, seconds: float) -> Load:
    """Have so many clients ask, one request after the other. They take little of the processor time of the servers."""
    times: list[float] = []
    failed: list[int] = []
    parts = urlsplit(url)
    end = time.perf_counter() + seconds

    def ask(first: int) -> None:
        link = http.client.HTTPConnection(parts.netloc, timeout=120)
        for at in itertools.count(first, clients):
            if (start := time.perf_counter()) >= end:
                break
            body, kind = bodies[at % len(bodies)]
            try:
                link.request("POST", parts.path, body, {"Content-Type": kind})
                sent = link.getresponse()
                good = b'"female":' in sent.read() and sent.status == 200
            except (OSError, http.client.HTTPException):
                link.close()
                good = False
            times.append(time.perf_counter() - start)
            if not good:
                failed.append(at)
        link.close()

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as threads:
        for asked in [threads.submit(ask, first) for first in range(clients)]:
            asked.result()
    took = time.perf_counter() - began
    p50, p95, p99 = (1000 * float(value) for value in np.percentile(times, (50, 95, 99)))
    return Load(len(times) - len(failed), len(failed), took, (p50, p95, p99))


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
            load(url, bodies, 2, 2.0)  # warm
            loads = []
            for clients in options.clients:
                before = work_done(process.pid)
                loads.append(found := load(url, bodies, clients, options.seconds))
                found.cpu = 1000 * (work_done(process.pid) - before) / max(found.answered, 1)
            return loads
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
    serve = ["mlflow", "models", "serve", "-m", "models:/agr@best", "--env-manager", "local", "-p", str(other)]
    theirs, more = (
        measured(
            [*serve, *workers],
            f"http://127.0.0.1:{other}/invocations",
            f"http://127.0.0.1:{other}/ping",
            [as_json(clip) for clip in clips],
            options,
        )
        for workers in ([], ["--workers", str(options.workers)])
    )
    columns = "".join(f"{name:>9}" for name in ("p50 ms", "p95 ms", "p99 ms", "cpu ms", "failed"))
    print(f"{'server':22}{'clients':>8}{'requests/s':>12}{columns}")
    for name, loads in (
        (f"agr serve, {options.workers}", ours),
        ("MLflow, as it comes", theirs),
        (f"MLflow, {options.workers}", more),
    ):
        for clients, each in zip(options.clients, loads, strict=True):
            columns = "".join(f"{value:9.0f}" for value in (*each.milliseconds, each.cpu))
            print(f"{name:22}{clients:8}{each.rate:12.1f}{columns}{each.failed:9}")
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

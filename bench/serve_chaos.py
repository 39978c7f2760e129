"""Trouble for the service: processes are killed, `best` moves, MLflow goes away, clients dawdle or leave, others ask.

    python bench/serve_chaos.py [--minutes 20] [--seed 0] [--ray]

`agr serve` runs with two workers, or with --ray two replicas on Ray Serve, on an MLflow server with two versions. Exit
status 0 if every request of a client that stayed was answered by a version that exists, or got a clean error, or lost
its connection at a kill; if moves of `best` were followed, also those made while the MLflow server was away; if memory
stayed level (GROWTH); and if no process is left in the end.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import httpx
import predict
import psutil
import serve

from agr.recipes.voice import VOICE
from agr.registry import tracker as registry_tracker
from agr.registry.uri import BEST

CLIENTS, GROWTH, FOLLOWED_SECONDS, WARM_SECONDS = 4, 1.5, 10.0, 20.0
AWAY_SECONDS, PATIENCE = 20.0, 60.0  # more to follow in after MLflow was away, which is asked with pauses; at most
CLEAN = {200, 429, 503}
FAULTS = ("worker", "decoder", "best", "mlflow", "leave", "leave", "slow")


class Store:
    """An MLflow server that can be killed and brought back."""

    def __init__(self, database: str) -> None:
        """Start it, and wait until it answers. database: the URI of its store."""
        self.tracker = registry_tracker.Tracker(database)  # not through the server, which may be away
        self.port = serve.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", database, "--workers", "1"]
        self.start()

    def start(self) -> None:
        """Bring it back."""
        quiet, command = subprocess.DEVNULL, [*self._command, "--port", str(self.port)]
        self._process = subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True)
        while not serve.answers(f"{self.url}/health"):
            if self._process.poll() is not None:
                raise SystemExit(f"mlflow server ended with {self._process.returncode}; expected it to answer")
            time.sleep(0.2)

    def kill(self) -> None:
        """End it and all its processes without warning."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class Trouble:
    """One run: the service, its clients and what befalls them."""

    def __init__(
        self, process: psutil.Process, port: int, bodies: Sequence[tuple[bytes, str]], store: Store, seed: int
    ) -> None:
        """process: of the service, with its workers below it."""
        self.process, self.port, self.bodies, self.draw = process, port, bodies, random.Random(seed)
        self.store, self.version = store, 1
        self.followed: list[tuple[float, float]] = []  # seconds that each move took, and might have taken
        self.outcomes: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.ended = threading.Event()
        self.last_kill = 0.0

    def ask(self, number: int) -> None:
        """One client that stays, until the end."""
        with httpx.Client(timeout=60, trust_env=False) as client:
            while not self.ended.is_set():
                number += CLIENTS
                body, kind = self.bodies[number % len(self.bodies)]
                began = time.monotonic()
                try:
                    sent = client.post(
                        f"http://127.0.0.1:{self.port}/v1/predict", content=body, headers={"Content-Type": kind}
                    )
                except httpx.TransportError as error:
                    killed = self.last_kill > began - 5
                    self.outcomes["connection lost at a kill" if killed else f"LOST: {type(error).__name__}"] += 1
                    time.sleep(0.1)
                    continue
                version = sent.json()["model"]["version"] if sent.status_code == 200 else None
                good = sent.status_code in CLEAN and version in (None, 1, 2)
                killed = sent.status_code == 500 and self.last_kill > began - 5  # what Ray's proxy says of it
                verdict = "" if good else "at a kill: " if killed else "BAD: "
                self.outcomes[f"{verdict}{sent.status_code} of version {version}"] += 1

    def send(self, whole: bool) -> None:
        """A client that sends its body in pieces over seconds, or half of it, and goes without an answer."""
        body, kind = self.draw.choice(self.bodies)
        head = "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        began, status = time.monotonic(), "none"
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 30) as link:
            link.sendall(head.encode())
            size = len(body) // 8 + 1
            for at in range(0, len(body) if whole else self.draw.randrange(len(body)), size):
                link.sendall(body[at : at + size])
                time.sleep(self.draw.random() / 2)
            if whole:
                status = link.recv(64).decode().partition(" ")[2][:3] or status
        if whole:
            good = status in map(str, CLEAN) or self.last_kill > began - 5
            self.outcomes[f"{'' if good else 'BAD: '}{status} of a slow client"] += 1

    def workers(self) -> list[psutil.Process]:
        """The processes that answer: workers of the service, or Ray's replicas; each has decoders below it."""
        found = []
        for each in self.process.children(recursive=True):
            with suppress(psutil.Error):
                if any("decoder_process" in " ".join(child.cmdline()) for child in each.children()):
                    found.append(each)
        return found

    def kill(self, decoder: bool) -> None:
        """End a worker, or one of the processes that decode, without warning."""
        if not (workers := self.workers()):
            return
        victim = self.draw.choice(workers)
        self.last_kill = time.monotonic()
        with suppress(psutil.Error):
            (self.draw.choice(victim.children()) if decoder else victim).kill()

    def memory(self) -> int:
        """Bytes of all processes of the service."""
        found = 0
        for each in (self.process, *self.process.children(recursive=True)):
            with suppress(psutil.Error):
                found += each.memory_info().rss
        return found

    def move(self, away: bool) -> None:
        """Move `best`, with `away` while the MLflow server is gone, and see when the service follows."""
        if away:
            self.store.kill()
        self.version = 3 - self.version
        self.store.tracker.set_alias(BEST, self.version)
        if away:
            time.sleep(self.draw.uniform(1, 5))
            self.store.start()
        began = time.monotonic()
        while (took := time.monotonic() - began) < PATIENCE:
            with suppress(httpx.TransportError):
                sent = httpx.get(f"http://127.0.0.1:{self.port}/v1/model", timeout=10, trust_env=False)
                if sent.status_code == 200 and sent.json()["version"] == self.version:
                    break
            time.sleep(0.2)
        self.followed.append((took, FOLLOWED_SECONDS + away * AWAY_SECONDS))


def run(trouble: Trouble, minutes: float) -> list[tuple[str, bool]]:
    """Make trouble for so many minutes; returns each finding, and whether it is as it should be."""
    clients = [threading.Thread(target=trouble.ask, args=(number,)) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    time.sleep(WARM_SECONDS)
    before, end = trouble.memory(), time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        fault = trouble.draw.choice(FAULTS)
        trouble.faults[fault] += 1
        if fault in ("best", "mlflow"):
            trouble.move(away=fault == "mlflow")
        elif fault in ("leave", "slow"):
            trouble.send(whole=fault == "slow")
        else:
            trouble.kill(decoder=fault == "decoder")
        time.sleep(trouble.draw.uniform(0.5, 5))
    time.sleep(WARM_SECONDS)
    after = trouble.memory()
    trouble.ended.set()
    for client in clients:
        client.join()
    followed = trouble.followed
    wrong = {name: count for name, count in trouble.outcomes.items() if name.startswith(("BAD", "LOST"))}
    return [
        (f"outcomes: {dict(trouble.outcomes)}", not wrong),
        (
            f"faults: {dict(trouble.faults)}; best followed after {', '.join(f'{took:.1f}' for took, _ in followed)} s",
            all(took < most for took, most in followed),
        ),
        (f"memory: {before / 2**20:.0f} MiB, then {after / 2**20:.0f} MiB", after < GROWTH * before),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python bench/serve_chaos.py", description="Make trouble for the service.")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ray", action="store_true", help="on Ray Serve, whose replicas are killed")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "clips"
        predict.make_clips(folder, Path(scratch) / "one", 40)
        store = Store(predict.make_store(Path(scratch), VOICE))
        try:
            store.tracker.register(store.tracker.start_run("second", {}, {}), Path(scratch) / "model", {})
            os.environ["MLFLOW_TRACKING_URI"] = store.url
            bodies = [serve.as_form(path.read_bytes()) for path in sorted(folder.rglob("*.wav"))]
            found = trouble_for_a_service(bodies, store, options)
        finally:
            store.kill()
    for text, holds in found:
        print(f"{'ok  ' if holds else 'FAIL'} {text}")
    return int(not all(holds for _, holds in found))


def trouble_for_a_service(
    bodies: Sequence[tuple[bytes, str]], store: Store, options: argparse.Namespace
) -> list[tuple[str, bool]]:
    """Start the service, make trouble, end it; returns what `run` does, and how it ended."""
    port = serve.free_port()
    alone = [sys.executable, "-m", "agr.serve", "--workers", "2"]
    on_ray = [sys.executable, str(Path(__file__).parents[1] / "search" / "serve.py"), "--replicas", "2:2"]
    started = subprocess.Popen([*(on_ray if options.ray else alone), "--port", str(port), "--concurrency", "1"])
    try:
        while not serve.answers(f"http://127.0.0.1:{port}/ready"):
            if started.poll() is not None:
                raise SystemExit(f"the service ended with {started.returncode}; expected it to answer")
            time.sleep(0.2)
        trouble = Trouble(psutil.Process(started.pid), port, bodies, store, options.seed)
        found = run(trouble, options.minutes)
        family = trouble.process.children(recursive=True)
    finally:
        started.send_signal(signal.SIGTERM)
        status = started.wait(90)
    _, left = psutil.wait_procs(family, timeout=10)
    return [*found, (f"exit status {status}, processes left: {len(left)}", status == 0 and not left)]


if __name__ == "__main__":
    sys.exit(main())

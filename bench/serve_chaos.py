"""Trouble for the service: workers and decoders are killed, `best` moves, clients leave halfway, while others ask.

    python bench/serve_chaos.py [--minutes 20] [--seed 0]

`agr serve` runs with two workers on a store of its own with two versions. Exit status 0 if every request of a client
that stayed was answered by a version that exists, or got a clean error, or lost its connection at a kill; if moves of
`best` were followed; if memory stayed level (GROWTH); and if no process is left in the end.
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
CLEAN = {200, 429, 503}


class Trouble:
    """One run: the service, its clients and what befalls them."""

    def __init__(self, process: psutil.Process, port: int, bodies: Sequence[tuple[bytes, str]], seed: int) -> None:
        """process: of the service, with its workers below it."""
        self.process, self.port, self.bodies, self.draw = process, port, bodies, random.Random(seed)
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
                good = sent.status_code in CLEAN
                version = sent.json()["model"]["version"] if sent.status_code == 200 else None
                self.outcomes[f"{'' if good else 'BAD: '}{sent.status_code} of version {version}"] += 1

    def leave(self) -> None:
        """A client that sends half a body, and goes."""
        body, kind = self.draw.choice(self.bodies)
        head = "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n"
        head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5) as link:
            link.sendall(head.encode() + body[: self.draw.randrange(len(body))])
            time.sleep(self.draw.random())

    def kill(self, decoder: bool) -> None:
        """End a worker, or one of the processes that decode, without warning."""
        workers = [each for each in self.process.children() if each.children()]
        if not workers:
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

    def follows(self, tracker: registry_tracker.Tracker, version: int) -> bool:
        """Move `best`; whether the service follows within seconds."""
        tracker.set_alias(BEST, version)
        deadline = time.monotonic() + FOLLOWED_SECONDS
        while time.monotonic() < deadline:
            with suppress(httpx.TransportError):
                sent = httpx.get(f"http://127.0.0.1:{self.port}/v1/model", timeout=10, trust_env=False)
                if sent.status_code == 200 and sent.json()["version"] == version:
                    return True
            time.sleep(0.2)
        return False


def run(trouble: Trouble, tracker: registry_tracker.Tracker, minutes: float) -> list[tuple[str, bool]]:
    """Make trouble for so many minutes; returns each finding, and whether it is as it should be."""
    clients = [threading.Thread(target=trouble.ask, args=(number,)) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    time.sleep(WARM_SECONDS)
    before, end, version, missed = trouble.memory(), time.monotonic() + 60 * minutes, 1, 0
    while time.monotonic() < end:
        fault = trouble.draw.choice(("worker", "decoder", "best", "leave", "leave"))
        trouble.faults[fault] += 1
        if fault == "best":
            version = 3 - version
            missed += not trouble.follows(tracker, version)
        elif fault == "leave":
            trouble.leave()
        else:
            trouble.kill(decoder=fault == "decoder")
        time.sleep(trouble.draw.uniform(0.5, 5))
    time.sleep(WARM_SECONDS)
    after = trouble.memory()
    trouble.ended.set()
    for client in clients:
        client.join()
    wrong = {name: count for name, count in trouble.outcomes.items() if name.startswith(("BAD", "LOST"))}
    return [
        (f"outcomes: {dict(trouble.outcomes)}", not wrong),
        (f"faults: {dict(trouble.faults)}; moves of best that were not followed: {missed}", not missed),
        (f"memory: {before / 2**20:.0f} MiB, then {after / 2**20:.0f} MiB", after < GROWTH * before),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python bench/serve_chaos.py", description="Make trouble for the service.")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "clips"
        predict.make_clips(folder, Path(scratch) / "one", 40)
        os.environ["MLFLOW_TRACKING_URI"] = store = predict.make_store(Path(scratch), VOICE)
        tracker = registry_tracker.Tracker(store)
        tracker.register(tracker.start_run("second", {}, {}), Path(scratch) / "model", {})
        bodies = [serve.as_form(path.read_bytes()) for path in sorted(folder.rglob("*.wav"))]
        port = serve.free_port()
        words = ["--port", str(port), "--workers", "2", "--concurrency", "1"]
        started = subprocess.Popen([sys.executable, "-m", "agr.serve", *words])
        try:
            while not serve.answers(f"http://127.0.0.1:{port}/ready"):
                time.sleep(0.2)
            trouble = Trouble(psutil.Process(started.pid), port, bodies, options.seed)
            found = run(trouble, tracker, options.minutes)
            family = trouble.process.children(recursive=True)
        finally:
            started.send_signal(signal.SIGTERM)
            status = started.wait(90)
    _, left = psutil.wait_procs(family, timeout=10)
    found.append((f"exit status {status}, processes left: {len(left)}", status == 0 and not left))
    for text, holds in found:
        print(f"{'ok  ' if holds else 'FAIL'} {text}")
    return int(not all(holds for _, holds in found))


if __name__ == "__main__":
    sys.exit(main())

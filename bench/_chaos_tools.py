"""What chaos.py breaks and how it looks at the pieces: servers, processes, images."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import psutil
from _changed_module import site
from _prepared import write_prepared

from agr.errors import AgrError
from agr.recipes.base import IMAGE_SHAPE
from agr.recipes.mfcc import MFCC

TRACE = """
import json, os, time
if not os.environ.get("AGR_CHAOS_TRACE"):
    return
fit = module.fit
def traced(data, split, settings, device, report=None, resume=None):
    def told(epoch, state):
        time.sleep(float(os.environ["AGR_CHAOS_PAUSE"]))
        line = json.dumps(settings.rates()[: epoch.epoch]) + "\\n"
        with open(os.environ["AGR_CHAOS_TRACE"], "a") as file:
            file.write(line)
        if report is not None:
            report(epoch, state)
    return fit(data, split, settings, device, told, resume)
module.fit = traced
"""
SHUTTER = site("agr.training.loop", TRACE)


class Server:
    """A server process that is killed and started again."""

    def __init__(self, command: list[str], port: int, log: Path, env: Mapping[str, str] | None = None) -> None:
        """port: it is up when this one answers."""
        self.port = port
        self._command, self._log, self._env = command, log, dict(os.environ) | dict(env or {})
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, seconds: float = 90) -> None:
        """Start it and wait. Raises: AgrError if it does not come up."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self._process is None or self._process.poll() is not None:
                with self._log.open("ab") as log:
                    self._process = subprocess.Popen(
                        self._command, env=self._env, stdout=log, stderr=log, start_new_session=True
                    )
            if answers(self.port):
                return
            time.sleep(0.2)
        raise AgrError(f"{self._command[0]}: no answer on port {self.port}; see {self._log}")

    def kill(self) -> None:
        """SIGKILL to the process and to those that it started."""
        if self._process is not None:
            kill_tree(self._process.pid)
            self._process.wait()
            self._process = None

    @property
    def pid(self) -> int:
        """Of the running process, 0 if there is none."""
        return self._process.pid if self._process else 0


def kill_tree(pid: int, signal_number: int = signal.SIGKILL) -> None:
    """Send a signal to a process and all its descendants."""
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in family:
        try:
            process.send_signal(signal_number)
        except psutil.NoSuchProcess:
            continue


def postgres(folder: Path) -> Server | None:
    """A PostgreSQL server with an empty cluster in `folder`, not started; None if there is none on this machine."""
    found = shutil.which("postgres") or next(map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))), None)
    if found is None:
        return None
    folder.mkdir()
    become: list[str] = []
    if os.geteuid() == 0:
        user = next(
            (name for name in ("postgres", "nobody") if name in {each.pw_name for each in pwd.getpwall()}), None
        )
        if user is None or shutil.which("setpriv") is None:
            return None
        shutil.chown(folder, user)
        become = ["setpriv", f"--reuid={user}", "--clear-groups"]
    initdb, data = str(Path(found).with_name("initdb")), str(folder / "data")
    subprocess.run([*become, initdb, "-D", data, "-A", "trust", "-U", "mlflow"], check=True, capture_output=True)
    port = free_port()
    command = [*become, found, "-D", data, "-p", str(port), "-k", str(folder), "-c", "listen_addresses=127.0.0.1"]
    return Server(command, port, folder.parent / "postgres.log")


def mlflow_server(folder: Path, database: str) -> Server:
    """An MLflow server, not started. database: SQLAlchemy's URI."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", database, "--artifacts-destination", str(folder / "artifacts")]
    env = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return Server(command, port, folder / "mlflow.log", env)


def object_store(folder: Path) -> Server | None:
    """moto's S3, not started; None if moto is not installed."""
    program = Path(sys.executable).with_name("moto_server")
    if not program.exists():
        return None
    port = free_port()
    return Server([str(program), "-H", "127.0.0.1", "-p", str(port)], port, folder / "moto.log")


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Whether somebody accepts connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def healthy(port: int) -> bool:
    """Whether an MLflow server answers requests there."""
    try:
        return bool(urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).status == 200)
    except OSError:
        return False


def wait_until(condition: Callable[[], object], seconds: float, pause: float = 0.1) -> bool:
    """Whether it came true in time."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(pause)
    return True


def write_images(out: Path, speakers: int = 8, clips: int = 4) -> Path:
    """A prepared folder: `clips` random images of each of `speakers` women and as many men, the men's darker below."""
    people = [(f"{gender[0]}{k}", gender) for gender in ("female", "male") for k in range(speakers)]
    rows = [
        {"corpus": "made", "speaker": name, "gender": gender, "recording": f"{name}-{k}", "source": f"{name}-{k}"}
        for name, gender in people
        for k in range(clips)
    ]
    pixels = np.random.default_rng(0).integers(0, 256, (len(rows), *IMAGE_SHAPE), dtype=np.uint8)
    pixels[[row["gender"] == "male" for row in rows], :6] //= 2
    return write_prepared(out, "made", rows, pixels, MFCC, synthetic=True)

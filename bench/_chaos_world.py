"""What the searches of chaos.py live in: MLflow on PostgreSQL, S3, a Ray cluster."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import psutil
from _chaos_link import OPEN, Link
from _chaos_tools import (
    SHUTTER,
    Server,
    free_port,
    healthy,
    kill_tree,
    mlflow_server,
    object_store,
    postgres,
    wait_until,
    write_images,
)

from agr.registry.uri import EXPERIMENT

ROOT = Path(__file__).resolve().parents[1]
PAUSE = 0.3  # seconds that every epoch takes longer
DISK, TMP = "192m", "448m"  # sizes: of that of the stages; of TMPDIR, of which Ray wants 200 MB free
TRIAL = "ray::ImplicitFunc"  # how Ray names a process that runs a trial
PR_SET_CHILD_SUBREAPER = 36
BUCKET = "agr"


class World:
    """The servers, from `open` to `close`. `env`: the environment of a search."""

    def __init__(self, scratch: Path, workers: int, rates: list[str], kinds: list[str]) -> None:
        """scratch: an empty folder for all of it. rates: the grid's. kinds: the faults that will be wanted."""
        self.scratch, self.workers, self.rates, self.kinds = scratch, workers, rates, kinds
        self.trace, self.tmp = scratch / "trace", scratch / "tmp"
        self.env: dict[str, str] = {}
        self.postgres: Server | None = None
        self.s3: Server | None = None
        self.net: Link | None = None
        self.head: Server | None = None
        self.nodes: list[Server] = []
        self.holders: list[subprocess.Popen[bytes]] = []  # of locks
        self.helpers: list[psutil.Process] = []  # of drivers, killed or stopped
        self.address = ""

    def open(self) -> dict[str, str]:
        """Start everything; returns the faults that this machine cannot suffer, and why."""
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # orphans of a search become children of this one
        missing = {}
        self.scratch.chmod(0o755)
        self.data = write_images(self.scratch / "images")
        self.env = self._environment()
        if "postgres" in self.kinds and importable("psycopg2"):
            self.postgres = postgres(self.scratch / "postgres")
        if self.postgres:
            self.postgres.start()
            self.database = f"postgresql+psycopg2://mlflow@127.0.0.1:{self.postgres.port}/postgres"
        else:
            missing["postgres"] = "no PostgreSQL"
            self.database = f"sqlite:///{self.scratch / 'mlflow.db'}"
        self.mlflow = mlflow_server(self.scratch, self.database)
        self.mlflow.start()
        wait_until(lambda: healthy(self.mlflow.port), 60)
        self.web = Link(self.mlflow.port)
        if not self._open_bucket():
            missing["network"] = "no moto"
        if not can_mount(self.scratch / "probe"):
            missing |= dict.fromkeys(("disk", "tmp"), "no right to mount a small one")
        return {kind: why for kind, why in missing.items() if kind in self.kinds}

    def close(self) -> None:
        """End every process that this one started or inherited."""
        for process in psutil.Process().children():
            kill_tree(process.pid)
        while True:
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                break
        for mount in (self.tmp, *self.scratch.glob("*/stages")):
            unmount(mount)

    def calm(self) -> None:
        """Everything works again."""
        self.web.set(OPEN)
        for holder in self.holders:
            holder.kill()
            holder.wait()
        for helper in self.helpers:  # one whose driver was killed meanwhile is to end by itself
            with contextlib.suppress(psutil.NoSuchProcess):
                helper.resume()
        if self.net:
            self.net.set(OPEN)
        for server in (self.postgres, self.mlflow, self.s3):
            if server:
                server.start()
        wait_until(lambda: healthy(self.mlflow.port), 60)
        self.change_experiment("restore")

    def change_experiment(self, how: str) -> bool:
        """Delete or restore the experiment of the searches; returns whether MLflow did it."""
        api = f"http://127.0.0.1:{self.mlflow.port}/api/2.0/mlflow/experiments"
        try:
            with urlopen(f"{api}/get-by-name?experiment_name={EXPERIMENT}", timeout=10) as answer:
                body = json.dumps({"experiment_id": json.load(answer)["experiment"]["experiment_id"]}).encode()
            with urlopen(Request(f"{api}/{how}", body, {"Content-Type": "application/json"}), timeout=10):
                return True
        except OSError:  # it does not answer, or the experiment is deleted, or restored, already
            return False

    def cluster(self) -> str:
        """The address of a running Ray cluster; two nodes beside its head."""
        if self.head is None:
            port = free_port()
            self.address = f"127.0.0.1:{port}"
            self.head = self._node("--head", f"--port={port}", "--include-dashboard=false", "--num-cpus=0")
            self.nodes = [self._node(f"--address={self.address}", "--num-cpus=1") for _ in range(2)]
            for server in (self.head, *self.nodes):
                server.start()
        return self.address

    def infrastructure(self) -> set[int]:
        """The processes of the servers."""
        found: set[int] = set()
        for server in (self.postgres, self.mlflow, self.s3, self.head, *self.nodes):
            if server and server.pid:
                with contextlib.suppress(psutil.NoSuchProcess):
                    found |= {server.pid, *(child.pid for child in psutil.Process(server.pid).children(recursive=True))}
        return found

    def trials(self) -> list[psutil.Process]:
        """The processes in which a trial runs now."""
        return [process for process in psutil.Process().children(recursive=True) if title(process).startswith(TRIAL)]

    def _node(self, *arguments: str) -> Server:
        manager, agent = free_port(), free_port()
        ports = [f"--node-manager-port={manager}", f"--dashboard-agent-listen-port={agent}"]
        ports += ["--min-worker-port=0", "--max-worker-port=0", "--node-ip-address=127.0.0.1"]
        memory = f"--object-store-memory={128 * 2**20}"
        command = [str(Path(sys.executable).with_name("ray")), "start", *arguments, *ports, memory]
        where = [f"--temp-dir={self.scratch / 'ray'}"] if "--head" in arguments else []
        return Server(
            [*command, *where, "--disable-usage-stats", "--block"], manager, self.scratch / "ray.log", self.env
        )

    def _open_bucket(self) -> bool:
        self.s3 = object_store(self.scratch) if "network" in self.kinds else None
        if self.s3 is None:
            return "network" not in self.kinds
        from pyarrow.fs import S3FileSystem

        self.s3.start()
        self.net = Link(self.s3.port)
        there = f"127.0.0.1:{self.s3.port}"
        keys = {"access_key": "chaos", "secret_key": "chaos"}
        S3FileSystem(endpoint_override=there, scheme="http", allow_bucket_creation=True, **keys).create_dir(BUCKET)
        return True

    def _environment(self) -> dict[str, str]:
        site = self.scratch / "site"
        site.mkdir()
        (site / "sitecustomize.py").write_text(SHUTTER)
        self.tmp.mkdir()
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "RAY_", "AWS_"))}
        return clean | {
            "PYTHONPATH": f"{site}:{ROOT}",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "TMPDIR": str(self.tmp),
            "AGR_CHAOS_TRACE": str(self.trace),
            "AGR_CHAOS_PAUSE": str(PAUSE),
            "AGR_OUTAGE_GRACE": "30",
            "RAY_TMPDIR": str(self.tmp),
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
            "AWS_ACCESS_KEY_ID": "chaos",
            "AWS_SECRET_ACCESS_KEY": "chaos",
            "AWS_EC2_METADATA_DISABLED": "true",
            "OMP_NUM_THREADS": "1",
        }


def title(process: psutil.Process) -> str:
    """What a process calls itself, "" if it is gone."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def importable(module: str) -> bool:
    """Whether a module is installed."""
    import importlib.util

    return importlib.util.find_spec(module) is not None


def mount(folder: Path, size: str = DISK) -> bool:
    """Mount a small disk in memory on a folder; returns whether that was possible."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def unmount(folder: Path) -> None:
    """Take it away again, if it is one."""
    if folder.is_mount():
        subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)


def can_mount(folder: Path) -> bool:
    """Whether this process may mount a disk."""
    able = mount(folder)
    unmount(folder)
    return able

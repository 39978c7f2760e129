"""Machines on a network of their own, for tests: namespaces of Linux where they may be made, else folders.

    with lan() as network:
        worker = network.machine("worker-1")
        worker.start(["ray", "start", ...], {})

A machine in namespaces has its own address, processes, /dev/shm and home, at the same path as every other's, and sees
nothing of another but through the network. Without them (no root, no `ip`), machines are folders of this one, share
its loopback address and its disk, and ports are free ones instead of the usual.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

psutil = pytest.importorskip("psutil")

REPOSITORY = Path(__file__).resolve().parents[2]
TOOLS = ("ip", "unshare", "nsenter", "setpriv")
BOOT = """
set -e
mount --bind "$1" "$2"
mount --bind "$3" /etc/hosts
mount --bind /dev/null /etc/resolv.conf
mount -t tmpfs tmpfs /dev/shm
ip link set lo up
echo ready
exec sleep infinity
"""
SWITCH = "ip link set lo up && ip link add lan type bridge && ip link set lan up && echo ready && exec sleep infinity"
PLUG = "ip link add v{0} type veth peer name eth0 netns {1} && ip link set v{0} master lan up"
ADDRESS = "ip address add {0}/24 dev eth0 && ip link set eth0 up && ip route add default dev eth0"
ISOLATED = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
IN_ORDER = ("sh", "-c", 'cd "$0" && exec "$@"')
SUBREAPER = 36  # of prctl(2): orphans become children of this process, where they can be found


@functools.cache
def namespaces() -> bool:
    """Whether this process may make machines of their own."""
    if os.geteuid() != 0 or not all(map(shutil.which, TOOLS)):
        return False
    script = "mount -t tmpfs tmpfs /dev/shm && ip link add v0 type veth peer name eth0 && ip link add lan type bridge"
    return subprocess.run([*ISOLATED, "sh", "-c", script], capture_output=True, check=False).returncode == 0


@dataclass
class Machine:
    """One computer. `home` is where its commands run, `outside` is the same folder as this process sees it."""

    name: str
    home: Path
    outside: Path
    logs: Path
    enter: tuple[str, ...] = ()
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def command(self, words: Sequence[str], environment: Mapping[str, str]) -> list[str]:
        """A command line of this process that runs one on the machine, with this environment and no other."""
        path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
        known = {"PATH": path, "PYTHONPATH": str(REPOSITORY), "HOME": str(self.home), "LANG": "C.UTF-8"}
        pairs = [f"{name}={value}" for name, value in (known | dict(environment)).items()]
        return [*self.enter, *IN_ORDER, str(self.home), "env", "-i", *pairs, *words]

    def start(self, words: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
        """Begin a command; what it says goes to a file, see `said`."""
        with self.logs.open("a") as log:
            command = self.command(words, environment)
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, text=True, start_new_session=True
            )
        self.processes.append(process)
        return process

    def run(self, words: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        command = self.command(words, environment)
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)

    def said(self) -> str:
        """What its commands have written so far."""
        return self.logs.read_text(encoding="utf-8", errors="replace") if self.logs.exists() else ""

    def switch_off(self) -> None:
        """End all its processes at once, without a word to them."""
        end([each for process in self.processes for each in family(process.pid)])
        for process in self.processes:
            process.wait()
        self.processes.clear()


@dataclass
class Network:
    """Machines by name; see `lan`."""

    base: Path
    machines: dict[str, Machine] = field(default_factory=dict)
    switch: subprocess.Popen[str] | None = None  # holds the bridge; without namespaces there is none
    ports: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        """Where home is on every machine with namespaces, and where Ray keeps its files on those without."""
        return self.base / "home"

    def machine(self, name: str) -> Machine:
        """The machine of this name, made when it is first asked for."""
        if name not in self.machines:
            outside, log = self.base / name, self.base / f"{name}.log"
            outside.mkdir()
            made = Machine(name, self.home if self.switch else outside, outside, log)
            if self.switch:
                self._boot(made, len(self.machines) + 1, self.switch)
            self.machines[name] = made
        return self.machines[name]

    def here(self, text: str) -> str:
        """A text with compose's host names and ports, as it has to be on these machines."""
        if self.switch:
            return text
        text = re.sub(r"\b(postgres|s3|mlflow|head)(?=:\d)", "127.0.0.1", text).replace("0.0.0.0", "127.0.0.1")
        return re.sub(r"\b(5432|7070|5000|6379)\b", lambda match: self._port(match[0]), text)

    def _port(self, usual: str) -> str:
        if usual not in self.ports:
            with socket.create_server(("127.0.0.1", 0)) as server:
                self.ports[usual] = str(server.getsockname()[1])
        return self.ports[usual]

    def _boot(self, machine: Machine, number: int, switch: subprocess.Popen[str]) -> None:
        hosts, address = self.base / "hosts", f"10.77.0.{number}"
        with hosts.open("a") as file:
            file.write(f"{address} {machine.name}\n")
        init = hold((*ISOLATED, "sh", "-c", BOOT, "sh", str(machine.outside), str(self.home), str(hosts)))
        machine.processes.append(init)
        (child,) = psutil.Process(init.pid).children()
        inside(switch.pid, PLUG.format(number, child.pid))
        inside(child.pid, ADDRESS.format(address))
        machine.enter = ("nsenter", "--target", str(child.pid), "--net", "--mount", "--pid", "--")


def hold(command: Sequence[str]) -> subprocess.Popen[str]:
    """A process that says `ready` and then stays; it dies with this one."""
    words = ["setpriv", "--pdeathsig", "KILL", *command]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    with process.stdout as out:
        said = out.readline()
    assert said == "ready\n", said
    return process


def inside(pid: int, script: str) -> None:
    """Run a shell script in the network of a process."""
    subprocess.run(["nsenter", "--target", str(pid), "--net", "sh", "-c", script], check=True, capture_output=True)


def family(pid: int) -> list[object]:
    """A process and all that come from it."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def end(processes: Sequence[object]) -> None:
    """Kill processes and wait until they are gone."""
    for process in processes:
        try:
            process.kill()  # type: ignore[attr-defined]
        except psutil.NoSuchProcess:
            continue
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert not alive


@contextmanager
def lan() -> Iterator[Network]:
    """A network without machines; at the end nothing is left of those that were made."""
    base = Path(tempfile.mkdtemp(prefix="agr-", dir="/tmp"))  # short: paths of Ray's sockets have 107 letters at most
    base.chmod(0o755)
    network = Network(base)
    network.home.mkdir()
    (base / "hosts").write_text("127.0.0.1 localhost\n")
    before, prctl = family(os.getpid()), ctypes.CDLL(None).prctl
    prctl(SUBREAPER, 1)
    try:
        if namespaces():
            network.switch = hold(("unshare", "--net", "sh", "-c", SWITCH))
        yield network
    finally:
        for machine in network.machines.values():
            machine.switch_off()
        end([process for process in family(os.getpid()) if process not in before])
        if network.switch:
            network.switch.wait()
        prctl(SUBREAPER, 0)
        shutil.rmtree(base)

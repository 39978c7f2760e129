"""What strikes the searches of chaos.py. Each fault says what it did and how to undo it; None if it came too late."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import psutil
from _chaos_link import CUT, LYING, OPEN, REFUSING, SLOW
from _chaos_tools import wait_until
from _chaos_trace import trained
from _chaos_world import ROOT, World, title

from agr.training.settings import STEP_SIZE
from search.runtime import cluster


class Victim(Protocol):
    """What a fault needs to know of a search. `allowance`: epochs that it may train once more."""

    process: subprocess.Popen[bytes]
    folder: Path
    stages: Path
    allowance: int


Undo = Callable[[], None]
Fault = Callable[[World, Victim, random.Random], tuple[str, Undo] | None]


def nothing() -> None:
    """What there is to undo about a death."""


def worker(world: World, search: Victim, chance: random.Random) -> tuple[str, Undo] | None:
    """SIGKILL to a process that runs a trial."""
    if not wait_until(world.trials, 20) or not (running := world.trials()):
        return None
    victim = chance.choice(running)
    search.allowance += 1
    with contextlib.suppress(psutil.NoSuchProcess):
        victim.kill()
    return f"killed worker {victim.pid}", nothing


def node(world: World, search: Victim, chance: random.Random) -> tuple[str, Undo] | None:
    """SIGKILL to every process of a Ray node."""
    victim = chance.choice(world.nodes)
    search.allowance += world.workers
    victim.kill()
    return "killed a Ray node", victim.start


def driver(world: World, search: Victim, chance: random.Random) -> tuple[str, Undo] | None:
    """SIGKILL to the driver."""
    if search.process.poll() is not None:
        return None
    search.allowance += world.workers
    os.kill(search.process.pid, signal.SIGKILL)
    return "killed the driver", nothing


def helper(world: World, search: Victim, chance: random.Random) -> tuple[str, Undo] | None:
    """SIGKILL to a process that the driver has beside it: the one with MLflow, or the one that draws."""
    return _signal_helper(world, search, chance, signal.SIGKILL, "killed")


def stopped(world: World, search: Victim, chance: random.Random) -> tuple[str, Undo] | None:
    """SIGSTOP to such a process: nobody lets it go on before the search is over."""
    return _signal_helper(world, search, chance, signal.SIGSTOP, "stopped")


def torn(world: World, search: Victim, chance: random.Random) -> tuple[str, Undo] | None:
    """A power cut: SIGKILL to the driver, and the newest file that it wrote, a stage or an outbox, ends too early."""
    written = [*search.folder.rglob("*.stage"), *search.folder.rglob("outbox/*.jsonl")]
    if not written or driver(world, search, chance) is None:
        return None
    newest = max(written, key=lambda path: path.stat().st_mtime_ns)
    size = newest.stat().st_size
    os.truncate(newest, max(0, size - chance.randint(1, 100)))
    search.allowance += STEP_SIZE
    return f"killed the driver, and cut the end off {newest.name}", nothing


def lock(world: World, search: Victim, chance: random.Random) -> tuple[str, Undo] | None:
    """SIGKILL to the driver while another process, which is stopped for good, holds the lock of Ray's start."""
    path = cluster.start_lock(world.tmp)
    code = "import sys, time; from pathlib import Path; from agr.common.waiting import locked\n"
    code += "with locked(Path(sys.argv[1]), 'start Ray'): print(flush=True); time.sleep(600)"
    holder = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, cwd=ROOT)
    world.holders.append(holder)
    assert holder.stdout
    holder.stdout.readline()
    holder.send_signal(signal.SIGSTOP)
    if driver(world, search, chance) is None:
        return None
    return f"killed the driver while {holder.pid}, stopped, holds the lock of Ray's start", nothing


def _signal_helper(
    world: World, search: Victim, chance: random.Random, number: int, done: str
) -> tuple[str, Undo] | None:
    """Send a signal to a WorkerProcess of the driver; None if there is none. done: what is said of it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        children = psutil.Process(search.process.pid).children()
        if spawned := [each for each in children if "sys.path[:] = sys.argv[1:]" in title(each)]:
            victim = chance.choice(spawned)
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.send_signal(number)
            world.helpers.append(victim)
            return f"{done} a helper of the driver, {victim.pid}", nothing
    return None


def mlflow(world: World, search: Victim, chance: random.Random) -> tuple[str, Undo] | None:
    """SIGKILL to the MLflow server."""
    world.mlflow.kill()
    return "killed MLflow", world.mlflow.start


def database(world: World, search: Victim, chance: random.Random) -> tuple[str, Undo] | None:
    """SIGKILL to PostgreSQL."""
    if world.postgres is None:
        return None
    world.postgres.kill()
    return "killed PostgreSQL", world.postgres.start


def deleted(world: World, search: Victim, chance: random.Random) -> tuple[str, Undo] | None:
    """The experiment is deleted, as on MLflow's page; whoever is asked to restores it, see `Search`."""
    return ("deleted the experiment", nothing) if world.change_experiment("delete") else None


def disk(world: World, search: Victim, chance: random.Random) -> tuple[str, Undo] | None:
    """No space left where the stages are."""
    return "filled the disk", _in_memory_until(_fill(search.stages), world, search)


def tmp(world: World, search: Victim, chance: random.Random) -> tuple[str, Undo] | None:
    """No space left in TMPDIR, where Ray's files are too."""
    return "filled TMPDIR", _fill(world.tmp)


def _fill(folder: Path) -> Undo:
    """Write to a disk until it is full; returns what makes room again."""
    filler = folder / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        for size in (2**20, 2**12):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    return lambda: filler.unlink(missing_ok=True)


def slow(world: World, search: Victim, chance: random.Random) -> tuple[str, Undo] | None:
    """MLflow takes its time."""
    world.web.set(SLOW)
    return "slowed MLflow down", lambda: world.web.set(OPEN)


def errors(world: World, search: Victim, chance: random.Random) -> tuple[str, Undo] | None:
    """MLflow answers 500, before or after it did what it was asked."""
    mode = chance.choice((REFUSING, LYING))
    world.web.set(mode)
    done = " after doing" if mode == LYING else " without doing"
    return f"MLflow answers 500{done} what it is asked", lambda: world.web.set(OPEN)


def network(world: World, search: Victim, chance: random.Random) -> tuple[str, Undo] | None:
    """No way from the nodes to the stage store."""
    link = world.net
    if link is None:
        return None
    link.set(CUT)
    return "cut the line to the stage store", _in_memory_until(lambda: link.set(OPEN), world, search)


def _in_memory_until(undo: Undo, world: World, search: Victim) -> Undo:
    """What is trained while the store takes nothing is in workers' memories only, where other trials cannot read it."""
    before = sum(trained(world).values())

    def undone() -> None:
        undo()
        search.allowance += sum(trained(world).values()) - before

    return undone


FAULTS: Mapping[str, Fault] = {
    "worker": worker,
    "node": node,
    "driver": driver,
    "helper": helper,
    "stopped": stopped,
    "torn": torn,
    "lock": lock,
    "mlflow": mlflow,
    "postgres": database,
    "deleted": deleted,
    "disk": disk,
    "tmp": tmp,
    "slow": slow,
    "500": errors,
    "network": network,
}

"""One search of chaos.py: its command, given until it completes, and the faults that strike meanwhile."""

from __future__ import annotations

import contextlib
import random
import re
import subprocess
import sys
import threading
import time

from _chaos_checks import Findings, Reference, examine, observed
from _chaos_faults import FAULTS
from _chaos_tools import kill_tree
from _chaos_world import BUCKET, ROOT, TMP, World, mount, unmount

from agr.errors import AgrError

EPOCHS = ("1", "2", "6")
STARTS = 15  # how often the same command is given
HANGS = 300.0  # seconds after which a search counts as hanging
LASTS = (2.0, 8.0)  # seconds that a fault lasts which does not kill
BREATH = 2.0  # seconds between two starts
RESTORE = re.compile(r"`([^`]+)` restores it")  # a deleted experiment
DELIVER = re.compile(r"refused calls, are in [^`]+`([^`]+)` delivers them")


class Search:
    """A search to be disturbed. `struck`: the faults that were in time, `missed`: those that were not."""

    def __init__(self, world: World, name: str, faults: list[str], usual: float, chance: random.Random) -> None:
        """usual: seconds that it takes undisturbed."""
        self.name, self.faults, self.allowance = name, faults, 0
        self.struck: list[str] = []
        self.missed: list[str] = []
        self._world, self._usual, self._chance = world, usual, chance
        self.folder = world.scratch / name
        self.folder.mkdir()
        self.stages = self.folder / "stages"
        self.store = str(self.stages)
        self.process: subprocess.Popen[bytes]
        self._over = threading.Event()
        self._undoing: list[threading.Thread] = []

    def run(self, most: int = STARTS) -> int:
        """Give the command until it completes, at most so often; returns how often, 0 if it never did."""
        self._world.trace.write_text("")
        if "disk" in self.faults:
            mount(self.stages)
        if "tmp" in self.faults:
            mount(self._world.tmp, TMP)
        if "network" in self.faults and self._world.net:
            there = f"endpoint_override=127.0.0.1:{self._world.net.port}&scheme=http&region=us-east-1"
            self.store = f"s3://{BUCKET}/{self.name}?{there}"
        command = self._command()
        self._start(command)
        striking = threading.Thread(target=self._strike)
        striking.start()
        starts = 1
        while (status := self._wait()) != 0 and starts < most:
            self._obey(RESTORE)
            time.sleep(BREATH)
            self._start(command)
            starts += 1
        self._over.set()
        striking.join()
        for thread in self._undoing:
            thread.join()
        return 0 if status else starts

    def examine(self, reference: Reference) -> Findings:
        """What is left of it."""
        self._world.calm()
        self._obey(DELIVER)
        findings = examine(self._world, self, reference)
        unmount(self.stages)
        unmount(self._world.tmp)
        return findings

    def _command(self) -> list[str]:
        command = [sys.executable, str(ROOT / "search/run_grid.py"), "--data", str(self._world.data)]
        command += ["--epochs", *EPOCHS, "--num-workers", str(self._world.workers), "--no-cuda", "--no-mps"]
        command += ["--name", self.name, "--tracking-uri", f"http://127.0.0.1:{self._world.web.port}"]
        command += ["--stage-store", self.store, "--lr", *self._world.rates]
        return command + (["--address", self._world.cluster()] if "node" in self.faults else [])

    def _obey(self, said: re.Pattern[str]) -> None:
        """Run the commands that the search has printed as a remedy, as a person would."""
        for command in dict.fromkeys(said.findall((self.folder / "output.txt").read_text(errors="replace"))):
            where, env = self.folder, self._world.env
            subprocess.run(command, shell=True, cwd=where, env=env, capture_output=True, check=False, timeout=HANGS)

    def _start(self, command: list[str]) -> None:
        with (self.folder / "output.txt").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=self._world.env, stdout=log, stderr=log, start_new_session=True
            )

    def _wait(self) -> int:
        try:
            return self.process.wait(HANGS)
        except subprocess.TimeoutExpired:
            print(f"  {self.name}: hangs", flush=True)
            kill_tree(self.process.pid)
            return self.process.wait()

    def _strike(self) -> None:
        """One fault after the other, each after a random time; those that last may overlap."""
        began = time.monotonic()
        for kind in self.faults:
            moment = self._chance.uniform(0.1, 2.0) * self._usual / (len(self.faults) + 1)
            done = None if self._over.wait(moment) else FAULTS[kind](self._world, self, self._chance)
            if done is None:
                self.missed.append(kind)
                continue
            self.struck.append(kind)
            what, undo = done
            seconds = self._chance.uniform(*LASTS)
            print(f"  {self.name} +{time.monotonic() - began:.1f} s: {what}", flush=True)
            thread = threading.Thread(target=self._undo, args=(seconds, undo))
            thread.start()
            self._undoing.append(thread)

    def _undo(self, seconds: float, undo: object) -> None:
        self._over.wait(seconds)
        with contextlib.suppress(AgrError):
            if callable(undo):
                undo()


def undisturbed(world: World) -> tuple[Reference, float]:
    """What a search gives that nobody disturbs, and its seconds. Raises: AgrError if it fails."""
    search = Search(world, "undisturbed", [], 0.0, random.Random(0))
    began = time.monotonic()
    if not search.run(most=1):
        raise AgrError(f"{search.folder / 'output.txt'}: the undisturbed search failed; expected it to complete")
    return observed(world, search), time.monotonic() - began

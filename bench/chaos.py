"""The 27-trial grid under random faults, again and again: what was lost?

    python bench/chaos.py --faults 50 [--seed 0] [--workers 2] [--only worker,driver]

One search runs undisturbed. Then searches with the same 64 made-up images run while something breaks at a random
moment: a trial's worker, a Ray node, the driver, a process that helps it, the MLflow server or PostgreSQL get a
SIGKILL; a process that helps the driver gets a SIGSTOP; a file that was being written ends too early; another process,
stopped, holds the lock of Ray's start; the experiment is deleted on MLflow's page; the disk of the stage store, or that
of TMPDIR, fills up; MLflow answers slowly or with 500s, also after it did what it was asked; the network between a node
and the stage store, moto's S3, is cut. A search that ended is started again with the same command until it completes,
and the commands that it printed as a remedy are run before. What is trained while the store takes nothing may be
trained again; beyond that, only epochs in flight at a kill.
Every epoch takes PAUSE seconds more than it would, so that there is something to disturb.

The last line is the verdict. Exit status: 0 if nothing was lost, 1 if something was. Linux only.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from _chaos_checks import Findings
from _chaos_faults import FAULTS
from _chaos_search import Search, undisturbed
from _chaos_world import World
from rich.console import Console
from rich.table import Table

from agr.common.cli import run
from agr.errors import SettingsError

PER_SEARCH = 8
APART = ({"disk", "network"},)  # of these a search gets one only: each wants another stage store


@dataclass(frozen=True)
class Outcome:
    """One search: which faults hit it, how often its command was given, and what was found afterwards."""

    faults: Counter[str]
    starts: int
    seconds: float
    findings: Findings


def queue(faults: int, kinds: Sequence[str], chance: random.Random) -> list[str]:
    """So many faults in a random order, of each kind as many as of any other."""
    wanted = [kinds[number % len(kinds)] for number in range(faults)]
    chance.shuffle(wanted)
    return wanted


def take(waiting: list[str], most: int) -> list[str]:
    """The next faults that one search can suffer; they leave the queue."""
    taken: list[str] = []
    for kind in list(waiting):
        clash = any(kind in pair and pair & set(taken) - {kind} for pair in APART)
        if len(taken) < most and not clash:
            taken.append(kind)
            waiting.remove(kind)
    return taken


def campaign(world: World, options: argparse.Namespace, kinds: Sequence[str]) -> list[Outcome]:
    """Run searches until all faults have struck."""
    chance = random.Random(options.seed)
    waiting = queue(options.faults, kinds, chance)
    reference, usual = undisturbed(world)
    print(f"undisturbed: {usual:.1f} s, {reference.epochs} epochs trained", flush=True)
    outcomes = []
    for number in range(1, 10 * options.faults):
        if not waiting:
            break
        search = Search(world, f"chaos-{number}", take(waiting, PER_SEARCH), usual, random.Random(chance.random()))
        began = time.monotonic()
        starts = search.run()
        findings = search.examine(reference)
        waiting += search.missed
        outcomes.append(Outcome(Counter(search.struck), starts, time.monotonic() - began, findings))
        done = sum(outcome.faults.total() for outcome in outcomes)
        print(f"search {number}: {starts} starts, {outcomes[-1].seconds:.0f} s, {findings}; {done} faults", flush=True)
    return outcomes


def table(outcomes: Sequence[Outcome], kinds: Sequence[str], missing: dict[str, str]) -> Table:
    """A row for each kind of fault, over the searches that it struck: a search stands in several rows."""
    drawn = Table(title="Trials under faults", title_justify="left")
    for name in ("fault", "times", "searches", "starts", *(item.metadata["title"] for item in fields(Findings))):
        drawn.add_column(name, justify="left" if name == "fault" else "right")
    for kind in kinds:
        struck = [outcome for outcome in outcomes if outcome.faults[kind]]
        drawn.add_row(*row(kind, struck, sum(outcome.faults[kind] for outcome in struck)))
    for kind, why in missing.items():
        drawn.add_row(kind, f"not run: {why}")
    drawn.add_section()
    drawn.add_row(*row("all", outcomes, sum(outcome.faults.total() for outcome in outcomes)))
    return drawn


def row(name: str, outcomes: Sequence[Outcome], times: int) -> list[str]:
    """The cells of some searches."""
    sums = [sum(getattr(outcome.findings, item.name) for outcome in outcomes) for item in fields(Findings)]
    return [name, *map(str, (times, len(outcomes), sum(outcome.starts for outcome in outcomes), *sums))]


def verdict(outcomes: Sequence[Outcome]) -> bool:
    """Say what was lost; returns whether nothing was."""
    times, bad = sum(outcome.faults.total() for outcome in outcomes), [o for o in outcomes if o.findings.bad]
    if not bad:
        print(f"verdict: {times} faults in {len(outcomes)} searches, nothing lost")
        return True
    wrong = [item.metadata["title"] for item in fields(Findings) if any(getattr(o.findings, item.name) for o in bad)]
    print(f"verdict: {times} faults in {len(outcomes)} searches, {len(bad)} of them harmed: {', '.join(wrong)}")
    return False


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="The 27-trial grid under random faults.")
    parser.add_argument("--faults", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the faults' order and moments")
    parser.add_argument("--workers", type=int, default=2, help="trials at a time")
    parser.add_argument("--lr", nargs="+", default=["0.1", "0.01", "0.001"], help="the grid's rates, nine trials each")
    parser.add_argument("--only", help=f"kinds, comma between: {','.join(FAULTS)}")
    parser.add_argument("--keep", action="store_true", help="leave the folder with every output where it is")
    options = parser.parse_args(arguments)
    wanted = options.only.split(",") if options.only else list(FAULTS)
    if unknown := set(wanted) - set(FAULTS):
        raise SettingsError(f"--only {','.join(sorted(unknown))}: expected some of {','.join(FAULTS)}")
    if not sys.platform.startswith("linux"):
        raise SettingsError(f"{sys.platform}: expected Linux, whose /proc this reads")
    scratch = Path(tempfile.mkdtemp(prefix="chaos-"))
    world = World(scratch, options.workers, options.lr, wanted)
    try:
        missing = world.open()
        kinds = [kind for kind in wanted if kind not in missing]
        outcomes = campaign(world, options, kinds)
    finally:
        world.close()
        if options.keep:
            print(f"kept: {scratch}")
        else:
            shutil.rmtree(scratch, ignore_errors=True)
    Console(width=150, markup=False).print(table(outcomes, kinds, missing))
    return int(not verdict(outcomes))


if __name__ == "__main__":
    run(main)

"""What ten thousand trials, a thousand nodes and ten terabytes of audio would do to each part of a search.

    python bench/units.py [SOURCE] [--trials 10000] [--nodes 1000] [--terabytes 10]

It measures what one of each costs on this machine (see `bench/_unit_costs.py`), multiplies, and says at which size each
part would reach a limit, and which part is the first. SOURCE: a corpus of recordings, by default the demo voices.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from _unit_costs import Costs, measure
from rich.console import Console
from rich.table import Table

from agr.common.cli import run
from agr.training.settings import STEP_SIZE
from search.driver.prefix_queue import epoch_paths
from search.grid_search import grid

HOUR, DAY = 3600.0, 86400.0  # seconds
TOO_LONG = 360.0  # seconds to wait for something that trains nothing
MEMORY, DISK, LINK = 64e9, 1e12, 1.25e9  # what a node has: bytes of memory, of disk, bytes a second of network
SQLITE = 100e9  # bytes of a file that can still be copied and searched
DRAWN_A_SECOND = 4  # live tables
CLIPS = 1000  # in training, where the question is about nodes
PREPARING_CORES = 16

REMEDIES = {
    "stage store, disk": "search.stages.store prune; a bucket",
    "MLflow, SQLite file": "MLflow on PostgreSQL",
    "MLflow, calls": "several epochs in one call",
    "driver, Ray Tune and callback": "report every fifth epoch; several searches",
    "live table": "draw it once a second",
    "stage store, writes": "a bucket; a stage every fifth epoch",
    "clips, driver's memory": "a larger machine for the driver",
    "Ray's object store, every node": "more memory",
    "an epoch, memory of a worker": "fewer workers on a node",
    "shards, disk of every node": "--storage as a folder: a network file system, a mounted bucket",
    "shards, to every node": "nodes that hand them on",
    "agr.prepare, one machine": "a part of the corpus on each node",
    "an epoch, one core": "one trial on many GPUs",
}


@dataclass(frozen=True)
class Row:
    """A part under load: what one of it costs, in words; what is asked of it and what there is.

    measure: of asked and limit: B, s, B/s or cores.
    """

    part: str
    unit: str
    asked: float
    limit: float
    measure: str

    @property
    def remedy(self) -> str:
        """What to do when the limit is reached."""
        return REMEDIES.get(self.part, "none needed")


@dataclass(frozen=True)
class Question:
    """How all parts bear so many trials, nodes or terabytes."""

    target: float
    scale: str
    rows: Sequence[Row]

    def reached_at(self, row: Row) -> float:
        """The size at which a limit is reached, if the demand grows with it."""
        return self.target * row.limit / row.asked


def of_trials(costs: Costs, trials: int) -> Question:
    """Many trials on one machine: a grid of three epoch counts, as large in lr as in gamma."""
    every = grid_paths(trials)
    reported = sum(map(len, every))
    distinct = len({epoch for path in every for epoch in path})
    kept = stages_kept(every)
    share = trials / 10_000
    suggest, draw = costs.suggest_s[10_000], costs.draw_s
    driver = trials * costs.tune_trial_s + reported * (costs.tune_result_s + costs.callback_s)
    size = trials * costs.mlflow_run_bytes + reported * costs.mlflow_epoch_bytes
    calls = trials * costs.mlflow_run_s + reported * costs.mlflow_epoch_s
    unit_size = f"{thousands(costs.mlflow_run_bytes)} a run, {thousands(costs.mlflow_epoch_bytes)} an epoch"
    unit_calls = f"{ms(costs.mlflow_run_s)} a run, {ms(costs.mlflow_epoch_s)} an epoch"
    unit_driver = f"{ms(costs.tune_trial_s)} a trial, {ms(costs.tune_result_s + costs.callback_s)} an epoch"
    rows = (
        Row("stage store, disk", f"{costs.stage_bytes / 1e6:.1f} MB a stage", kept * costs.stage_bytes, DISK, "B"),
        Row("MLflow, SQLite file", unit_size, size, SQLITE, "B"),
        Row("MLflow, calls", unit_calls, calls, DAY, "s"),
        Row("driver, Ray Tune and callback", unit_driver, driver, DAY, "s"),
        Row("suggest", f"{ms(suggest / 10_000)} a trial", share * suggest, TOO_LONG, "s"),
        Row("reading off, all known", f"{ms(costs.outline_s)} a trial", trials * costs.outline_s, TOO_LONG, "s"),
        Row("live table", f"{ms(draw)} with 10,000 trials", DRAWN_A_SECOND * share * draw, 1.0, "cores"),
        Row("lease, in all", f"{ms(costs.lease_s)} a stage", distinct * costs.lease_s, 60.0, "s"),
        Row("search.stages.store list", f"{ms(costs.list_s)} a stage", kept * costs.list_s, TOO_LONG, "s"),
    )
    return Question(trials, "trials", rows)


def grid_paths(trials: int) -> list[tuple[int, ...]]:
    """The epochs of each point of such a grid, as `search.driver.prefix_queue.epoch_paths` numbers them."""
    side = next(n for n in range(1, trials + 1) if 3 * n * n >= trials)
    rates, factors = [0.1 * 0.99**k for k in range(side)], [(k + 1) / (side + 1) for k in range(side)]
    return epoch_paths([point.prefix() for point in grid((5, 10, 20), rates, factors)[:trials]])


def stages_kept(every: Sequence[Sequence[int]]) -> int:
    """How many stages stay in the store: where trials may part, and where one ends."""
    ends = {len(path) for path in every}
    stops = [k for k in range(1, max(ends) + 1) if k % STEP_SIZE == 0 or k in ends]
    return len({path[k - 1] for path in every for k in stops if k <= len(path)})


def of_nodes(costs: Costs, nodes: int) -> Question:
    """A trial on each of many nodes, an epoch of CLIPS clips taking as long as on one core of this machine."""
    epoch_s = CLIPS * costs.train_s
    rate = nodes / epoch_s  # epochs a second
    an_epoch = f"an epoch; one every {epoch_s:.1f} s a node"
    own, size = costs.callback_s + costs.tune_result_s, costs.stage_bytes
    sent = nodes * CLIPS * costs.prepared_bytes
    rows = (
        Row("driver, Ray Tune and callback", f"{ms(own)} {an_epoch}", rate * own, 1.0, "cores"),
        Row("MLflow, calls", f"{ms(costs.mlflow_epoch_s)} an epoch", rate * costs.mlflow_epoch_s, 1.0, "cores"),
        Row("stage store, writes", f"{size / 1e6:.1f} MB an epoch", rate * size, LINK, "B/s"),
        Row("shards, to every node", f"{thousands(costs.prepared_bytes)} a clip", sent / LINK, HOUR, "s"),
    )
    return Question(nodes, "nodes", rows)


def of_audio(costs: Costs, terabytes: float, mounted: bool) -> Question:
    """Much audio, in clips as large as those of SOURCE. mounted: Whether nodes see `--storage` as a folder."""
    clips = terabytes * 1e12 / costs.file_bytes
    work, training = clips * costs.prepare_s / PREPARING_CORES, clips * costs.train_s
    unit, stored = f"{ms(costs.prepare_s)} a clip and core", f"{thousands(costs.prepared_bytes)} a clip"
    rows = (
        Row("clips, driver's memory", f"{costs.row_bytes:.0f} B a clip", clips * costs.row_bytes, MEMORY, "B"),
        Row(
            "Ray's object store, every node", f"{costs.sent_bytes:.0f} B a clip", clips * costs.sent_bytes, MEMORY, "B"
        ),
        Row(
            "an epoch, memory of a worker", f"{costs.epoch_bytes:.0f} B a clip", clips * costs.epoch_bytes, MEMORY, "B"
        ),
        *(() if mounted else (Row("shards, disk of every node", stored, clips * costs.prepared_bytes, DISK, "B"),)),
        Row("agr.prepare, one machine", unit, work, DAY, "s"),
        Row("an epoch, one core", f"{ms(costs.train_s)} a clip", training, DAY, "s"),
    )
    scale = f"TB of audio, shards on {'a folder that every node sees' if mounted else 'the disk of every node'}"
    return Question(terabytes, scale, rows)


def ms(seconds: float) -> str:
    """Milliseconds, with two digits that count."""
    return f"{float(f'{1e3 * seconds:.2g}'):g} ms"


def thousands(count: float) -> str:
    """Kilobytes."""
    return f"{count / 1e3:.1f} kB"


def shown(value: float, measure: str) -> str:
    """A demand or a limit as people read it."""
    if measure == "cores":
        return f"{value:.2g} cores"
    if measure == "s":
        return next(
            f"{value / size:,.3g} {name}"
            for size, name in ((DAY, "days"), (HOUR, "h"), (1, "s"))
            if value > size or size == 1
        )
    size, name = next(pair for pair in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (0, "")) if value >= pair[0])
    return f"{value / (size or 1):,.3g} {name}{measure}"


def table(question: Question) -> Table:
    """A row for each part, the first to break on top."""
    drawn = Table(title=f"{question.target:,g} {question.scale}", title_justify="left")
    for name in ("part", "one costs", "asked", "limit", "reached at", "then"):
        drawn.add_column(name, overflow="fold")
    for row in question.rows:
        asked, limit = shown(row.asked, row.measure), shown(row.limit, row.measure)
        drawn.add_row(row.part, row.unit, asked, limit, f"{question.reached_at(row):,.3g}", row.remedy)
    return drawn


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python bench/units.py", description="Unit costs, and what they come to.")
    parser.add_argument("source", nargs="?", default="demo", metavar="SOURCE", help="recordings (default: demo)")
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=1_000)
    parser.add_argument("--terabytes", type=float, default=10.0)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="agr-units-") as scratch:
        costs = measure(options.source, Path(scratch), lambda text: print(text, flush=True))
    for name, value in vars(costs).items():
        print(f"{name:20} {value}")
    for answer in (
        of_trials(costs, options.trials),
        of_nodes(costs, options.nodes),
        *(of_audio(costs, options.terabytes, mounted) for mounted in (False, True)),
    ):
        rows = sorted(answer.rows, key=answer.reached_at)
        Console(width=160, markup=False).print(table(replace(answer, rows=rows)))
        breaks = "breaks" if rows[0].asked > rows[0].limit else "would break"
        where = f"{answer.reached_at(rows[0]):,.3g} {answer.scale}"
        print(f"{rows[0].part} {breaks} first, at {where}; then: {rows[0].remedy}\n")
    return 0


if __name__ == "__main__":
    run(main)

"""Measure each part of the augmentation: all of it, none, all but one part, one part alone.

    python bench/augmentation.py --train IMAGES [IMAGES ...] [--test IMAGES ...] [--folds 4] [--seeds 2] [--out FILE.md]

IMAGES are folders that `agr.prepare --recipe voice` finished. Each row of the table is trained once for every fold and
seed, for a fixed number of epochs: nothing is chosen, so the group of speakers that would choose in a search does
nothing here. A fold's model answers the clips of its own test speakers, and all clips of each `--test`, as recorded,
through a telephone's band and with noise 10 dB below the voice, made as in a model's card. Synthetic voices beside
people always train. With `--folds 0` all clips train, and only `--test` is scored.

A difference is taken between trainings with the same fold and seed; `only` a part is compared with nothing, all else
with everything. Behind ± stands the standard error over folds and seeds; on `--test` it sees how trainings differ, not
how people do. Finished trainings are kept in FILE.json, and a second call goes on where the first one ended. The last
line names the parts without which every set of clips is answered better.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from agr.common.files import write_atomic
from agr.data import combine, image_set
from agr.data.image_set import ImageSet
from agr.data.splits import Indices, Split
from agr.errors import SettingsError, SplitError
from agr.inference import model_card
from agr.recipes import voice_image
from agr.training import augmentation
from agr.training.augmentation import NONE, Augmentation
from agr.training.loop import fit, measure
from agr.training.model import MODELS, build, predict_logits
from agr.training.settings import VERSION, Settings

PARTS = tuple(field.name for field in fields(Augmentation))
EVERYTHING, NOTHING, WITHOUT, ONLY = "everything", "nothing", "without ", "only "
NOISE_DB = 10.0
HEARD = {
    "as recorded": (None, False),
    model_card.TELEPHONE: (None, True),
    f"noise at {NOISE_DB:g} dB": (NOISE_DB, False),
}
OWN = "speakers held back"
CPU = torch.device("cpu")
HELD_BACK = 20  # of all clips, every so many are measured after each epoch, though they train


@dataclass(frozen=True)
class Clips:
    """Clips to classify: labels, (n,), and images, (n, *IMAGE_SHAPE), for each way of HEARD."""

    labels: NDArray[np.int64]
    pictures: dict[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class Cell:
    """One training: a row of the table, a fold and a seed. key: identifies all that determines its answers."""

    row: str
    fold: int
    settings: Settings
    split: Split
    key: str


Found = dict[str, dict[str, float]]  # balanced accuracy by set of clips and way of HEARD


def strengths(base: Augmentation, parts: Sequence[str], also: Sequence[str]) -> dict[str, Augmentation]:
    """Return the rows of the table. also: `name=value,name=value`, changes of everything. Raises: SettingsError."""
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        raise SettingsError(f"--parts {unknown[0]}: expected some of {', '.join(PARTS)}")
    rows = {EVERYTHING: base, NOTHING: NONE}
    rows |= {WITHOUT + part: replace(base, **{part: 0}) for part in parts}
    rows |= {ONLY + part: replace(NONE, **{part: getattr(base, part)}) for part in parts}
    for changes in also:
        changed = augmentation.parse(changes.split(","))
        names = [item.partition("=")[0] for item in changes.split(",")]
        rows[changes] = replace(base, **{name: getattr(changed, name) for name in names})
    return rows


def heard(data: ImageSet, rows: Indices) -> Clips:
    """Draw some clips in all ways of HEARD. Raises: SettingsError if they hold no voice features."""
    if data.features is None:
        raise SettingsError(f"{data.name}: images of recipe {data.recipe.name}; expected voice")
    parts: dict[str, list[NDArray[np.uint8]]] = {way: [] for way in HEARD}
    for start in range(0, len(rows), model_card.AT_ONCE):
        found = torch.from_numpy(np.array(data.features[rows[start : start + model_card.AT_ONCE]]))
        for way, (noise_db, line) in HEARD.items():
            parts[way].append(
                voice_image.draw(found, model_card.degradation(len(found), noise_db, line, seed=start)).numpy()
            )
    return Clips(data.labels[rows], {way: np.concatenate(each) for way, each in parts.items()})


def divide(data: ImageSet, folds: int, fold: int, seed: int) -> Split:
    """One fold of the speakers, or all clips to train on where there are to be no folds. Raises: SplitError."""
    if folds:
        return combine.split(data, "folds", seed, folds, fold)
    every = np.arange(len(data))
    return Split("all", train=every, val=every[::HELD_BACK], test=every[:0])


def plan(
    data: ImageSet, rows: dict[str, Augmentation], plain: Settings, folds: int, seeds: int, tests: str
) -> Iterator[Cell]:
    """All trainings, those to be compared one after the other. tests: names what is answered beside the fold's own."""
    for seed in range(seeds):
        for fold in range(max(1, folds)):
            split = divide(data, folds, fold, seed)
            for row, strength in rows.items():
                varied = {f"augment_{name}": value for name, value in asdict(strength).items()}
                settings = replace(plain, seed=seed, **varied)
                identity = [data.digest, split.digest, tests, asdict(settings), VERSION, torch.__version__]
                key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
                yield Cell(row, fold, settings, split, key)


def train(data: ImageSet, cell: Cell, sets: dict[str, Clips]) -> Found:
    """Train one cell and score it on all sets of clips."""
    state = fit(data, cell.split, cell.settings, CPU)
    model = build(cell.settings.model)
    model.load_state_dict(state.weights)
    return {name: {way: _accuracy(model, clips, way) for way in HEARD} for name, clips in sets.items()}


def _accuracy(model: nn.Module, clips: Clips, way: str) -> float:
    logits = predict_logits(model, clips.pictures[way], np.arange(len(clips.labels)), CPU)
    return measure(clips.labels, logits, None)[2]


def answers(data: ImageSet, cells: Sequence[Cell], tests: dict[str, Clips], kept: Path) -> dict[str, Found]:
    """What every cell's model scores, by key; trainings in the file `kept` are not repeated. Raises: SettingsError."""
    try:
        found: dict[str, Found] = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    except ValueError as broken:
        raise SettingsError(f"{kept}: {broken}; expected what an earlier call wrote; remove it") from broken
    missing = [cell for cell in cells if cell.key not in found]
    current, sets = "", tests
    for left, cell in zip(range(len(missing))[::-1], missing, strict=True):
        started = time.perf_counter()
        if len(cell.split.test) and cell.split.digest != current:
            current, sets = cell.split.digest, {OWN: heard(data, cell.split.test)} | tests
        found[cell.key] = train(data, cell, sets)
        write_atomic(kept, json.dumps(found, indent=0).encode())
        _tell(cell, found[cell.key], left, time.perf_counter() - started)
    return found


def _tell(cell: Cell, found: Found, left: int, seconds: float) -> None:
    """One line on stderr."""
    scores = ", ".join(f"{name} {ways['as recorded']:.3f}" for name, ways in found.items())
    where = f"seed {cell.settings.seed}, fold {cell.fold}, {cell.row}"
    print(f"{where}: {scores}; {left} left, some {left * seconds / 60:.0f} min", file=sys.stderr, flush=True)


def against(row: str) -> str | None:
    """The row that this one is compared with."""
    return {EVERYTHING: None}.get(row, NOTHING if row.startswith(ONLY) else EVERYTHING)


def error(values: NDArray[np.float64]) -> float:
    """Standard error of a mean, NaN of a single value."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


Scores = dict[str, NDArray[np.float64]]  # of each row, (folds x seeds,)


def gather(cells: Sequence[Cell], found: dict[str, Found], name: str, way: str) -> Scores:
    """The scores of every row on one set of clips heard in one way, in the same order of folds and seeds."""
    rows = dict.fromkeys(cell.row for cell in cells)
    return {row: np.array([found[cell.key][name][way] for cell in cells if cell.row == row]) for row in rows}


def table(name: str, ways: dict[str, Scores]) -> str:
    """Markdown: a line for each row; its score and, in brackets, what it is better by."""
    lines = [f"| {name} | " + " | ".join(ways) + " |", "| --- |" + " ---: |" * len(ways)]
    for row in next(iter(ways.values())):
        cells = [_cell(scores, row) for scores in ways.values()]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(scores: Scores, row: str) -> str:
    mean, other = scores[row].mean(), against(row)
    if other is None:
        return f"{mean:.3f}{_spread(scores[row])}"
    apart = scores[row] - scores[other]
    return f"{mean:.3f} ({apart.mean():+.3f}{_spread(apart)})"


def _spread(values: NDArray[np.float64]) -> str:
    return f" ± {error(values):.3f}" if len(values) > 1 else ""


def better_without(sets: Sequence[Scores]) -> list[str]:
    """The parts without which every set of clips scores higher by more than two standard errors."""
    rows = [row for row in sets[0] if row.startswith(WITHOUT)]
    apart = {row: [scores[row] - scores[EVERYTHING] for scores in sets] for row in rows}
    return [row.removeprefix(WITHOUT) for row in rows if all(d.mean() > 2 * error(d) > 0 for d in apart[row])]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line's options. Raises: SettingsError."""
    parser = argparse.ArgumentParser(prog="python bench/augmentation.py", description=__doc__.partition("\n")[0])
    parser.add_argument("--train", nargs="+", type=Path, required=True, metavar="IMAGES", help="prepared folders")
    parser.add_argument("--test", nargs="+", type=Path, default=[], metavar="IMAGES", help="others, to test on alone")
    parser.add_argument("--folds", type=int, default=4, help="groups of speakers, or 0: all clips train")
    parser.add_argument("--seeds", type=int, default=2, help="how many; of weights, order, augmentation and folds")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--lr", type=float, default=0.001)
    parser.add_argument("--gamma", type=float, default=0.7)
    parser.add_argument("--model", choices=MODELS, default=next(iter(MODELS)))
    parser.add_argument("--augment", nargs="+", default=[], metavar="NAME=STRENGTH", help="what `everything` is")
    parser.add_argument("--parts", nargs="*", default=PARTS, help="switched off and used alone (default: all)")
    parser.add_argument("--also", nargs="+", default=[], metavar="NAME=STRENGTH,...", help="more rows")
    parser.add_argument("--out", type=Path, default=Path("augmentation.md"), help="the tables; FILE.json beside it")
    options = parser.parse_args(arguments)
    if options.seeds < 1 or options.folds < 0 or not (options.folds or options.test):
        raise SettingsError("--seeds below 1, --folds below 0, or 0 without --test; expected something to test on")
    return options


def load_tests(folders: Sequence[Path], data: ImageSet) -> dict[str, ImageSet]:
    """The sets to test on, by their folders' names. Raises: SplitError, SettingsError."""
    tests = {folder.name: image_set.load(folder) for folder in folders}
    if len(tests) < len(folders):
        raise SettingsError(f"--test: two folders of one name among {', '.join(tests)}; expected different ones")
    for name, other in tests.items():
        if np.isin(other.recordings, data.recordings).any():
            raise SplitError(f"--test {name}: some of its recordings are also in --train; expected none")
    return tests


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, print and write the tables; returns the exit status."""
    options = parse(arguments)
    torch.set_num_threads(1)
    data = combine.join([image_set.load(folder) for folder in options.train])
    tests = load_tests(options.test, data)
    rows = strengths(augmentation.parse(options.augment), options.parts, options.also)
    plain = Settings(options.epochs, options.lr, options.gamma, model=options.model)
    digests = " ".join(f"{name} {other.digest}" for name, other in tests.items())
    cells = list(plan(data, rows, plain, options.folds, options.seeds, digests))
    print(f"{data.name}: {len(cells[0].split.train)} clips train, {len(cells)} trainings", file=sys.stderr)
    clips = {name: heard(other, np.arange(len(other))) for name, other in tests.items()}
    found = answers(data, cells, clips, options.out.with_suffix(".json"))
    names = ([OWN] if options.folds else []) + list(clips)
    sets = {name: {way: gather(cells, found, name, way) for way in HEARD} for name in names}
    text = "\n\n".join(table(name, ways) for name, ways in sets.items())
    write_atomic(options.out, (text + "\n").encode())
    useless = better_without([ways["as recorded"] for ways in sets.values()])
    print(
        f"{text}\n\naugmentation: better without, on every set of clips as recorded: {', '.join(useless) or 'no part'}"
    )
    return 0


if __name__ == "__main__":
    from agr.common.cli import run

    run(main)

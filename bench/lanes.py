"""How fast nine lanes train as one batch of models against nine trials one after the other, on the same images.

    python bench/lanes.py [IMAGES] [--device cuda] [--epochs 3]

IMAGES is a folder that `agr.prepare` finished; without it 320 images of made-up voices are prepared. The lanes are the
grid's own from its sixth epoch on: three learning rates, multiplied by three gammas. Both sides train and validate in
one process from the same weights and see the same batches; the first epoch of each warms up and is not timed.

On CUDA the verdict is on speed: fused lanes share epochs as well, so that the 27 trials' 315 epochs are 20 of lanes
(3 lanes, 5 epochs; 9 lanes, 15 epochs). The goal is 15 x for the grid as a whole against 315 separate epochs; the
time of 3 lanes is measured too. On CPU no speed-up is promised, and the verdict is on agreement alone. Nothing here
has been measured on CUDA. Exit status 0 if the goal is held, 1 if not.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from agr.data import corpus, image_set, preparation, splits
from agr.data.image_set import ImageSet
from agr.data.splits import Split
from agr.errors import SettingsError
from agr.recipes.mfcc import MFCC
from agr.synth import demo as synth_demo
from agr.training.fused import Rates, fused_epochs
from agr.training.loop import State, fit
from agr.training.settings import Settings

LRS, GAMMAS = (0.1, 0.01, 0.001), (0.1, 0.3, 0.7)
GOAL = 15.0
SEPARATE, SHARED = 315, 150  # epochs of the 27 trials; of them those that differ
EARLY, LATE = 5, 15  # epochs of 3 lanes; of 9 lanes
WEIGHTS, LOSS = 0.5, 1e-3  # how far lanes may be from trials: in learning rates, in validation loss


def demo(folder: Path) -> ImageSet:
    """320 images of 16 made-up speakers."""
    synth_demo.write_demo(folder / "voices", speakers=16, repetitions=2)
    preparation.prepare(corpus.open_corpus(str(folder / "voices"), folder), folder / "images", MFCC)
    return image_set.load(folder / "images")


def points(lanes: int, epochs: int) -> list[Settings]:
    """`lanes` trials that differ from the first epoch on, as those of the grid do from the sixth."""
    rates = [lr * gamma for lr in LRS for gamma in GAMMAS][:lanes]
    return [Settings(epochs, lr, 1.0) for lr in rates]


class Clock:
    """Wall-clock time of each epoch, from the report of the one before; call it once an epoch."""

    def __init__(self, device: torch.device) -> None:
        """Start."""
        self.device = device
        self.laps: list[float] = []
        self.last = time.perf_counter()

    def lap(self) -> None:
        """An epoch is over."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        self.laps.append(now - self.last)
        self.last = now

    def seconds(self) -> float:
        """The median epoch but the first."""
        laps = sorted(self.laps[1:])
        return laps[len(laps) // 2]


def time_fused(
    data: ImageSet, split: Split, branches: Sequence[Settings], device: torch.device
) -> tuple[float, dict[Settings, State]]:
    """Seconds an epoch of all lanes, and how each ended."""
    clock = Clock(device)
    ends: dict[Rates, State] = {}
    for results in fused_epochs(data, split, branches, device):
        clock.lap()
        ends |= {rates: result for rates, result in results.items() if isinstance(result, State)}
    return clock.seconds(), {branch: ends[branch.rates()] for branch in branches if branch.rates() in ends}


def time_separate(data: ImageSet, split: Split, point: Settings, device: torch.device) -> tuple[float, State]:
    """Seconds an epoch of one trial, and how it ended."""
    clock = Clock(device)
    state = fit(data, split, point, device, lambda epoch, state: clock.lap())
    return clock.seconds(), state


def distance(fused: State, separate: State, lr: float) -> tuple[float, float]:
    """The largest difference of a weight, in learning rates, and of an epoch's validation loss."""
    weights = (float((fused.weights[name] - tensor).abs().max()) for name, tensor in separate.weights.items())
    pairs = zip(fused.history, separate.history, strict=True)
    return max(weights) / lr, max(abs(a.val_loss - b.val_loss) for a, b in pairs)


def agreement(fused: Mapping[Settings, State], separate: Mapping[Settings, State]) -> tuple[bool, str]:
    """Whether every lane ended where its trial did, and how far they are apart."""
    if fused.keys() != separate.keys():
        return False, f"{len(separate) - len(fused)} lanes diverged"
    apart = [distance(fused[point], separate[point], point.lr) for point in separate]
    weights, loss = max(w for w, _ in apart), max(v for _, v in apart)
    said = f"weights within {weights:.3f} learning rates (allowed {WEIGHTS:g}), losses within {loss:.1e} ({LOSS:g})"
    return weights <= WEIGHTS and loss <= LOSS, said


def report(device: str, separate: float, three: float, nine: float, agrees: bool, said: str) -> int:
    """Print seconds, ratios and the verdict; returns the exit status. separate: an epoch of one trial."""
    print(f"{'one epoch of':<28} {'seconds':>9} {'separate':>9} {'ratio':>7}")
    for name, count, taken in (("3 lanes", 3, three), ("9 lanes", 9, nine)):
        print(f"{name:<28} {taken:>9.3f} {count * separate:>9.3f} {count * separate / taken:>7.2f}")
    ratio = SEPARATE * separate / (EARLY * three + LATE * nine)
    print(f"grid of 27 trials: {ratio:.1f} x, where sharing epochs without lanes gives {SEPARATE / SHARED:.1f} x")
    print(f"agreement: {said}")
    if device != "cuda":
        print(f"lanes: no speed-up is promised on {device}; agreement: {'held' if agrees else 'missed'}")
        return 0 if agrees else 1
    held = agrees and ratio >= GOAL
    verdict = "held" if held else "missed"
    print(f"lanes: {ratio:.1f} x for the grid on {device}; goal {GOAL:.0f} x and agreement: {verdict}")
    return 0 if held else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Time both and print the table; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python bench/lanes.py", description="Fused lanes against separate trials.")
    parser.add_argument(
        "images", nargs="?", type=Path, help="a folder that agr.prepare finished (default: demo voices)"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--epochs", type=int, default=3, help="of which the first is not timed")
    options = parser.parse_args(arguments)
    if options.epochs < 2:
        raise SettingsError(f"--epochs {options.epochs}: expected 2 or more")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("--device cuda: no GPU that torch can use; expected one")
    torch.set_num_threads(1)
    device = torch.device(options.device)
    with tempfile.TemporaryDirectory() as name:
        data = image_set.load(options.images) if options.images else demo(Path(name))
        split = splits.make(data)
        print(f"{data.name}: {len(split.train)} images train, {len(split.val)} validate, {device}")
        branches = points(9, options.epochs)
        three, _ = time_fused(data, split, branches[:3], device)
        nine, fused = time_fused(data, split, branches, device)
        alone = {branch: time_separate(data, split, branch, device) for branch in branches}
    separate = sum(seconds for seconds, _ in alone.values()) / len(alone)
    agrees, said = agreement(fused, {branch: state for branch, (_, state) in alone.items()})
    return report(options.device, separate, three, nine, agrees, said)


if __name__ == "__main__":
    from agr.common.cli import run

    run(main)

"""Time `agr.prepare` against a plain librosa loop, on the same clips in the same run.

    python bench/prepare.py [SOURCE] [--workers 2] [--clips 1000] [--rounds 3]

The baseline, bench/librosa_loop.py, is the obvious script: one process, one clip after the other through librosa
(load, pre-emphasis, MFCC) and matplotlib (imsave). Both are timed as commands, from process start to exit, and again
after imports and first calls. The baseline gets one BLAS thread: with more, any other load on the machine slows it down
many times. The two take turns, each in a fresh folder, and the best round of each counts. Exit status 0 if the command
is at least GOAL times as fast as the baseline, 1 if not.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # before numpy

from librosa_loop import librosa_loop

from agr.data import corpus, preparation
from agr.data.clips import Corpus
from agr.data.layouts.manifest import MANIFEST_COLUMNS, read_manifest
from agr.errors import CorpusError, SettingsError
from agr.recipes.mfcc import MFCC

GOAL = 4.0
BASELINE, OURS = "librosa loop", "agr.prepare"
BASELINE_SCRIPT = Path(__file__).with_name("librosa_loop.py")
WARM_UP = 5  # clips


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def choose(source: Corpus, count: int, folder: Path) -> Path:
    """Write a manifest of `count` clips spread evenly over the corpus; reads each once, into the file cache."""
    clips = source.clips[:: max(1, len(source.clips) // count)][:count]
    manifest = folder / "clips.csv"
    with manifest.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(MANIFEST_COLUMNS)
        for clip in clips:
            clip.path.read_bytes()
            writer.writerow((clip.path.resolve(), clip.speaker, clip.gender))
    return manifest


def command(arguments: Sequence[str | Path]) -> None:
    """Run Python as a user would. Raises: CorpusError with the last line of its stderr."""
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise CorpusError(f"{' '.join(map(str, arguments))}: {done.stderr.strip().splitlines()[-1]}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Time them all and print the table; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python bench/prepare.py", description="agr.prepare against a librosa loop.")
    parser.add_argument("source", nargs="?", default="demo", help="any SOURCE of recordings (default: demo)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the best of each command counts (default: 3)")
    options = parser.parse_args(arguments)
    if min(options.workers, options.clips, options.rounds) < 1:
        raise SettingsError("--workers, --clips or --rounds is below 1; expected 1 or more of each")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = corpus.open_corpus(options.source, folder)
        if source.ready_images:
            raise CorpusError(f"{options.source}: ready images; expected recordings")
        manifest = choose(source, options.clips, folder)
        clips = read_manifest(manifest, allow_outside=True)
        librosa_loop([clip.path for clip in clips.clips[:WARM_UP]], folder / "warm-up")
        rounds = [run_round(manifest, clips, folder / str(i), options.workers) for i in range(options.rounds)]
    best = {name: min(taken[name] for taken in rounds) for name in rounds[0]}
    return report(best, len(clips.clips), options.workers)


def run_round(manifest: Path, clips: Corpus, folder: Path, workers: int) -> dict[str, float]:
    """Run one round, each command into a fresh folder; returns the seconds of each by name, the baseline first."""
    folder.mkdir()
    paths = [clip.path for clip in clips.clips]
    ours = ("-m", "agr.prepare", manifest, "--out", folder / "ours", "--workers", str(workers))
    recipe = ("--recipe", MFCC.name, "--allow-outside")
    return {
        BASELINE: seconds(lambda: command((BASELINE_SCRIPT, manifest, folder / "baseline"))),
        OURS: seconds(lambda: command((*ours, *recipe))),
        f"{BASELINE}, warm": seconds(lambda: librosa_loop(paths, folder / "baseline-warm")),
        f"{OURS}, called": seconds(lambda: preparation.prepare(clips, folder / "ours-called", MFCC, workers)),
    }


def report(rows: dict[str, float], clips: int, workers: int) -> int:
    """Print a line for each command and the verdict; returns the exit status."""
    print(f"{clips} clips, {workers} workers {'seconds':>18} {'clips/s':>9} {'ratio':>7}")
    for (name, taken), baseline in zip(
        rows.items(), (BASELINE, BASELINE, f"{BASELINE}, warm", f"{BASELINE}, warm"), strict=True
    ):
        print(f"{name:<32} {taken:>10.2f} {clips / taken:>9.1f} {rows[baseline] / taken:>7.2f}")
    ratio = rows[BASELINE] / rows[OURS]
    verdict = "held" if ratio >= GOAL else "missed"
    print(
        f"prepare: {ratio:.1f} x the librosa loop, command to command, {workers} workers; goal {GOAL:.0f} x: {verdict}"
    )
    return 0 if ratio >= GOAL else 1


if __name__ == "__main__":
    from agr.common.cli import run

    run(main)

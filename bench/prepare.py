"""How fast `agr.prepare` is against a plain librosa loop, on the same clips in the same run.

    python bench/prepare.py [SOURCE] [--workers 2] [--clips 1000] [--rounds 3]

The rival is what one would write first: one process, one clip after the other through librosa (load, pre-emphasis,
MFCC) and matplotlib (imsave). Its imports and first calls are not timed, and it gets one BLAS thread: with more, any
other load on the machine slows it down many times over. Of `agr.prepare` the whole command is timed into a fresh
folder: process start, imports, workers, decoding, images, journal, manifest and pixel file. The contestants take
turns, and the best round of each counts. Exit status 0 if the command is at least GOAL times as fast, 1 if not.
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

from agr import corpus, prepare
from agr.errors import CorpusError, SettingsError
from agr.recipe import MFC

GOAL = 4.0
WARM_UP = 5  # clips


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def choose(source: corpus.Corpus, count: int, folder: Path) -> Path:
    """Write a manifest of `count` clips spread evenly over the corpus; they are read once, so that none is cold."""
    clips = source.clips[:: max(1, len(source.clips) // count)][:count]
    manifest = folder / "clips.csv"
    with manifest.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(corpus.MANIFEST_COLUMNS)
        for clip in clips:
            clip.path.read_bytes()
            writer.writerow((clip.path.resolve(), clip.speaker, clip.gender))
    return manifest


def librosa_loop(paths: Sequence[Path], out: Path) -> None:
    """One JPEG a clip, by librosa's and matplotlib's own calls."""
    from librosa import load
    from librosa.effects import preemphasis
    from librosa.feature import mfcc
    from librosa.util import fix_length
    from matplotlib.pyplot import imsave

    out.mkdir(exist_ok=True)
    for i, path in enumerate(paths):
        y, _ = load(path, sr=MFC.sample_rate)
        y = preemphasis(fix_length(y, size=MFC.n_samples), coef=MFC.pre_emphasis)
        values = mfcc(
            y=y,
            sr=MFC.sample_rate,
            n_mfcc=MFC.n_mfcc,
            lifter=MFC.lifter,
            n_mels=MFC.n_mels,
            n_fft=MFC.win_length,
            hop_length=MFC.hop_length,
            center=False,
        )
        imsave(out / f"{i}.jpg", values, format="jpg")


def whole_command(manifest: Path, out: Path, workers: int) -> None:
    """`python -m agr.prepare` as a user starts it."""
    command = [sys.executable, "-m", "agr.prepare", str(manifest), "--out", str(out), "--workers", str(workers)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CorpusError(f"{' '.join(command)}: {done.stderr.strip().splitlines()[-1]}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Time all three and print the table; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python bench/prepare.py", description="agr.prepare against a librosa loop.")
    parser.add_argument("source", nargs="?", default="demo", help="any SOURCE of recordings (default: demo)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3, help="the best round of each contestant counts")
    options = parser.parse_args(arguments)
    if min(options.workers, options.clips, options.rounds) < 1:
        raise SettingsError("--workers, --clips or --rounds is below 1; expected 1 or more of each")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = corpus.open_corpus(options.source, folder)
        if source.ready_images:
            raise CorpusError(f"{options.source}: ready images; expected recordings")
        manifest = choose(source, options.clips, folder)
        clips = corpus.read_manifest(manifest)
        librosa_loop([clip.path for clip in clips.clips[:WARM_UP]], folder / "warm-up")
        rounds = [race(manifest, clips, folder / str(i), options.workers) for i in range(options.rounds)]
    best = {name: min(taken[name] for taken in rounds) for name in rounds[0]}
    return report(best, len(clips.clips), options.workers)


def race(manifest: Path, clips: corpus.Corpus, folder: Path, workers: int) -> dict[str, float]:
    """One round, each contestant into a fresh folder: its name and its seconds, the rival first."""
    folder.mkdir()
    paths = [clip.path for clip in clips.clips]
    return {
        "librosa loop, one process": seconds(lambda: librosa_loop(paths, folder / "librosa")),
        "prepare, whole command": seconds(lambda: whole_command(manifest, folder / "command", workers)),
        "prepare, called": seconds(lambda: prepare.prepare(clips, folder / "called", MFC, workers)),
    }


def report(rows: dict[str, float], clips: int, workers: int) -> int:
    """Print a line for each contestant, seconds first, and the verdict; returns the exit status."""
    rival, command, _ = rows.values()
    print(f"{clips} clips, {workers} workers {'seconds':>18} {'clips/s':>9} {'ratio':>7}")
    for name, taken in rows.items():
        print(f"{name:<32} {taken:>10.2f} {clips / taken:>9.1f} {rival / taken:>7.2f}")
    ratio = rival / command
    verdict = "held" if ratio >= GOAL else "missed"
    print(f"prepare: {ratio:.1f} x the librosa loop on {workers} workers; goal {GOAL:.0f} x: {verdict}")
    return 0 if ratio >= GOAL else 1


if __name__ == "__main__":
    from agr.terminal import run

    run(main)

"""Time a search over a million prepared clips: to its first batch, and the memory of the driver and of the workers.

    python bench/large.py [SOURCE] [--clips 1000000] [--whole]

The images of SOURCE (recordings or a prepared folder, recipe `mfcc`) are written over and over into a temporary folder,
3.8 kB a clip. A search of one point trains on them, and is ended after its first batch, or with --whole ends itself.
Exit status 0 if no process needs more than GOAL_BYTES, and the first batch is trained within GOAL_SECONDS.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil
from _changed_module import site
from _grid_tools import QUIET, prepared

from agr.common.cli import run
from agr.common.files import content_digest
from agr.data import image_set, shards
from agr.errors import AgrError
from agr.labels import CLASSES

GOAL_SECONDS, GOAL_BYTES = 20.0, 3e9
ROOT = Path(__file__).resolve().parents[1]
CLIPS_OF_A_SPEAKER = 50
POINT = ("--epochs", "1", "--lr", "0.001", "--gamma", "0.3", "--no-augmentation", "--num-workers", "1")
MARK = """
import os
batches = module.TrainingSet.batches
def marked(*arguments):
    for number, batch in enumerate(batches(*arguments)):
        if number == 1:
            open(os.environ["AGR_FIRST_BATCH"], "w").close()
        yield batch
module.TrainingSet.batches = marked
"""  # marks that a worker has trained its first batch, as it asks for the second one


def enlarge(source: Path, clips: int, out: Path) -> Path:
    """A prepared folder of so many clips, those of another one over and over; each speaker has CLIPS_OF_A_SPEAKER."""
    made, paths, start = image_set.load(source), list[Path](), 0
    out.mkdir()
    names = [f"clips/{number:08}.mp3" for number in range(clips)]
    rows = ["gender,speaker,corpus,recording,samples,source"]
    with shards.progress("writing clips", clips, "clips", shards.QUICK * shards.SIZE) as advance:
        for group in shards.groups(names):
            found = []
            for number, name in enumerate(group, start):
                recording, speaker = content_digest(name.encode()), number // CLIPS_OF_A_SPEAKER
                stored, about = made.pixels[number % len(made)], (name, "", made.recipe.digest, recording)
                found.append(shards.Outcome(*about, samples=recording, stored=stored))
                rows.append(f"{CLASSES[speaker % 2]},s{speaker:06},large,{recording},{recording},{name}")
            paths.append(shards.write(out, found, made.recipe))
            start += len(group)
            advance(len(group))
    image_set.save(out, "large", made.recipe, made.synthetic, "\n".join([*rows, ""]).encode(), paths)
    return out


def search(data: Path, scratch: Path, whole: bool) -> tuple[float, int, int]:
    """Seconds from the command to the first batch, and the peak bytes of the driver and of its largest child.

    Mapped pages count, though all share them. Raises: AgrError with the last line of the search if it trains nothing.
    """
    (scratch / "sitecustomize.py").write_text(site("agr.training.batches", MARK))
    mark, log, peaks = scratch / "first", scratch / "output.txt", dict[int, int]()
    env = os.environ | QUIET | {"PYTHONPATH": f"{scratch}:{ROOT}", "AGR_FIRST_BATCH": str(mark)}
    command = [sys.executable, str(ROOT / "search/run_grid.py"), "--data", str(data), *POINT]
    began, first = time.time(), 0.0
    with log.open("wb") as file, subprocess.Popen(command, cwd=scratch, env=env, stdout=file, stderr=file) as driver:
        while driver.poll() is None:
            with suppress(psutil.Error):
                for each in (psutil.Process(driver.pid), *psutil.Process(driver.pid).children(recursive=True)):
                    peaks[each.pid] = max(peaks.get(each.pid, 0), each.memory_info().rss)
            if not first and mark.exists():
                first = mark.stat().st_mtime - began
                if not whole:
                    driver.send_signal(signal.SIGINT)
            time.sleep(0.2)
    if not first or (whole and driver.returncode):
        raise AgrError(f"run_grid.py: exit status {driver.returncode}; {log.read_text().strip().splitlines()[-1]}")
    return first, peaks.pop(driver.pid), max(peaks.values())


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the clips, search, print; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python bench/large.py", description="A search over very many clips.")
    parser.add_argument("source", nargs="?", default="demo", metavar="SOURCE", help="what to repeat (default: demo)")
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument("--whole", action="store_true", help="train the epoch to its end, and test the champion")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="agr-large-") as name:
        scratch = Path(name)
        data = enlarge(prepared(options.source, scratch), options.clips, scratch / "large")
        began = time.perf_counter()
        image_set.load(data)
        loaded = time.perf_counter() - began
        first, driver, worker = search(data, scratch, options.whole)
    print(f"{options.clips} clips: loaded in {loaded:.1f} s, first batch after {first:.1f} s (goal {GOAL_SECONDS:g} s)")
    print(f"driver {driver / 1e9:.2f} GB, worker {worker / 1e9:.2f} GB at their peak (goal {GOAL_BYTES / 1e9:g} GB)")
    return int(first > GOAL_SECONDS or max(driver, worker) > GOAL_BYTES)


if __name__ == "__main__":
    run(main)

"""Decode many damaged sound files: do decoding and `agr.predict` ever crash, hang or take too much memory?

    python bench/fuzz.py [--files 100000] [--seed 0] [--jobs 2] [--every 50] [--keep FOLDER]

Every file (made by `bench/_mutations.py` from the formats of libsndfile and FFmpeg, damaged one to four times) is
decoded by `agr.audio.read.load`. If that succeeds, `agr.recipes.voice_features.extract` computes its features. This
runs in `--jobs` processes. Every `--every`th file is also given to `python -m agr.predict`, BATCH files per command,
with an untrained model. What must hold:

    decoding    finite samples, or one AudioError of one line that names the file; no traceback or warning;
                the process survives; at most SECONDS of processor time; at most MEMORY
    predict     exit status 0 or 1, no traceback, each file answered or named in exactly one line of stderr

The same seed gives the same files. Files that fail are kept in a folder. The last line is the verdict. Exit status 0
if everything held, 1 if not.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from _mutations import mutated, seeds

from agr.audio import read as audio
from agr.common.progress import Meter, silent_progress, terminal_progress
from agr.errors import AudioError
from agr.recipes import speech, voice_features
from agr.recipes.voice import VOICE

SECONDS = 5.0
MEMORY = 512 * 2**20
HARD_MEMORY = 4 * 2**30  # of address space: what would take more is ended
BATCH = 200
SUFFIXES = (".wav", ".flac", ".m4a", ".bin")
PEAK_UNIT = 1 if sys.platform == "darwin" else 1024  # of getrusage


@dataclass
class Found:
    """The result: how many files had which outcome, and which files failed."""

    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)
    failures: list[tuple[int, str]] = field(default_factory=list)
    slowest: tuple[float, int] = (0.0, -1)  # seconds of processor time, and the file's number
    peak: int = 0  # bytes, of a process that decodes
    asked: int = 0  # files given to agr.predict
    predict_peak: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def worker(seed: int, start: int, stop: int, step: int) -> None:
    """Decode a share of the files and print a line of JSON for each. The system kills this process after SECONDS."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (HARD_MEMORY, HARD_MEMORY))
    originals = seeds()
    lines = os.fdopen(os.dup(1), "w")
    with tempfile.TemporaryFile() as noise:
        os.dup2(noise.fileno(), 2)
        for number in range(start, stop, step):
            data = mutated(originals, seed, number)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            before = time.process_time()
            outcome, complaint = attempt(data)
            seconds = time.process_time() - before
            signal.setitimer(signal.ITIMER_PROF, 0)
            said = os.pread(2, 2**16, 0).decode(errors="replace")
            os.ftruncate(2, 0)
            os.lseek(2, 0, os.SEEK_SET)
            if "Traceback" in said or ".py:" in said:  # a callback's exception, or a warning; libmpg123 talks as well
                complaint = complaint or f"on stderr: {said}"
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * PEAK_UNIT
            print(json.dumps([number, outcome, complaint, seconds, peak]), file=lines, flush=True)


def attempt(data: bytes) -> tuple[str, str]:
    """Decode and measure one file; returns the outcome and a complaint, "" if nothing is wrong."""
    try:
        y = audio.load(data, VOICE.sample_rate, "clip")
        found = voice_features.extract(y, VOICE)
        speech.speech_seconds(y, VOICE)
    except AudioError as error:
        says = str(error)
        right = says.startswith("clip: ") and "expected" in says and "\n" not in says
        return type(error).__name__, "" if right else f"message {says!r}"
    except Exception as error:
        return type(error).__name__, f"{type(error).__name__}: {error}"
    right = y.ndim == 1 and y.dtype == np.float32 and len(y) > 0 and bool(np.isfinite(y).all())
    return "decoded", "" if right and found.shape[0] == voice_features.ROWS else f"samples {y.shape} {y.dtype}"


def watch(seed: int, start: int, stop: int, step: int, found: Found, advance: Meter) -> None:
    """Run a worker over a share of the files; if it dies, note the file and start another after that file."""
    number = start
    while number < stop:
        command = [sys.executable, __file__, "--worker", *map(str, (seed, number, stop, step))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                number, outcome, complaint, seconds, peak = json.loads(line)
                with found.lock:
                    note(found, number, outcome, complaint, seconds, peak)
                    advance(1)
                number += step
        status = process.returncode
        if number < stop:
            hung = status == -signal.SIGPROF
            with found.lock:
                found.outcomes["hung" if hung else "died"] += 1
                found.failures.append((number, f"over {SECONDS:g} s" if hung else f"process ended with {status}"))
                advance(1)
            number += step


def note(found: Found, number: int, outcome: str, complaint: str, seconds: float, peak: int) -> None:
    """Add the result of one file."""
    found.outcomes[outcome] += 1
    found.slowest = max(found.slowest, (seconds, number))
    if peak > MEMORY >= found.peak:
        complaint = complaint or f"peak memory {peak >> 20} MiB"
    found.peak = max(found.peak, peak)
    if complaint:
        found.failures.append((number, complaint))


def run_predict(model: Path, seed: int, numbers: Sequence[int], found: Found) -> None:
    """Give some files to `agr.predict`, and check its answers."""
    originals = seeds()
    with tempfile.TemporaryDirectory() as folder:
        paths = {str(Path(folder) / f"{number}{SUFFIXES[number % 4]}"): number for number in numbers}
        for path, number in paths.items():
            Path(path).write_bytes(mutated(originals, seed, number))
        command = [sys.executable, "-m", "agr.predict", "--json", "--model-uri", str(model), *paths]
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            process = subprocess.Popen(command, stdout=out, stderr=err)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            texts = [(stream.seek(0), stream.read())[1] for stream in (out, err)]
    complaints = complaints_about(list(paths), process.returncode, *texts)
    with found.lock:
        found.asked += len(paths)
        found.predict_peak = max(found.predict_peak, usage.ru_maxrss * PEAK_UNIT)
        found.failures += [(paths.get(path, numbers[0]), f"predict: {says}") for path, says in complaints]


def complaints_about(paths: Sequence[str], status: int, out: str, err: str) -> Iterator[tuple[str, str]]:
    """Check an output of `agr.predict`; yields pairs of a path and a complaint."""
    if status not in (0, 1) or "Traceback" in err:
        yield "", f"exit status {status}, {err[-300:]!r}"
        return
    answers = [json.loads(line) for line in out.splitlines()]
    lines = [line for line in err.splitlines() if not line.startswith("listening to ")]  # progress
    if [answer["path"] for answer in answers] != list(paths):
        yield "", f"{len(answers)} answers to {len(paths)} files"
        return
    for answer in answers:
        if "the decoder" in (said := answer.get("error", answer.get("warning", ""))):
            yield answer["path"], said
    failed = sum("error" in answer for answer in answers)
    if len(lines) != (len(answers) > 1) or status != int(failed > 0):
        yield "", f"exit status {status}, {failed} errors, {len(lines)} lines of stderr"


def untrained(folder: Path) -> Path:
    """Save an untrained model of the default recipe, for `agr.predict`; returns its folder."""
    from agr.inference import bundle
    from agr.training.model import build

    empty: dict[str, Any] = {"settings": {}, "split": {}, "val": {}, "test": {}, "environment": {}}
    info = bundle.BundleInfo(model="cnn", recipe=VOICE, data={"name": "none", "synthetic": False}, **empty)
    bundle.save(folder, build("cnn", seed=0).state_dict(), info, bundle.Seen(frozenset(), frozenset()))
    return folder


def fuzz(files: int, seed: int, jobs: int, every: int, quiet: bool = False) -> Found:
    """Decode all files, then give every `every`th to `agr.predict`."""
    found = Found()
    with (silent_progress if quiet else terminal_progress)("decoding", files, unit="files") as advance:
        shares = [
            threading.Thread(target=watch, args=(seed, first, files, jobs, found, advance)) for first in range(jobs)
        ]
        for share in shares:
            share.start()
        for share in shares:
            share.join()
    asked = list(range(0, files, every))
    with tempfile.TemporaryDirectory() as folder:
        model = untrained(Path(folder) / "model")
        with (silent_progress if quiet else terminal_progress)("predict", len(asked), unit="files") as advance:
            for at in range(0, len(asked), BATCH):
                run_predict(model, seed, asked[at : at + BATCH], found)
                advance(len(asked[at : at + BATCH]))
    return found


def report(found: Found, files: int, seed: int, keep: Path) -> int:
    """Print the result and keep the files that failed; returns the exit status."""
    originals = seeds()
    for outcome, count in found.outcomes.most_common():
        print(f"{count:8} {outcome}")
    for number, complaint in sorted(found.failures):
        keep.mkdir(parents=True, exist_ok=True)
        (keep / f"{seed}_{number}.bin").write_bytes(mutated(originals, seed, number))
        print(f"file {number}: {' '.join(complaint.split())[:300]}")
    print(f"slowest: file {found.slowest[1]}, {found.slowest[0]:.2f} s of processor time")
    print(f"peak memory: decoding {found.peak >> 20} MiB, agr.predict {found.predict_peak >> 20} MiB")
    missing = files - sum(found.outcomes.values())
    held = not found.failures and not missing
    said = (
        "no crash, no hang, no traceback, no failure"
        if held
        else f"{len(found.failures)} failures, {missing} files missing"
    )
    print(f"{files} files decoded, {found.asked} of them also by agr.predict, seed {seed}: {said}")
    return int(not held)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python bench/fuzz.py", description="Decode and predict damaged files.")
    parser.add_argument("--files", type=int, default=100_000, help="number of files (default: 100000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the damage (default: 0)")
    parser.add_argument("--jobs", type=int, default=2, help="processes that decode (default: 2)")
    parser.add_argument("--every", type=int, default=50, help="give every Nth file to agr.predict too (default: 50)")
    parser.add_argument("--keep", type=Path, default=Path("fuzz_failures"), help="folder for files that fail")
    parser.add_argument("--worker", type=int, nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        worker(*options.worker)
        return 0
    return report(
        fuzz(options.files, options.seed, options.jobs, options.every), options.files, options.seed, options.keep
    )


if __name__ == "__main__":
    sys.exit(main())

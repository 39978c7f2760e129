"""Time `agr.predict`: seconds to the first answer, and clips per second, next to MLflow's own `pyfunc`.

    python bench/predict.py [--clips 1000] [--runs 5]
    python bench/predict.py --rivals [FOLDER]        # processor time beside Praat, openSMILE, Resemblyzer and others

Cold start: `python -m agr.predict` on one clip with `models:/agr/best`, against `python -c "import torch"`, which no
prediction can do without. Throughput: a folder of clips, first in a fresh process, then with everything loaded and
warmed up, next to `mlflow.pyfunc.load_model` and `predict` on the same clips. The commands take turns; the medians are
reported. The store, the model (untrained, which does not change its speed) and the synthetic clips are made in a
temporary folder. Exit status 0 if the cold start takes at most GOAL times as long as importing torch, 1 if not.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import _predict_rivals

from agr.audio import read as audio
from agr.inference import bundle
from agr.recipes.base import Recipe
from agr.recipes.mfcc import MFCC
from agr.registry import tracker as registry_tracker
from agr.registry.uri import BEST
from agr.synth import demo
from agr.training.model import build

GOAL = 2.0
SPEAKERS = 20
THROUGHPUT_RUNS = 3

STEADY_AGR = """
import sys, time
from pathlib import Path
from agr.audio import read as audio
from agr.inference import bundle
from agr.inference.answers import answer
from agr.registry.resolve import resolve
clips = [str(path) for path in audio.find(Path(sys.argv[1]))]
loaded = bundle.load(resolve("models:/agr/best").folder)
list(answer(iter(clips[:64]), loaded))
start = time.perf_counter()
answers = list(answer(iter(clips), loaded))
print(time.perf_counter() - start)
assert all(each.error is None for each in answers)
"""

STEADY_MLFLOW = """
import sys, time
import mlflow, pandas
from agr.audio import read as audio
from pathlib import Path
clips = audio.find(Path(sys.argv[1]))
model = mlflow.pyfunc.load_model("models:/agr@best")
model.predict(pandas.DataFrame({"audio": [clip.read_bytes() for clip in clips[:64]]}))
start = time.perf_counter()
answers = model.predict(pandas.DataFrame({"audio": [clip.read_bytes() for clip in clips]}))
print(time.perf_counter() - start)
assert (answers["error"] == "").all()
"""

WHOLE_MLFLOW = """
import sys
import mlflow, pandas
from agr.audio import read as audio
from pathlib import Path
clips = audio.find(Path(sys.argv[1]))
model = mlflow.pyfunc.load_model("models:/agr@best")
print(model.predict(pandas.DataFrame({"audio": [clip.read_bytes() for clip in clips]})).to_csv(sep="\\t"))
"""

Command = Sequence[str]


def make_clips(folder: Path, one: Path, count: int) -> None:
    """A folder of `count` synthetic clips, and another with one of them."""
    demo.write_demo(folder, SPEAKERS, -(-count // (SPEAKERS * len(demo.WORDS))))
    clips = audio.find(folder)
    for path in {path for path in folder.rglob("*") if path.is_file()} - set(clips[:count]):
        path.unlink()
    one.mkdir()
    shutil.copy(clips[0], one)


def make_store(folder: Path, recipe: Recipe = MFCC) -> str:
    """An MLflow store with one registered model, `best`; returns its URI."""
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    info = bundle.BundleInfo(
        model="cnn",
        recipe=recipe,
        settings={},
        data={"name": "none", "synthetic": False},
        split={},
        val={},
        test={},
        environment={},
    )
    bundle.save(folder / "model", build("cnn", seed=0).state_dict(), info, bundle.Seen(frozenset(), frozenset()))
    tracker = registry_tracker.Tracker(uri)
    run = tracker.start_run("bench", {}, {})
    tracker.set_alias(BEST, tracker.register(run, folder / "model", {}))
    return uri


def wall(command: Command, environment: Mapping[str, str]) -> float:
    """Seconds from the start of a process to its end."""
    start = time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def printed_seconds(command: Command, environment: Mapping[str, str]) -> float:
    """The seconds that a process prints."""
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def in_turns(commands: Sequence[Command], environment: Mapping[str, str], runs: int, steady: bool) -> list[float]:
    """Median seconds of each command, the commands taking turns."""
    measure = printed_seconds if steady else wall
    rounds = [[measure(command, environment) for command in commands] for _ in range(runs)]
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python bench/predict.py", description="Time agr.predict next to MLflow's pyfunc."
    )
    parser.add_argument("--clips", type=int, default=1000, help="clips for measuring throughput")
    parser.add_argument("--runs", type=int, default=5, help="cold starts of each command")
    against = "compare with the installed tools of agr.baselines, on recordings in FOLDER (default: synthetic ones)"
    parser.add_argument("--rivals", nargs="?", type=Path, const=Path(), metavar="FOLDER", help=against)
    options = parser.parse_args(arguments)
    if options.rivals and options.rivals != Path():
        _predict_rivals.report(options.rivals)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        folder, one = Path(scratch) / "clips", Path(scratch) / "one"
        make_clips(folder, one, options.clips)
        if options.rivals is not None:
            _predict_rivals.report(folder)
            return 0
        environment = os.environ | {
            "MLFLOW_TRACKING_URI": make_store(Path(scratch)),
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        return report(options.clips, options.runs, folder, one, environment)


def report(clips: int, runs: int, folder: Path, one: Path, environment: Mapping[str, str]) -> int:
    """Measure, print the table, return the exit status."""
    here = sys.executable
    predict = [here, "-m", "agr.predict", "--model-uri", "models:/agr/best"]
    mlflow = [here, "-c", WHOLE_MLFLOW]
    cold = [[here, "-c", "import torch"], [*predict, str(one)], [*mlflow, str(one)]]
    torch, first, mlflow_first = in_turns(cold, environment, runs, steady=False)
    print(f"{'medians of alternating runs':40}{'agr.predict':>14}{'mlflow.pyfunc':>16}")
    print(f"{'cold start to the first answers, seconds':40}{first:14.2f}{mlflow_first:16.2f}", flush=True)
    whole = [[*predict, str(folder)], [*mlflow, str(folder)]]
    steady = [[here, "-c", STEADY_AGR, str(folder)], [here, "-c", STEADY_MLFLOW, str(folder)]]
    for name, commands in (("fresh process", whole), ("loaded and warm", steady)):
        times = in_turns(commands, environment, min(runs, THROUGHPUT_RUNS), steady=commands is steady)
        print(f"{f'{clips} clips, {name}, clips a second':40}", end="")
        print(
            "".join(f"{clips / seconds:{width}.0f}" for seconds, width in zip(times, (14, 16), strict=True)), flush=True
        )
    ratio = first / torch
    verdict = "held" if ratio <= GOAL else "MISSED"
    print(f"cold start {ratio:.2f} x `import torch` ({torch:.2f} s): goal of at most {GOAL:g} x {verdict}")
    return int(ratio > GOAL)


if __name__ == "__main__":
    sys.exit(main())

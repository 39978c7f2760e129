"""The command that prepares a corpus: what it prints, kills and reruns, mistakes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from agr.audio import read as audio
from agr.common.cli import run
from agr.data import image_set, shards
from agr.data.image_set import load
from agr.data.layouts.audiomnist import METADATA
from agr.data.preparation import SKIPPED
from agr.errors import CorpusError
from agr.prepare import main
from agr.recipes import mfcc, mfcc_reference
from agr.recipes.encode import RECIPES
from agr.recipes.mfcc_reference import jpeg
from agr.recipes.voice import VOICE
from tests.folders import prepared, times, tree, write_manifest

REPOSITORY = Path(__file__).resolve().parents[2]
SPEAKERS = ("01", "02", "03")


# --- killed in the middle


def multiplied(source: Path, root: Path, repetitions: int) -> Path:
    """The corpus with each recording under several names, and its last sample different each time."""
    for path in audio.find(source):
        digit, speaker, _ = path.name.split("_")
        (root / "data" / speaker).mkdir(parents=True, exist_ok=True)
        for repetition in range(repetitions):
            changed = path.read_bytes()[:-2] + repetition.to_bytes(2, "little")
            (root / "data" / speaker / f"{digit}_{speaker}_{repetition}.wav").write_bytes(changed)
    shutil.copy(source / "data" / METADATA, root / "data" / METADATA)
    return root


def start(source: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "agr.prepare", str(source), "--out", str(out), "--workers", "2"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def end_in_the_middle(process: subprocess.Popen[str], out: Path, end: Callable[[int], None]) -> str:
    """End the process once some images are there; returns stderr.

    Stderr ends only when the last process that holds it is gone, workers included; a worker that lives on
    would make `communicate` time out.
    """
    deadline = time.monotonic() + 60
    while not list(out.glob("part-*.arrow")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    end(process.pid)
    return process.communicate(timeout=60)[1]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_killed_in_the_middle_it_leaves_nothing_half_done_and_goes_on_where_it_was(
    demo_root: Path, tmp_path: Path
) -> None:
    source, out = multiplied(demo_root, tmp_path / "voices", 4), tmp_path / "out"
    process = start(source, out)
    end_in_the_middle(process, out, lambda pid: os.kill(pid, signal.SIGKILL))
    assert process.returncode == -signal.SIGKILL
    left = [outcome for path in shards.found(out) for outcome in shards.outcomes(path, VOICE)]
    assert 2 <= len(left) < 320
    assert all(shards.intact(path) for path in shards.found(out))
    assert not image_set.is_prepared(out)
    with pytest.raises(CorpusError):
        load(out)

    again = start(source, out)
    printed, _ = again.communicate(timeout=120)
    assert again.returncode == 0
    made, kept = (int(word) for word in printed.replace(",", "").split() if word.isdecimal() and word != "0")
    assert made + kept == 320
    assert kept == len(left)
    prepared(source, tmp_path / "undisturbed", VOICE)
    assert tree(out) == tree(tmp_path / "undisturbed")
    assert load(out).digest == load(tmp_path / "undisturbed").digest


def test_of_two_runs_at_once_one_makes_the_images_and_the_other_finds_them(demo_root: Path, tmp_path: Path) -> None:
    processes = [start(demo_root, tmp_path / "out") for _ in range(2)]
    printed = sorted(process.communicate(timeout=120)[0] for process in processes)
    assert [process.returncode for process in processes] == [0, 0]
    assert "0 images made, 80 kept" in printed[0]
    assert "80 images made, 0 kept" in printed[1]
    assert len(load(tmp_path / "out")) == 80


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="this system has no process groups")
def test_control_c_ends_it_with_one_line_and_no_worker_left(demo_root: Path, tmp_path: Path) -> None:
    source, out = multiplied(demo_root, tmp_path / "voices", 4), tmp_path / "out"
    process = start(source, out)
    errors = end_in_the_middle(process, out, lambda pid: os.killpg(pid, signal.SIGINT))
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert errors.endswith("agr: interrupted\n")
    assert not image_set.is_prepared(out)


# --- the command


def test_the_command_says_what_it_did(three_speakers: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (three_speakers / "data/01/0_01_0.wav").write_bytes(b"")
    assert main([str(three_speakers), "--out", str(out), "--workers", "1"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"{out}: 29 images made, 0 kept, 1 clips skipped"
    assert printed[1] == f"why they were skipped: {out / SKIPPED}"
    assert printed[2] == "  1 clip: 01/0_01_0.wav: 0 bytes; expected a sound file"
    assert "synthetic" in printed[3]
    assert main([str(three_speakers), "--out", str(out), "--recipe", "voice"]) == 0
    assert capsys.readouterr().out.startswith(f"{out}: 0 images made, 29 kept, 1 clips skipped\n")


def test_the_command_leaves_out_other_ages_and_tells_copies(
    three_speakers: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [("02/0_02_0.wav", "a", 17), ("01/0_01_0.wav", "b", 30), ("01/1_01_0.wav", "b", 30), ("copy.wav", "c", 30)]
    shutil.copy(three_speakers / "data/01/0_01_0.wav", three_speakers / "data/copy.wav")
    table = three_speakers / "data" / "some.csv"
    table.write_text("\n".join(["path,speaker,gender,age", *(f"{name},{who},f,{age}" for name, who, age in rows)]))
    assert main([str(table), "--out", str(out), "--workers", "1", "--ages", "18-65"]) == 0
    printed, errors = capsys.readouterr()
    assert "agr: --ages 18-65: 1 of 4 clips of some left out; 0 have no age and stay\n" in errors
    assert printed.splitlines() == [
        f"{out}: 1 images made, 0 kept, 3 clips skipped",
        f"why they were skipped: {out / SKIPPED}",
        "  2 clips: 01/0_01_0.wav, copy.wav: the same recording under two speakers: b here, and c as copy.wav; "
        "neither is used",
        "  1 clip: 02/0_02_0.wav: age '17'; expected 18-65, by --ages",
    ]
    with pytest.raises(SystemExit):
        main([str(table), "--out", str(out), "--ages", "old"])
    assert "argument --ages: old: expected ages in years, as 18- or 18-65 or -17" in capsys.readouterr().err


@pytest.mark.parametrize("recipe", ["mfcc", "mfcc48"])
def test_the_reference_makes_the_same_images_through_librosa(
    recipe: str, three_speakers: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_by_librosa = []

    def counted(window: NDArray[np.float64], wanted: mfcc.MfccRecipe) -> bytes:
        made_by_librosa.append(wanted.name)
        return jpeg(window, wanted)

    monkeypatch.setattr(mfcc_reference, "jpeg", counted)
    usual, command = out.with_name("usual"), [str(three_speakers), "--recipe", recipe, "--workers", "1", "--out"]
    assert main([*command, str(usual)]) == 0
    assert not made_by_librosa
    assert main([*command, str(out), "--reference"]) == 0
    assert made_by_librosa == [recipe] * 30
    np.testing.assert_array_equal(load(out).pixels, load(usual).pixels)
    assert (load(out).recipe, load(out).digest) == (RECIPES[recipe], load(usual).digest)
    before = times(out)
    assert main([*command, str(out)]) == 0  # the same folder without --reference: all is kept
    assert times(out) == before


MISTAKES = {
    "no such source": (["absent", "--out", "out"], "absent: no such file or folder"),
    "unknown recipe": (["voices", "--out", "out", "--recipe", "mel"], "recipe 'mel': unknown"),
    "no reference": (
        ["voices", "--out", "out", "--reference"],
        "recipe 'voice': has no reference by librosa; expected mfcc or mfcc48",
    ),
    "out is a file": (["voices", "--out", "voices.csv"], "voices.csv"),
    "out below a file": (["voices", "--out", "voices.csv/out"], "voices.csv"),
    "empty manifest": (["voices.csv", "--out", "out"], "voices.csv: columns nothing"),
    "manifest with NUL bytes": (["nul.csv", "--out", "out"], "nul.csv"),
    "only bad clips": (["bad.csv", "--out", "out"], "none of 1 clips can be used"),
}


@pytest.mark.usefixtures("own_signals")
@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_ends_with_status_2_and_one_line(
    three_speakers: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    arguments, reason = MISTAKES[case]
    monkeypatch.chdir(three_speakers.parent)
    Path("voices.csv").touch()
    Path("nul.csv").write_bytes(b"path,speaker,gender\na\0b.wav,x,f\n")
    write_manifest(Path("bad.csv"), "path", [("absent.wav", "x", "f")])
    with pytest.raises(SystemExit) as caught:
        run(lambda: main([*arguments, "--workers", "1"]))
    assert caught.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("preparing ")]
    assert len(lines) == 1
    assert lines[0].startswith("agr: ")
    assert reason in lines[0]


def test_a_mistake_in_a_process_of_its_own_shows_no_traceback(tmp_path: Path) -> None:
    process = start(tmp_path / "absent", tmp_path / "out")
    printed, errors = process.communicate(timeout=60)
    assert (process.returncode, printed) == (2, "")
    assert errors.startswith("agr: ")
    assert errors.count("\n") == 1

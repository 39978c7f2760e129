"""From a corpus to images, end to end: reruns, changes, kills, and sources that do not behave."""

from __future__ import annotations

import csv
import hashlib
import json
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

from agr import prepare
from agr.audio import read as audio
from agr.common.cli import run
from agr.data import image_set, preparation
from agr.data.corpus import open_corpus
from agr.data.image_set import DESCRIPTION, FEATURES, MANIFEST, PIXELS, load
from agr.data.journal import JOURNAL
from agr.data.layouts.audiomnist import METADATA
from agr.data.preparation import LOCK, SKIPPED, Summary
from agr.errors import AgrError, CorpusError, RecipeError
from agr.recipes import mfcc, mfcc_reference
from agr.recipes.base import Recipe
from agr.recipes.encode import RECIPES
from agr.recipes.mfcc import MFCC
from agr.recipes.mfcc_reference import jpeg
from agr.recipes.voice import VOICE

REPOSITORY = Path(__file__).resolve().parents[2]
SPEAKERS = ("01", "02", "03")


@pytest.fixture
def voices(demo_root: Path, tmp_path: Path) -> Path:
    """A corpus of one's own: 30 clips of three synthetic speakers."""
    root = tmp_path / "voices"
    for speaker in SPEAKERS:
        shutil.copytree(demo_root / "data" / speaker, root / "data" / speaker)
    shutil.copy(demo_root / "data" / METADATA, root / "data" / METADATA)
    return root


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def prepared(source: Path, out: Path, wanted: Recipe | None = None, workers: int = 1) -> Summary:
    """By recipe mfcc, whose images are files that a test can look at, unless another one is wanted."""
    found = open_corpus(str(source), out.parent, allow_outside=True)
    usual = preparation.choose_recipe(found, None) if found.ready_images else MFCC
    return preparation.prepare(found, out, wanted or usual, workers)


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("images/**/*") if path.is_file()}


def skipped(out: Path) -> dict[str, str]:
    with (out / SKIPPED).open(encoding="utf-8", newline="") as file:
        return {row["path"]: row["reason"] for row in csv.DictReader(file)}


def write_manifest(path: Path, column: str, rows: list[tuple[str, str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([(column, "speaker", "gender"), *rows])
    return path


# --- what a folder holds


def test_everything_is_there_and_belongs_together(voices: Path, out: Path) -> None:
    assert prepared(voices, out) == Summary(made=30, kept=0, skipped=0)
    assert {path.name for path in out.iterdir()} - {LOCK} == {"images", MANIFEST, SKIPPED, PIXELS, DESCRIPTION, JOURNAL}
    data = load(out)
    assert (data.name, data.recipe, data.synthetic, len(data)) == ("voices", MFCC, True, 30)
    assert len(list((out / "images").rglob("*"))) == 30 + len(SPEAKERS)
    for pixels, row in zip(data.pixels, data.rows, strict=True):
        recording = voices / "data" / row["source"]
        assert row["image"] == f"images/{row['source']}.jpg"
        assert row["recording"] == hashlib.sha256(recording.read_bytes()).hexdigest()[:32]
        np.testing.assert_array_equal(pixels, mfcc.images([audio.load(recording, 16_000)], MFCC)[0])
        assert (row["corpus"], row["speaker"], row["digit"]) == ("voices", recording.parent.name, recording.name[0])
    assert [row["source"] for row in data.rows] == sorted(row["source"] for row in data.rows)
    assert skipped(out) == {}


def test_with_the_voice_recipe_the_evidence_of_the_pictures_is_there_too(voices: Path, out: Path) -> None:
    assert prepared(voices, out, VOICE) == Summary(made=30, kept=0, skipped=0)
    expected = {"images", MANIFEST, SKIPPED, PIXELS, FEATURES, DESCRIPTION, JOURNAL}
    assert {path.name for path in out.iterdir()} - {LOCK} == expected
    data = load(out)
    assert data.evidence is not None
    assert (data.recipe, data.evidence.shape) == (VOICE, (30, 112, 98))
    np.testing.assert_array_equal(data.pixels, VOICE.images(data.evidence))
    for found, row in zip(data.evidence, data.rows, strict=True):
        assert row["image"] == f"images/{row['source']}.png"
        file = VOICE.encode(audio.load(voices / "data" / row["source"], 8_000))
        assert (out / row["image"]).read_bytes() == file
        np.testing.assert_array_equal(found, VOICE.decode(file))
    assert prepared(voices, out, VOICE) == Summary(made=0, kept=30, skipped=0)


@pytest.mark.parametrize(("first", "second"), [(MFCC, VOICE), (VOICE, MFCC)])
def test_from_one_kind_of_recipe_to_another_nothing_of_the_first_stays(
    voices: Path, tmp_path: Path, out: Path, first: Recipe, second: Recipe
) -> None:
    prepared(voices, out, first)
    assert prepared(voices, out, second).made == 30
    prepared(voices, tmp_path / "new", second)
    assert tree(out) == tree(tmp_path / "new")


def test_bad_clips_are_counted_and_listed_with_their_reasons(voices: Path, out: Path) -> None:
    folder = voices / "data" / "01"
    whole = (folder / "0_01_0.wav").read_bytes()
    (folder / "0_01_0.wav").write_bytes(whole[:5_000])
    (folder / "1_01_0.wav").write_bytes(b"")
    (folder / "2_01_0.wav").write_text("not found")
    (folder / "3_01_0.wav").write_bytes(whole[:44] + bytes(len(whole) - 44))
    (folder / "hello.wav").write_bytes(whole)
    shutil.copytree(voices / "data" / "02", voices / "data" / "stranger")
    assert prepared(voices, out) == Summary(made=26, kept=0, skipped=4 + 1 + 10)
    reasons = skipped(out)
    assert len(reasons) == 15
    for name, reason in {
        "01/0_01_0.wav": "bytes of samples",
        "01/1_01_0.wav": "0 bytes",
        "01/2_01_0.wav": "expected WAV, FLAC, OGG or MP3",
        "01/3_01_0.wav": "pure silence",
        "01/hello.wav": "DIGIT_SPEAKER_REPETITION.wav",
        "stranger/0_02_0.wav": "expected the same",
    }.items():
        assert reason in reasons[name]
    assert len(load(out)) == 26
    assert prepared(voices, out) == Summary(made=0, kept=26, skipped=15)


def test_a_corpus_of_bad_clips_only_is_an_error_that_points_to_the_reasons(voices: Path, out: Path) -> None:
    for path in voices.rglob("*.wav"):
        path.write_bytes(b"RIFF")
    with pytest.raises(CorpusError, match=f"none of 30 clips can be used; see .*{SKIPPED}"):
        prepared(voices, out)
    assert len(skipped(out)) == 30
    assert not image_set.is_prepared(out)


def test_file_names_that_are_no_text_are_listed_too(voices: Path, out: Path) -> None:
    odd = os.fsencode(voices / "data" / "01") + b"/caf\xe9.wav"
    try:
        Path(os.fsdecode(odd)).write_bytes(b"RIFF")
    except OSError:
        pytest.skip("this file system takes no such name")
    assert prepared(voices, out).skipped == 1
    assert [name for name in skipped(out) if "caf" in name] == ["01/caf\\udce9.wav"]


# --- running again


def test_a_rerun_makes_nothing_and_touches_nothing(voices: Path, out: Path) -> None:
    prepared(voices, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name != SKIPPED}
    assert prepared(voices, out) == Summary(made=0, kept=30, skipped=0)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_changed_recording_alone_is_made_anew_even_with_its_old_size_and_time(voices: Path, out: Path) -> None:
    prepared(voices, out)
    path, before, old = voices / "data/02/7_02_0.wav", times(out), load(out)
    data, stat = bytearray(path.read_bytes()), path.stat()
    data[5_000:9_000] = data[9_000:13_000]
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    assert prepared(voices, out) == Summary(made=1, kept=29, skipped=0)
    after, new = times(out), load(out)
    assert [name for name in before if after[name] != before[name]] == ["7_02_0.wav.jpg"]
    differs = (new.pixels != old.pixels).any(axis=(1, 2, 3))
    assert [row["source"] for row, other in zip(new.rows, differs, strict=True) if other] == ["02/7_02_0.wav"]
    assert new.digest != old.digest


def test_another_recipe_makes_all_anew(voices: Path, out: Path) -> None:
    prepared(voices, out)
    old = load(out)
    assert prepared(voices, out, RECIPES["mfcc48"]) == Summary(made=30, kept=0, skipped=0)
    new = load(out)
    assert new.recipe.name == "mfcc48"
    assert (new.pixels != old.pixels).any(axis=(1, 2, 3)).all()
    assert new.digest != old.digest


def test_a_corrected_gender_changes_labels_and_digest_but_no_image(voices: Path, out: Path) -> None:
    prepared(voices, out)
    before, old = times(out), load(out)
    people = json.loads((voices / "data" / METADATA).read_text())
    people["02"]["gender"] = {"male": "female", "female": "male"}[people["02"]["gender"]]
    (voices / "data" / METADATA).write_text(json.dumps(people))
    assert prepared(voices, out) == Summary(made=0, kept=30, skipped=0)
    new = load(out)
    assert {row["gender"] for row in new.rows if row["speaker"] == "02"} == {people["02"]["gender"]}
    assert (new.labels != old.labels).sum() == 10
    assert new.digest != old.digest
    assert times(out) == before


def test_metadata_that_no_longer_says_synthetic_changes_the_card(voices: Path, out: Path) -> None:
    prepared(voices, out)
    people = json.loads((voices / "data" / METADATA).read_text())
    for person in people.values():
        del person["synthetic"]
    (voices / "data" / METADATA).write_text(json.dumps(people))
    prepared(voices, out)
    assert not load(out).synthetic


def test_a_removed_recording_drops_its_image_and_a_new_one_adds_its_own(voices: Path, out: Path) -> None:
    prepared(voices, out)
    (voices / "data/03/3_03_0.wav").rename(voices / "data/03/3_03_1.wav")
    assert prepared(voices, out) == Summary(made=1, kept=29, skipped=0)
    assert not (out / "images/03/3_03_0.wav.jpg").exists()
    assert (out / "images/03/3_03_1.wav.jpg").exists()
    assert len(load(out)) == len(times(out)) == 30


@pytest.mark.parametrize("lost", [PIXELS, MANIFEST, DESCRIPTION, "images/02/4_02_0.wav.jpg"])
def test_what_was_lost_or_damaged_is_made_again(voices: Path, out: Path, lost: str) -> None:
    prepared(voices, out)
    before = tree(out)
    (out / lost).unlink()
    prepared(voices, out)
    assert tree(out) == before
    if lost in (PIXELS, MANIFEST, DESCRIPTION):
        (out / lost).write_bytes(before[lost][:-9] + b"123456789")
        prepared(voices, out)
        assert tree(out) == before


@pytest.mark.parametrize("lost", [PIXELS, FEATURES, "images/02/4_02_0.wav.png"])
def test_what_was_lost_or_damaged_of_the_voice_recipe_is_made_again(voices: Path, out: Path, lost: str) -> None:
    prepared(voices, out, VOICE)
    before = tree(out)
    (out / lost).unlink()
    prepared(voices, out, VOICE)
    assert tree(out) == before
    (out / FEATURES).write_bytes(before[FEATURES][:-9] + b"123456789")
    prepared(voices, out, VOICE)
    assert tree(out) == before


@pytest.mark.parametrize("rest", [b'{"name": "01/0', b"", b"\xff\xfe\n", b'[]\n"x"\n{"name": 1}\n'])
def test_a_torn_journal_costs_the_torn_line_at_most(voices: Path, out: Path, rest: bytes) -> None:
    prepared(voices, out)
    before = tree(out)
    *lines, _ = before[JOURNAL].splitlines(keepends=True)
    (out / JOURNAL).write_bytes(b"".join(lines) + rest)
    assert prepared(voices, out) == Summary(made=1, kept=29, skipped=0)
    assert tree(out) == before


def test_debris_of_a_killed_run_is_cleared_away(voices: Path, out: Path) -> None:
    for name in ("images/01/.0_01_0.wav.jpg.77.tmp", ".pixels.npy.77.tmp", "images/99/0_99_0.wav.jpg"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(b"half")
    (out / JOURNAL).touch()
    prepared(voices, out)
    assert not [name for name in tree(out) if name.endswith(".tmp") or "99" in name]


@pytest.mark.parametrize("theirs", ["manifest.csv", "images/holiday.jpg", "images/2024/holiday.jpg"])
def test_a_folder_with_files_of_someone_else_is_left_alone(voices: Path, out: Path, theirs: str) -> None:
    (out / theirs).parent.mkdir(parents=True)
    (out / theirs).write_text("theirs")
    with pytest.raises(CorpusError, match="expected a new or a prepared folder"):
        prepared(voices, out)
    assert tree(out) == {theirs: b"theirs"}


def test_a_corpus_is_not_prepared_into_itself(voices: Path, ready: Path, out: Path) -> None:
    prepared(voices, out)
    for source in (ready, out, voices / "data"):
        before = tree(source)
        with pytest.raises(CorpusError, match="expected a new or a prepared folder"):
            prepared(source, source)
        assert tree(source) == before


def test_one_and_two_workers_make_the_same(demo_root: Path, tmp_path: Path) -> None:
    assert prepared(demo_root, tmp_path / "one", workers=1).made == 80
    assert prepared(demo_root, tmp_path / "two", workers=2).made == 80
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


# --- killed in the middle


def multiplied(source: Path, root: Path, repetitions: int) -> Path:
    """The corpus with each recording under several names."""
    for path in audio.find(source):
        digit, speaker, _ = path.name.split("_")
        (root / "data" / speaker).mkdir(parents=True, exist_ok=True)
        for repetition in range(repetitions):
            shutil.copy(path, root / "data" / speaker / f"{digit}_{speaker}_{repetition}.wav")
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
    while not (out / JOURNAL).exists() or (out / JOURNAL).read_bytes().count(b"\n") < 20:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    end(process.pid)
    return process.communicate(timeout=60)[1]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_killed_in_the_middle_it_leaves_nothing_half_done_and_goes_on_where_it_was(
    demo_root: Path, tmp_path: Path
) -> None:
    source, out = multiplied(demo_root, tmp_path / "voices", 8), tmp_path / "out"
    process = start(source, out)
    end_in_the_middle(process, out, lambda pid: os.kill(pid, signal.SIGKILL))
    assert process.returncode == -signal.SIGKILL
    left = list(out.rglob("*.png"))
    assert 20 <= len(left) < 640
    for path in left:
        VOICE.decode(path.read_bytes(), str(path))
    assert not image_set.is_prepared(out)
    with pytest.raises(CorpusError):
        load(out)

    again = start(source, out)
    printed, _ = again.communicate(timeout=120)
    assert again.returncode == 0
    made, kept = (int(word) for word in printed.replace(",", "").split() if word.isdecimal() and word != "0")
    assert made + kept == 640
    assert kept >= 20
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
    source, out = multiplied(demo_root, tmp_path / "voices", 8), tmp_path / "out"
    process = start(source, out)
    errors = end_in_the_middle(process, out, lambda pid: os.killpg(pid, signal.SIGINT))
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert errors.endswith("agr: interrupted\n")
    assert not image_set.is_prepared(out)


# --- ready images


@pytest.fixture
def ready(prepared_root: Path, tmp_path: Path) -> Path:
    """Four ready images in the study's layout, and what stands in for a fifth."""
    root = tmp_path / "ready"
    rows = []
    for i, row in enumerate(load(prepared_root).rows[::20]):
        name = f"{('train', 'val')[i % 2]}/{row['gender']}/{i}.jpg"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(prepared_root / row["image"], root / name)
        rows.append((name, row["speaker"], row["gender"]))
    (root / "train" / "torn.jpg").write_bytes((root / rows[0][0]).read_bytes()[:-200])
    write_manifest(root / MANIFEST, "image", [*rows, ("train/torn.jpg", "09", "f"), ("train/absent.jpg", "09", "f")])
    return root


def test_ready_images_are_taken_in_as_they_are(ready: Path, out: Path) -> None:
    assert prepared(ready, out) == Summary(made=4, kept=0, skipped=2)
    data = load(out)
    assert data.recipe.name == "mfcc48"
    assert not data.synthetic
    for row, pixels in zip(data.rows, data.pixels, strict=True):
        original = (ready / row["source"]).read_bytes()
        assert row["image"] == f"images/{row['source']}"
        assert (out / row["image"]).read_bytes() == original
        assert row["recording"] == hashlib.sha256(original).hexdigest()[:32]
        assert row["folder"] == row["source"].split("/")[0]
        np.testing.assert_array_equal(pixels, mfcc.from_jpeg(original))
    assert "no whole JPEG" in skipped(out)["train/torn.jpg"]
    assert "No such file" in skipped(out)["train/absent.jpg"]


def test_a_named_recipe_overrides_that_of_ready_images(ready: Path, out: Path) -> None:
    found = open_corpus(str(ready), out.parent)
    assert preparation.choose_recipe(found, "mfcc") == MFCC
    with pytest.raises(RecipeError, match="'mel'"):
        preparation.choose_recipe(found, "mel")
    with pytest.raises(RecipeError, match="ready images; expected recordings for recipe voice, or --recipe mfcc48"):
        preparation.choose_recipe(found, "voice")


def test_recordings_are_prepared_by_the_voice_recipe_unless_another_is_named(voices: Path, out: Path) -> None:
    found = open_corpus(str(voices), out.parent)
    assert preparation.choose_recipe(found, None) == VOICE
    assert preparation.choose_recipe(found, "mfcc48") == RECIPES["mfcc48"]


# --- ensure


def test_ensure_prepares_once_keeps_it_and_takes_a_prepared_folder_as_it_is(voices: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "data"
    first = preparation.ensure(str(voices), workspace)
    (folder,) = workspace.iterdir()
    assert folder.name.startswith("voices-voice-")
    before = times(folder)
    assert preparation.ensure(str(voices), workspace).digest == first.digest
    assert preparation.ensure(str(folder), tmp_path / "unused").digest == first.digest
    assert times(folder) == before
    assert not (tmp_path / "unused").exists()


def test_ensure_keeps_corpora_of_one_name_and_recipes_apart(voices: Path, tmp_path: Path) -> None:
    shutil.copytree(voices, tmp_path / "elsewhere" / "voices")
    workspace = tmp_path / "data"
    for source, name in ((voices, "mfcc"), (tmp_path / "elsewhere" / "voices", "mfcc"), (voices, "mfcc48")):
        assert preparation.ensure(str(source), workspace, name).recipe.name == name
    assert len(list(workspace.iterdir())) == 3


# --- paths that lead elsewhere


HOSTILE = ["../evil", "a/../../evil", "a/../b", "..", "../", "..\\..\\evil", "....//evil", "/evil", "//evil", "./evil"]
HOSTILE += ["evil", "__/evil", "_/evil", "x" * 240, "C:\\evil", "~/evil", "$HOME/evil", "evil\n", " ", "\u202eevil"]


@pytest.mark.parametrize("column", ["path", "image"])
def test_no_name_in_a_manifest_leads_outside_the_folder(
    prepared_root: Path, demo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: str
) -> None:
    """The names are made to lead to a real recording (or image), as if an attacker had put it there."""
    real = demo_root / "data/01/0_01_0.wav" if column == "path" else prepared_root / "images/01/0_01_0.wav.jpg"
    monkeypatch.setattr(audio, "read_bytes", lambda path: real.read_bytes())
    base = tmp_path / "base"
    (base / "in").mkdir(parents=True)
    names = [*HOSTILE, str(base / "evil"), str(base / "in" / "evil.jpg")]
    write_manifest(base / "in" / MANIFEST, column, [(name, str(i), "f") for i, name in enumerate(names)])
    before = tree(tmp_path)
    out = base / "out"
    assert prepared(base / "in", out).made == len(names)
    assert {name: data for name, data in tree(tmp_path).items() if not name.startswith("base/out/")} == before
    rows = load(out).rows
    for row in rows:
        assert (out / row["image"]).resolve().is_relative_to((out / "images").resolve())
        assert (out / row["image"]).is_file()
    assert len({row["image"].lower() for row in rows}) == len(names)  # nobody's image replaced another's


def test_names_that_look_alike_keep_their_own_images(voices: Path, tmp_path: Path, out: Path) -> None:
    a, b = voices / "data/01/0_01_0.wav", voices / "data/02/0_02_0.wav"
    (tmp_path / "in" / "__").mkdir(parents=True)
    shutil.copy(a, tmp_path / "1.wav")
    shutil.copy(b, tmp_path / "in" / "__" / "1.wav")
    path = write_manifest(tmp_path / "in" / "m.csv", "path", [("../1.wav", "a", "f"), ("__/1.wav", "b", "m")])
    prepared(path, out)
    expected = {"a": audio.load(a, 16_000), "b": audio.load(b, 16_000)}
    data = load(out)
    for row, pixels in zip(data.rows, data.pixels, strict=True):
        np.testing.assert_array_equal(pixels, mfcc.images([expected[row["speaker"]]], MFCC)[0])


# --- the command


def test_the_command_says_what_it_did(voices: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (voices / "data/01/0_01_0.wav").write_bytes(b"")
    assert prepare.main([str(voices), "--out", str(out), "--workers", "1"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"{out}: 29 images made, 0 kept, 1 clips skipped"
    assert printed[1] == f"why they were skipped: {out / SKIPPED}"
    assert "synthetic" in printed[2]
    assert prepare.main([str(voices), "--out", str(out), "--recipe", "voice"]) == 0
    assert capsys.readouterr().out.startswith(f"{out}: 0 images made, 29 kept, 1 clips skipped\n")


@pytest.mark.parametrize("recipe", ["mfcc", "mfcc48"])
def test_the_reference_makes_the_same_images_through_librosa(
    recipe: str, voices: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_by_librosa = []

    def counted(window: NDArray[np.float64], wanted: mfcc.MfccRecipe) -> bytes:
        made_by_librosa.append(wanted.name)
        return jpeg(window, wanted)

    monkeypatch.setattr(mfcc_reference, "jpeg", counted)
    usual, command = out.with_name("usual"), [str(voices), "--recipe", recipe, "--workers", "1", "--out"]
    assert prepare.main([*command, str(usual)]) == 0
    assert not made_by_librosa
    assert prepare.main([*command, str(out), "--reference"]) == 0
    assert made_by_librosa == [recipe] * 30
    np.testing.assert_array_equal(load(out).pixels, load(usual).pixels)
    assert (load(out).recipe, load(out).digest) == (RECIPES[recipe], load(usual).digest)
    before = times(out)
    assert prepare.main([*command, str(out)]) == 0  # the same folder without --reference: all is kept
    assert times(out) == before


def test_the_reference_has_nothing_to_do_with_ready_images(ready: Path, out: Path) -> None:
    with pytest.raises(RecipeError, match="ready images; expected recordings for --reference"):
        preparation.choose_recipe(open_corpus(str(ready), out.parent), None, reference=True)


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
    voices: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    arguments, reason = MISTAKES[case]
    monkeypatch.chdir(voices.parent)
    Path("voices.csv").touch()
    Path("nul.csv").write_bytes(b"path,speaker,gender\na\0b.wav,x,f\n")
    write_manifest(Path("bad.csv"), "path", [("absent.wav", "x", "f")])
    with pytest.raises(SystemExit) as caught:
        run(lambda: prepare.main([*arguments, "--workers", "1"]))
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


def test_a_bad_clip_is_an_answer_not_an_exception(voices: Path, out: Path) -> None:
    clip = open_corpus(str(voices), out.parent).clips[0]
    clip.path.write_bytes(b"RIFF")
    outcome, pixels = preparation.Maker(out, MFCC, ready=False)(clip)
    assert pixels == b""
    assert (outcome.image, outcome.recording) == ("", "")
    with pytest.raises(AgrError) as caught:
        audio.load(clip.path, 16_000)
    assert outcome.reason == str(caught.value)

"""From a corpus to images: what a folder holds, reruns, changes, and sources that misbehave."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile

from agr.audio import read as audio
from agr.data import image_set, preparation, shards
from agr.data.ages import parse
from agr.data.corpus import open_corpus
from agr.data.image_set import DESCRIPTION, MANIFEST, TABLE, load
from agr.data.layouts.audiomnist import METADATA
from agr.data.preparation import LOCK, SKIPPED, Summary
from agr.errors import AgrError, CorpusError, RecipeError
from agr.recipes.base import Recipe
from agr.recipes.encode import RECIPES
from agr.recipes.mfcc import MFCC
from agr.recipes.voice import VOICE
from tests.folders import prepared, times, tree, write_manifest

SPEAKERS = ("01", "02", "03")


def skipped(out: Path) -> dict[str, str]:
    with (out / SKIPPED).open(encoding="utf-8", newline="") as file:
        return {row["path"]: row["reason"] for row in csv.DictReader(file)}


# --- what a folder holds


def test_images_manifest_and_arrays_agree(three_speakers: Path, out: Path) -> None:
    assert prepared(three_speakers, out) == Summary(made=30, kept=0, skipped=0)
    (shard,) = shards.found(out)
    assert {path.name for path in out.iterdir()} - {LOCK} == {MANIFEST, TABLE, SKIPPED, DESCRIPTION, shard.name}
    data = load(out)
    assert (data.name, data.recipe, data.synthetic, len(data)) == ("voices", MFCC, True, 30)
    for pixels, row in zip(np.array(data.pixels), data.rows, strict=True):
        recording = three_speakers / "data" / row["source"]
        assert row["recording"] == hashlib.sha256(recording.read_bytes()).hexdigest()[:32]
        np.testing.assert_array_equal(pixels, MFCC.decode(MFCC.encode(audio.load(recording, 16_000))))
        assert (row["corpus"], row["speaker"], row["digit"]) == ("voices", recording.parent.name, recording.name[0])
    assert [row["source"] for row in data.rows] == sorted(row["source"] for row in data.rows)
    assert skipped(out) == {}


def test_a_folder_of_the_voice_recipe_also_holds_the_features(three_speakers: Path, out: Path) -> None:
    assert prepared(three_speakers, out, VOICE) == Summary(made=30, kept=0, skipped=0)
    data = load(out)
    assert isinstance(data.features, np.ndarray)
    assert (data.recipe, data.features.shape) == (VOICE, (30, 112, 98))
    np.testing.assert_array_equal(data.pixels, VOICE.images(data.features))
    for found, row in zip(data.features, data.rows, strict=True):
        file = VOICE.encode(audio.load(three_speakers / "data" / row["source"], 8_000))
        np.testing.assert_array_equal(found, VOICE.decode(file))
    assert prepared(three_speakers, out, VOICE) == Summary(made=0, kept=30, skipped=0)


@pytest.mark.parametrize(("first", "second"), [(MFCC, VOICE), (VOICE, MFCC)])
def test_another_kind_of_recipe_leaves_nothing_of_the_first(
    three_speakers: Path, tmp_path: Path, out: Path, first: Recipe, second: Recipe
) -> None:
    prepared(three_speakers, out, first)
    assert prepared(three_speakers, out, second).made == 30
    prepared(three_speakers, tmp_path / "new", second)
    assert tree(out) == tree(tmp_path / "new")


def test_a_folder_that_an_earlier_version_prepared_is_prepared_anew(three_speakers: Path, out: Path) -> None:
    prepared(three_speakers, out)
    before = tree(out)
    shutil.rmtree(out)
    (out / "images" / "01").mkdir(parents=True)
    for name in ("images/01/0_01_0.wav.jpg", "pixels.npy", "manifest.csv", "journal.jsonl"):
        (out / name).write_bytes(b"as it was")
    card = {"name": "voices", "recipe": json.loads(before[DESCRIPTION])["recipe"], "digest": "x", "synthetic": True}
    (out / DESCRIPTION).write_text(json.dumps(card))
    with pytest.raises(CorpusError, match="prepared by an earlier version of AGR; prepare it again"):
        load(out)
    assert prepared(three_speakers, out) == Summary(made=30, kept=0, skipped=0)
    assert tree(out) == before


def test_bad_clips_are_counted_and_listed_with_their_reasons(three_speakers: Path, out: Path) -> None:
    folder = three_speakers / "data" / "01"
    whole = (folder / "0_01_0.wav").read_bytes()
    (folder / "0_01_0.wav").write_bytes(whole[:40])
    (folder / "1_01_0.wav").write_bytes(b"")
    (folder / "2_01_0.wav").write_text("not found")
    (folder / "3_01_0.wav").write_bytes(whole[:44] + bytes(len(whole) - 44))
    (folder / "hello.wav").write_bytes(whole)
    shutil.copytree(three_speakers / "data" / "02", three_speakers / "data" / "stranger")
    assert prepared(three_speakers, out) == Summary(made=26, kept=0, skipped=4 + 1 + 10)
    reasons = skipped(out)
    assert len(reasons) == 15
    for name, reason in {
        "01/0_01_0.wav": "expected a sound file",
        "01/1_01_0.wav": "0 bytes",
        "01/2_01_0.wav": "expected a sound file",
        "01/3_01_0.wav": "pure silence",
        "01/hello.wav": "DIGIT_SPEAKER_REPETITION.wav",
        "stranger/0_02_0.wav": "expected the same",
    }.items():
        assert reason in reasons[name]
    assert len(load(out)) == 26
    assert prepared(three_speakers, out) == Summary(made=0, kept=26, skipped=15)


def test_a_recording_of_which_a_part_is_missing_is_used_and_noted(three_speakers: Path, out: Path) -> None:
    path = three_speakers / "data/01/0_01_0.wav"
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    for _ in range(2):  # the second time from the shard
        summary = prepared(three_speakers, out)
        assert (summary.made + summary.kept, summary.skipped) == (30, 0)
        ((name, note),) = summary.notes
        assert name == "01/0_01_0.wav"
        assert re.fullmatch(r"[\d.]+ s of the [\d.]+ s that its header promises", note)


def test_a_corpus_of_bad_clips_only_is_an_error_that_points_to_the_reasons(three_speakers: Path, out: Path) -> None:
    for path in three_speakers.rglob("*.wav"):
        path.write_bytes(b"RIFF")
    with pytest.raises(CorpusError, match=f"none of 30 clips can be used; see .*{SKIPPED}"):
        prepared(three_speakers, out)
    assert len(skipped(out)) == 30
    assert not image_set.is_prepared(out)


def test_file_names_that_are_not_unicode_are_listed_too(three_speakers: Path, out: Path) -> None:
    odd = os.fsencode(three_speakers / "data" / "01") + b"/caf\xe9.wav"
    try:
        Path(os.fsdecode(odd)).write_bytes(b"RIFF")
    except OSError:
        pytest.skip("this file system takes no such name")
    assert prepared(three_speakers, out).skipped == 1
    assert [name for name in skipped(out) if "caf" in name] == ["01/caf\\udce9.wav"]


# --- running again


def test_a_rerun_makes_nothing_and_touches_nothing(three_speakers: Path, out: Path) -> None:
    prepared(three_speakers, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name != SKIPPED}
    assert prepared(three_speakers, out) == Summary(made=0, kept=30, skipped=0)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_only_a_changed_recording_is_prepared_again_even_with_its_old_size_and_time(
    three_speakers: Path, out: Path
) -> None:
    prepared(three_speakers, out)
    path, old = three_speakers / "data/02/7_02_0.wav", load(out)
    data, stat = bytearray(path.read_bytes()), path.stat()
    data[5_000:9_000] = data[9_000:13_000]
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    assert prepared(three_speakers, out) == Summary(made=1, kept=29, skipped=0)
    new = load(out)
    differs = (np.array(new.pixels) != np.array(old.pixels)).any(axis=(1, 2, 3))
    assert [row["source"] for row, other in zip(new.rows, differs, strict=True) if other] == ["02/7_02_0.wav"]
    assert new.digest != old.digest


def test_another_recipe_prepares_all_clips_again(three_speakers: Path, out: Path) -> None:
    prepared(three_speakers, out)
    old = load(out)
    assert prepared(three_speakers, out, RECIPES["mfcc48"]) == Summary(made=30, kept=0, skipped=0)
    new = load(out)
    assert new.recipe.name == "mfcc48"
    assert (np.array(new.pixels) != np.array(old.pixels)).any(axis=(1, 2, 3)).all()
    assert new.digest != old.digest


def test_a_corrected_gender_changes_labels_and_digest_but_no_image(three_speakers: Path, out: Path) -> None:
    prepared(three_speakers, out)
    before, old = times(out), load(out)
    people = json.loads((three_speakers / "data" / METADATA).read_text())
    people["02"]["gender"] = {"male": "female", "female": "male"}[people["02"]["gender"]]
    (three_speakers / "data" / METADATA).write_text(json.dumps(people))
    assert prepared(three_speakers, out) == Summary(made=0, kept=30, skipped=0)
    new = load(out)
    assert {row["gender"] for row in new.rows if row["speaker"] == "02"} == {people["02"]["gender"]}
    assert (new.labels != old.labels).sum() == 10
    assert new.digest != old.digest
    assert times(out) == before


def test_metadata_that_no_longer_says_synthetic_changes_the_card(three_speakers: Path, out: Path) -> None:
    prepared(three_speakers, out)
    people = json.loads((three_speakers / "data" / METADATA).read_text())
    for person in people.values():
        del person["synthetic"]
    (three_speakers / "data" / METADATA).write_text(json.dumps(people))
    prepared(three_speakers, out)
    assert not load(out).synthetic


def test_a_removed_recording_drops_its_image_and_a_new_one_adds_its_own(three_speakers: Path, out: Path) -> None:
    prepared(three_speakers, out)
    (three_speakers / "data/03/3_03_0.wav").rename(three_speakers / "data/03/3_03_1.wav")
    assert prepared(three_speakers, out) == Summary(made=1, kept=29, skipped=0)
    (shard,) = shards.found(out)
    names = [outcome.name for outcome in shards.outcomes(shard, MFCC)]
    assert names == [row["source"] for row in load(out).rows]
    assert "03/3_03_0.wav" not in names and "03/3_03_1.wav" in names


@pytest.mark.parametrize("lost", ["shard", MANIFEST, TABLE, DESCRIPTION])
@pytest.mark.parametrize("recipe", [VOICE, MFCC], ids=lambda recipe: recipe.name)
def test_lost_or_damaged_files_are_made_again(three_speakers: Path, out: Path, lost: str, recipe: Recipe) -> None:
    prepared(three_speakers, out, recipe)
    before = tree(out)
    name = shards.found(out)[0].name if lost == "shard" else lost
    (out / name).unlink()
    prepared(three_speakers, out, recipe)
    assert tree(out) == before
    (out / name).write_bytes(before[name][:-9] + b"123456789")
    prepared(three_speakers, out, recipe)
    assert tree(out) == before


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of 4 to 16 clips, and parts of 3."""
    monkeypatch.setattr(shards, "SIZE", 8)
    monkeypatch.setattr(shards, "PART_CLIPS", 3)


class Killed(BaseException):
    """In the place of a kill."""


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("recipe", [VOICE, MFCC, RECIPES["voice112"]], ids=lambda recipe: recipe.name)
def test_killed_after_any_clip_it_loses_no_more_than_the_clips_of_a_part(
    three_speakers: Path, out: Path, monkeypatch: pytest.MonkeyPatch, recipe: Recipe
) -> None:
    prepared(three_speakers, out.with_name("undisturbed"), recipe)
    add, known, left = shards.Writer.add, 0, 4

    def killed(writer: shards.Writer, outcome: shards.Outcome) -> None:
        nonlocal left
        if not left:
            raise Killed
        left -= 1
        add(writer, outcome)

    monkeypatch.setattr(shards.Writer, "add", killed)
    while known < 30:
        left = 4
        with suppress(Killed):
            prepared(three_speakers, out, recipe)
        there = {each.name for path in shards.found(out) for each in shards.outcomes(path, recipe)}
        assert min(30, known + 2) <= len(there) <= known + 4
        known = len(there)
    assert prepared(three_speakers, out, recipe).made == 0
    assert tree(out) == tree(out.with_name("undisturbed"))
    assert len(shards.found(out)) > 2
    assert load(out).digest == load(out.with_name("undisturbed")).digest


@pytest.mark.usefixtures("small_shards")
def test_a_part_torn_at_any_byte_costs_its_clips_at_most(
    three_speakers: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(three_speakers, out)
    before = tree(out)
    *_, last = paths = shards.found(out)
    lost, whole = len(shards.read(last)), last.read_bytes()
    (out / DESCRIPTION).unlink()
    for cut in range(0, len(whole), 97):
        last.write_bytes(whole[:cut])
        assert [path for path in paths if not shards.intact(path)] == [last]
    assert prepared(three_speakers, out) == Summary(made=lost, kept=30 - lost, skipped=0)
    assert tree(out) == before


@pytest.mark.usefixtures("small_shards")
def test_a_new_recording_rewrites_the_shard_that_it_belongs_to(three_speakers: Path, out: Path) -> None:
    first = three_speakers / "data/01/0_01_0.wav"
    late = first.rename(three_speakers / "later.wav")
    prepared(three_speakers, out)
    before, digest = times(out), load(out).digest
    late.rename(first)
    assert prepared(three_speakers, out) == Summary(made=1, kept=29, skipped=0)
    after = times(out)
    assert len(before.items() - after.items()) == 1 < len(before)
    first.unlink()
    assert prepared(three_speakers, out) == Summary(made=0, kept=29, skipped=0)
    assert (times(out).keys(), load(out).digest) == (before.keys(), digest)


def test_leftovers_of_a_killed_run_are_removed(three_speakers: Path, out: Path) -> None:
    out.mkdir()
    for name in (".manifest.csv.77.tmp", f"part-{'0' * 32}.arrow", "mine-00000-of-00001.arrow"):
        (out / name).write_bytes(b"half")
    prepared(three_speakers, out)
    assert [name for name in tree(out) if "half" in tree(out)[name].decode("latin-1")] == ["mine-00000-of-00001.arrow"]


@pytest.mark.parametrize("theirs", ["manifest.csv", "images/holiday.jpg", "images/2024/holiday.jpg"])
def test_a_folder_with_other_files_is_left_alone(three_speakers: Path, out: Path, theirs: str) -> None:
    (out / theirs).parent.mkdir(parents=True)
    (out / theirs).write_text("theirs")
    with pytest.raises(CorpusError, match="expected a new or a prepared folder"):
        prepared(three_speakers, out)
    assert tree(out) == {theirs: b"theirs"}


def test_a_corpus_is_not_prepared_into_itself(three_speakers: Path, ready: Path, out: Path) -> None:
    prepared(three_speakers, out)
    refusals = {ready: "expected a new or a prepared folder", out: "holds prepared images; expected recordings"}
    refusals[three_speakers / "data"] = refusals[ready]
    for source, refusal in refusals.items():
        before = tree(source)
        with pytest.raises(CorpusError, match=refusal):
            prepared(source, source)
        assert tree(source) == before


def test_one_and_two_workers_make_the_same_files(demo_root: Path, tmp_path: Path) -> None:
    assert prepared(demo_root, tmp_path / "one", workers=1).made == 80
    assert prepared(demo_root, tmp_path / "two", workers=2).made == 80
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


# --- ready images


@pytest.fixture
def ready(prepared_root: Path, demo_root: Path, tmp_path: Path) -> Path:
    """Four ready images in the paper's layout, and what stands in for a fifth."""
    root = tmp_path / "ready"
    rows = []
    for i, row in enumerate(load(prepared_root).rows[::20]):
        name = f"{('train', 'val')[i % 2]}/{row['gender']}/{i}.jpg"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(MFCC.encode(audio.load(demo_root / "data" / row["source"], 16_000)))
        rows.append((name, row["speaker"], row["gender"]))
    (root / "train" / "torn.jpg").write_bytes((root / rows[0][0]).read_bytes()[:-200])
    write_manifest(root / MANIFEST, "image", [*rows, ("train/torn.jpg", "09", "f"), ("train/absent.jpg", "09", "f")])
    return root


def test_ready_images_are_taken_in_as_they_are(ready: Path, out: Path) -> None:
    assert prepared(ready, out) == Summary(made=4, kept=0, skipped=2)
    data = load(out)
    assert data.recipe.name == "mfcc48"
    assert not data.synthetic
    for row, pixels in zip(data.rows, np.array(data.pixels), strict=True):
        original = (ready / row["source"]).read_bytes()
        assert row["recording"] == hashlib.sha256(original).hexdigest()[:32]
        assert row["folder"] == row["source"].split("/")[0]
        np.testing.assert_array_equal(pixels, MFCC.decode(original))
    assert "no whole JPEG" in skipped(out)["train/torn.jpg"]
    assert "No such file" in skipped(out)["train/absent.jpg"]


def test_a_named_recipe_overrides_that_of_ready_images(ready: Path, out: Path) -> None:
    found = open_corpus(str(ready), out.parent)
    assert preparation.choose_recipe(found, "mfcc") == MFCC
    with pytest.raises(RecipeError, match="'mel'"):
        preparation.choose_recipe(found, "mel")
    with pytest.raises(RecipeError, match="ready images; expected recordings for recipe voice, or --recipe mfcc48"):
        preparation.choose_recipe(found, "voice")


def test_recordings_are_prepared_by_the_voice_recipe_unless_another_is_named(three_speakers: Path, out: Path) -> None:
    found = open_corpus(str(three_speakers), out.parent)
    assert preparation.choose_recipe(found, None) == VOICE
    assert preparation.choose_recipe(found, "mfcc48") == RECIPES["mfcc48"]


# --- ensure


def test_ensure_prepares_once_keeps_it_and_takes_a_prepared_folder_as_it_is(
    three_speakers: Path, tmp_path: Path
) -> None:
    workspace = tmp_path / "data"
    first = preparation.ensure(str(three_speakers), workspace)
    (folder,) = workspace.iterdir()
    assert folder.name.startswith("voices-voice-")
    before = times(folder)
    assert preparation.ensure(str(three_speakers), workspace).digest == first.digest
    assert preparation.ensure(str(folder), tmp_path / "unused").digest == first.digest
    assert times(folder) == before
    assert not (tmp_path / "unused").exists()


def test_ensure_keeps_corpora_of_one_name_and_recipes_apart(three_speakers: Path, tmp_path: Path) -> None:
    shutil.copytree(three_speakers, tmp_path / "elsewhere" / "voices")
    workspace = tmp_path / "data"
    for source, name in (
        (three_speakers, "mfcc"),
        (tmp_path / "elsewhere" / "voices", "mfcc"),
        (three_speakers, "mfcc48"),
    ):
        assert preparation.ensure(str(source), workspace, name).recipe.name == name
    assert len(list(workspace.iterdir())) == 3


def test_ensure_keeps_corpora_of_other_ages_apart(
    three_speakers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        f"data/{name}/{k}_{name}_0.wav,{name},f,{age}"
        for name, age in zip(SPEAKERS, (17, 30, ""), strict=True)
        for k in (0, 1)
    ]
    (three_speakers / "ages.csv").write_text("\n".join(["path,speaker,gender,age", *lines]))

    def speakers(ages: str | None, source: Path = three_speakers / "ages.csv") -> set[str]:
        found = preparation.ensure(str(source), tmp_path / "data", ages=parse(ages) if ages else None)
        return {row["speaker"] for row in found.rows}

    assert speakers("18-") == {"02", "03"}
    assert "agr: --ages 18-: 2 of 6 clips of ages left out; 2 have no age and stay" in capsys.readouterr().err
    assert speakers("-18") == {"01", "03"}
    assert speakers(None) == {"01", "02", "03"}
    assert len(list((tmp_path / "data").iterdir())) == 3
    capsys.readouterr()
    assert speakers("18-") == {"02", "03"}
    assert "preparing" not in capsys.readouterr().err  # its own folder is still there
    prepared(three_speakers / "ages.csv", tmp_path / "all")
    assert speakers("18-", tmp_path / "all") == {"02", "03"}


# --- the same recording twice


def copied(root: Path, name: str, to: str) -> None:
    """Another file with the same samples: FLAC for WAV."""
    samples, rate = soundfile.read(root / "data" / name, dtype="int16")
    soundfile.write(root / "data" / to, samples, rate, format="FLAC")


def test_a_copy_under_another_speaker_leaves_out_both_and_tells_both(three_speakers: Path, out: Path) -> None:
    shutil.copy(three_speakers / "data/01/0_01_0.wav", three_speakers / "data/02/0_02_7.wav")
    copied(three_speakers, "03/1_03_0.wav", "02/1_02_8.wav")
    summary = prepared(three_speakers, out)
    assert summary == Summary(made=28, kept=0, skipped=4)
    told = skipped(out)
    assert dict(summary.reasons) == told
    for one, other in (("01/0_01_0.wav", "02/0_02_7.wav"), ("03/1_03_0.wav", "02/1_02_8.wav")):
        for name, twin in ((one, other), (other, one)):
            both = f"{name[:2]} here, and {twin[:2]} as {twin}"
            assert told[name] == f"the same recording under two speakers: {both}; neither is used"
    assert not told.keys() & {row["source"] for row in load(out).rows}


def test_of_copies_under_one_speaker_one_is_used(three_speakers: Path, out: Path) -> None:
    prepared(three_speakers, out)
    before = load(out).digest
    shutil.copy(three_speakers / "data/01/0_01_0.wav", three_speakers / "data/01/0_01_1.wav")
    copied(three_speakers, "01/0_01_0.wav", "01/0_01_2.wav")
    assert prepared(three_speakers, out) == Summary(made=0, kept=30, skipped=2)
    assert set(skipped(out).values()) == {"the same recording twice: as 01/0_01_0.wav too, which is used"}
    assert load(out).digest == before


def test_copies_are_found_again_when_prepare_goes_on_after_a_kill(three_speakers: Path, out: Path) -> None:
    shutil.copy(three_speakers / "data/01/0_01_0.wav", three_speakers / "data/02/0_02_7.wav")
    assert prepared(three_speakers, out) == Summary(made=29, kept=0, skipped=2)
    before = tree(out)
    assert prepared(three_speakers, out) == Summary(made=0, kept=29, skipped=2)
    assert tree(out) == before
    shards.write(out, list(shards.outcomes(shards.found(out)[0], MFCC))[:15], MFCC, shards.PART)
    next(out.glob("shard-*")).unlink()  # the other clips are made anew
    (out / DESCRIPTION).unlink()
    assert prepared(three_speakers, out).skipped == 2
    assert tree(out) == before
    (three_speakers / "data/02/0_02_7.wav").unlink()
    assert prepared(three_speakers, out) == Summary(made=0, kept=30, skipped=0)
    assert load(out).rows[0]["source"] == "01/0_01_0.wav"


def test_if_every_clip_is_a_copy_the_error_tells_names_and_speakers(three_speakers: Path, out: Path) -> None:
    """As in a table that lists the same recordings under two speakers each."""
    names = [f"data/{name}/0_{name}_0.wav" for name in SPEAKERS]
    rows = [
        (f"{dot}{name}", f"{person}{k}", "f")
        for dot, person in (("", "a"), ("./", "b"))
        for k, name in enumerate(names)
    ]
    table = write_manifest(three_speakers / "twice.csv", "path", rows)
    first = (
        r"the first, \./data/01/0_01_0.wav: the same recording under two speakers: b0 here, and a0 as data/01/0_01_0"
    )
    with pytest.raises(CorpusError, match=f"none of 6 clips can be used; see .*skipped.csv; {first}"):
        prepared(table, out)
    assert len(skipped(out)) == 6


# --- paths that lead elsewhere


HOSTILE = ["../evil", "a/../../evil", "a/../b", "..", "../", "..\\..\\evil", "....//evil", "/evil", "//evil", "./evil"]
HOSTILE += ["evil", "__/evil", "_/evil", "x" * 240, "C:\\evil", "~/evil", "$HOME/evil", "evil\n", " ", "\u202eevil"]


@pytest.mark.parametrize("column", ["path", "image"])
def test_no_name_in_a_manifest_leads_outside_the_folder(
    demo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: str
) -> None:
    """The names are made to lead to real recordings (or images), as if an attacker had put them there."""
    found = sorted((demo_root / "data").rglob("*_*_0.*"))
    real = (
        path.read_bytes() if column == "path" else MFCC.encode(audio.load(path, MFCC.sample_rate)) for path in found
    )
    monkeypatch.setattr(audio, "read_bytes", lambda path: next(real))
    base = tmp_path / "base"
    (base / "in").mkdir(parents=True)
    names = [*HOSTILE, str(base / "evil"), str(base / "in" / "evil.jpg")]
    write_manifest(base / "in" / MANIFEST, column, [(name, str(i), "f") for i, name in enumerate(names)])
    before = tree(tmp_path)
    out = base / "out"
    made = len(names) - 3  # of those names one is blank, and two are the same but for a line end
    assert prepared(base / "in", out).made == made
    assert {name: data for name, data in tree(tmp_path).items() if not name.startswith("base/out/")} == before
    assert len(load(out)) == made


def test_similar_names_keep_their_own_images(three_speakers: Path, tmp_path: Path, out: Path) -> None:
    a, b = three_speakers / "data/01/0_01_0.wav", three_speakers / "data/02/0_02_0.wav"
    (tmp_path / "in" / "__").mkdir(parents=True)
    shutil.copy(a, tmp_path / "1.wav")
    shutil.copy(b, tmp_path / "in" / "__" / "1.wav")
    path = write_manifest(tmp_path / "in" / "m.csv", "path", [("../1.wav", "a", "f"), ("__/1.wav", "b", "m")])
    prepared(path, out)
    expected = {"a": audio.load(a, 16_000), "b": audio.load(b, 16_000)}
    data = load(out)
    for row, pixels in zip(data.rows, np.array(data.pixels), strict=True):
        np.testing.assert_array_equal(pixels, MFCC.decode(MFCC.encode(expected[row["speaker"]])))


def test_the_reference_is_refused_for_ready_images(ready: Path, out: Path) -> None:
    with pytest.raises(RecipeError, match="ready images; expected recordings for --reference"):
        preparation.choose_recipe(open_corpus(str(ready), out.parent), None, reference=True)


def test_a_bad_clip_becomes_an_outcome_with_a_reason(three_speakers: Path, out: Path) -> None:
    clip = open_corpus(str(three_speakers), out.parent).clips[0]
    clip.path.write_bytes(b"RIFF")
    outcome = preparation.Maker(MFCC, ready=False)(clip)
    assert (outcome.stored, outcome.recording) == (None, "")
    with pytest.raises(AgrError) as caught:
        audio.load(clip.path, 16_000)
    assert outcome.reason == str(caught.value)

"""Prepared folders in memory: loading, refused folders, and the digest."""

from __future__ import annotations

import csv
import json
import os
import pickle
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from agr.audio.read import load as load_clip
from agr.common.files import content_digest
from agr.common.rows import Rows
from agr.data import combine, shards
from agr.data import image_set as module
from agr.data.image_set import DESCRIPTION, MANIFEST, TABLE, ImageSet, assemble, load, subset
from agr.errors import CorpusError, RecipeError
from agr.recipes.base import Recipe
from agr.recipes.encode import RECIPES
from agr.recipes.mfcc import MFCC
from agr.recipes.voice import VOICE, VOICE112
from tests.folders import prepared


@pytest.fixture
def folder(prepared_root: Path, tmp_path: Path) -> Path:
    """A prepared folder of one's own."""
    return shutil.copytree(prepared_root, tmp_path / "copy")


def test_arrays_match_the_recordings(demo_root: Path, images: ImageSet) -> None:
    assert images.pixels.shape == (80, 12, 98, 3)
    assert isinstance(images.pixels, np.ndarray)
    assert images.pixels.dtype == np.uint8
    assert images.labels.dtype == np.int64
    assert len(images) == len(images.labels) == len(images.speakers) == len(images.recordings) == len(images.rows) == 80
    assert images.recipe == MFCC
    assert images.synthetic
    for i, row in enumerate(images.rows):
        heard = load_clip(demo_root / "data" / row["source"], 16_000)
        np.testing.assert_array_equal(images.pixels[i], MFCC.store(heard))
        assert images.labels[i] == ("female", "male").index(row["gender"])
        assert images.speakers[i] == f"voices/{row['speaker']}"
        assert images.recordings[i] == row["recording"]
    assert len(set(images.recordings.tolist())) == 80
    assert sorted(set(images.labels.tolist())) == [0, 1]


def test_digest_does_not_depend_on_the_folder(images: ImageSet, folder: Path) -> None:
    assert load(folder).digest == images.digest
    assert len(images.digest) == 16
    assert json.loads((folder / DESCRIPTION).read_text())["digest"] == images.digest


def test_description_lists_the_content(images: ImageSet, prepared_root: Path) -> None:
    (shard,) = shards.found(prepared_root)
    assert json.loads((prepared_root / DESCRIPTION).read_text()) == {
        "name": "voices",
        "recipe": asdict(MFCC),
        "digest": images.digest,
        "synthetic": True,
        "images": 80,
        "manifest": content_digest((prepared_root / MANIFEST).read_bytes()),
        "table": content_digest((prepared_root / TABLE).read_bytes()),
        "shards": {shard.name: shard.stat().st_size},
    }


def test_a_manifest_that_changes_while_it_is_loaded_is_not_believed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = module._checked

    def late(place: Path, sizes: Mapping[str, int]) -> list[Path]:
        (place / TABLE).unlink()
        (place / MANIFEST).write_bytes((place / MANIFEST).read_bytes().replace(b"female", b"male"))
        return checked(place, sizes)

    monkeypatch.setattr(module, "_checked", late)
    with pytest.raises(CorpusError, match="was changed; prepare it again"):
        load(folder)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1])])
def test_without_the_mapped_table_the_manifest_is_read(
    images: ImageSet, folder: Path, damage: Callable[[Path], object]
) -> None:
    damage(folder / TABLE)
    found = load(folder)
    assert list(found.rows) == list(images.rows)
    assert found.speakers.tolist() == images.speakers.tolist()


def test_the_rows_of_the_manifest_are_mapped(
    images: ImageSet, prepared_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rows, "read", None)
    assert list(load(prepared_root).rows) == list(images.rows)


# --- the digest


def digest(data: ImageSet, **changed: str) -> str:
    """The digest with the first row changed."""
    rows = [dict(data.rows[0]) | changed, *data.rows[1:]]
    return assemble(data.name, data.pixels, rows, data.recipe, data.synthetic).digest


def test_digest_ignores_names_and_memory_layout(images: ImageSet) -> None:
    assert digest(images) == images.digest
    copy = np.asfortranarray(np.array(images.pixels))
    assert assemble("other name", copy, images.rows, images.recipe, False).digest == images.digest
    assert digest(images, digit="another", image="elsewhere.jpg") == images.digest


@pytest.mark.parametrize("key", ["speaker", "gender", "recording", "corpus"])
def test_digest_depends_on_labels_speakers_and_recordings(images: ImageSet, key: str) -> None:
    other = {"male": "female", "female": "male"}.get(images.rows[0][key], "another")
    assert digest(images, **{key: other}) != images.digest


def test_digest_depends_on_pixels_order_and_recipe(images: ImageSet) -> None:
    pixels = np.array(images.pixels)
    pixels[79, 11, 97, 2] ^= 1
    variants = [
        assemble("x", pixels, images.rows, images.recipe, True),
        assemble("x", images.pixels, images.rows[::-1], images.recipe, True),
        assemble("x", images.pixels, images.rows, RECIPES["mfcc48"], True),
    ]
    assert len({images.digest, *(variant.digest for variant in variants)}) == 4


# --- damaged folders


def edit_manifest(change: Callable[[list[dict[str, str]]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        with (folder / MANIFEST).open(newline="") as file:
            rows = list(csv.DictReader(file))
        columns = list(rows[0])
        change(rows)
        with (folder / MANIFEST).open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)

    return edit


def write(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(data)


def cut(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-100])


def in_shard(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    """Another content of the shard under its old name."""

    def edit(folder: Path) -> None:
        (path,) = shards.found(folder)
        path.write_bytes(change(path.read_bytes()))

    return edit


def with_description(**values: object) -> Callable[[Path], object]:
    def edit(folder: Path) -> None:
        known = json.loads((folder / DESCRIPTION).read_text())
        (folder / DESCRIPTION).write_text(json.dumps(known | values))

    return edit


TAMPERED: dict[str, Callable[[Path], object]] = {
    "no description": lambda folder: (folder / DESCRIPTION).unlink(),
    "no manifest": lambda folder: (folder / MANIFEST).unlink(),
    "no shard": lambda folder: shards.found(folder)[0].unlink(),
    "a pixel changed": in_shard(lambda data: data[:9_999] + bytes([data[9_999] ^ 1]) + data[10_000:]),
    "shard cut off": in_shard(lambda data: data[:-100]),
    "shard empty": in_shard(lambda data: b""),
    "shard text": in_shard(lambda data: b"these are no pixels\n"),
    "shard of zeros": in_shard(lambda data: bytes(len(data))),
    "no shards": with_description(shards={}),
    "shards a list": with_description(shards=["a"]),
    "another shard": with_description(shards={"shard-0.arrow": 10}),
    "a row removed": edit_manifest(lambda rows: rows.pop()),
    "a gender changed": edit_manifest(lambda rows: rows[0].update(gender=rows[-1]["gender"])),
    "a gender unknown": edit_manifest(lambda rows: rows[0].update(gender="?")),
    "a speaker changed": edit_manifest(lambda rows: rows[0].update(speaker="99")),
    "a recording changed": edit_manifest(lambda rows: rows[0].update(recording="0" * 32)),
    "manifest empty": write(MANIFEST, b""),
    "manifest not UTF-8": write(MANIFEST, b"image,gender\n\xff,\xfe\n" * 80),
    "manifest of one endless field": write(MANIFEST, b"image\n" + b"x" * 200_000),
    "manifest without columns": write(MANIFEST, b"image\n" + b"a.jpg\n" * 80),
    "description cut off": cut(DESCRIPTION),
    "description a list": write(DESCRIPTION, b"[]"),
    "description without digest": write(
        DESCRIPTION, json.dumps({"name": "x", "recipe": asdict(MFCC), "synthetic": True}).encode()
    ),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_damaged_folder_is_refused_in_one_line(folder: Path, case: str) -> None:
    assert load(folder).labels[0] != load(folder).labels[-1]
    TAMPERED[case](folder)
    with pytest.raises(CorpusError) as caught:
        load(folder)
    assert str(caught.value).startswith(str(folder))
    assert "\n" not in str(caught.value)


def test_a_copied_folder_is_read_once_and_then_trusted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    intact = shards.intact

    def counted(path: Path) -> bool:
        read.append(path)
        return intact(path)

    monkeypatch.setattr(shards, "intact", counted)
    os.utime(folder / DESCRIPTION, ns=(0, 0))  # as if it had been copied before the shards
    digest = load(folder).digest
    assert len(read) == 1
    os.utime(shards.found(folder)[0], ns=(0, 0))
    assert load(folder).digest == digest
    assert len(read) == 1


# --- several shards


@pytest.fixture
def spread(monkeypatch: pytest.MonkeyPatch, demo_root: Path, tmp_path: Path) -> Callable[[Recipe], ImageSet]:
    """The 80 clips prepared into many shards."""

    def prepare(recipe: Recipe) -> ImageSet:
        monkeypatch.setattr(shards, "SIZE", 8)
        prepared(demo_root, tmp_path / "many", recipe)
        assert len(shards.found(tmp_path / "many")) > 5
        return load(tmp_path / "many")

    return prepare


@pytest.mark.parametrize("recipe", [MFCC, VOICE], ids=lambda recipe: recipe.name)
def test_many_shards_are_as_one(
    spread: Callable[[Recipe], ImageSet], recipe: Recipe, images: ImageSet, voice_images: ImageSet
) -> None:
    one, many = voice_images if recipe == VOICE else images, spread(recipe)
    assert (many.digest, len(many), list(many.rows)) == (one.digest, 80, list(one.rows))
    rows = np.random.default_rng(0).permutation(80)
    for ours, theirs in ((many.pixels, one.pixels), (many.features, one.features)):
        if theirs is None:
            continue
        assert isinstance(ours, shards.Sharded) and isinstance(theirs, np.ndarray)
        assert (ours.shape, len(ours)) == (theirs.shape, 80)
        again = pickle.loads(pickle.dumps(ours))
        assert len(pickle.dumps(ours)) < 5_000
        for found in (ours, again):
            np.testing.assert_array_equal(found[rows], theirs[rows])
            np.testing.assert_array_equal(found[7:40], theirs[7:40])
            np.testing.assert_array_equal(found[79], theirs[79])
            assert found[rows[:0]].shape == (0, *theirs.shape[1:])
        np.testing.assert_array_equal(np.array(ours), theirs)


def test_shards_are_unmapped_now_and_then(
    spread: Callable[[Recipe], ImageSet], images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    many, mapped, read = spread(MFCC), Counter[Path](), shards.read

    def counted(path: Path) -> object:
        mapped[path] += 1
        return read(path)

    monkeypatch.setattr(shards, "read", counted)
    monkeypatch.setattr(shards, "RELEASED", (100, 1))
    kept = many.pixels[5]
    for times in (1, 2, 2, 3, 3):  # every other time more than 100 clips were read
        np.testing.assert_array_equal(many.pixels[np.arange(80)], images.pixels)
        assert mapped == dict.fromkeys(module.shards_of(many), times)
    np.testing.assert_array_equal(kept, images.pixels[5])


@pytest.mark.parametrize("recipe", [MFCC, VOICE, VOICE112], ids=lambda recipe: recipe.name)
def test_shards_may_lie_elsewhere(spread: Callable[[Recipe], ImageSet], recipe: Recipe, tmp_path: Path) -> None:
    many, rows = spread(recipe), np.arange(80)
    before = many.pixels[rows], None if many.features is None else many.features[rows]
    there = {path: tmp_path / "there" / path.name for path in module.shards_of(many)}
    assert sorted(there) == shards.found(tmp_path / "many")
    shutil.copytree(tmp_path / "many", tmp_path / "there")
    shutil.rmtree(tmp_path / "many")
    again = module.moved(many, there)
    assert module.shards_of(again) == sorted(there.values())
    np.testing.assert_array_equal(again.pixels[rows], before[0])
    if again.features is not None:
        np.testing.assert_array_equal(again.features[rows], before[1])


def test_a_set_in_memory_has_no_shards(images: ImageSet) -> None:
    assert module.shards_of(images) == []
    assert module.moved(images, {}) == images


def test_some_clips_of_many_shards_have_the_digest_that_they_have_in_one(
    spread: Callable[[Recipe], ImageSet], voice_images: ImageSet
) -> None:
    many, rows = spread(VOICE), np.array([70, 3, 41])
    ours, theirs = subset(many, rows), subset(voice_images, rows)
    assert (ours.digest, list(ours.rows)) == (theirs.digest, list(theirs.rows))
    np.testing.assert_array_equal(np.array(ours.features), np.array(theirs.features))


def test_sets_of_many_shards_are_joined_with_others(
    spread: Callable[[Recipe], ImageSet], voice_images: ImageSet
) -> None:
    many = replace(spread(VOICE), name="many")
    apart = [f"{recording}x" for recording in many.recordings.tolist()]
    rows = [{**row, "samples": "", "extra": "yes"} for row in many.rows]
    joined = combine.join([voice_images, replace(many, recordings=np.array(apart), rows=rows)])
    assert isinstance(joined.pixels, shards.Sharded) and isinstance(joined.features, shards.Sharded)
    at = np.array([159, 3, 80, 79])
    np.testing.assert_array_equal(joined.pixels[at], np.array(voice_images.pixels)[[79, 3, 0, 79]][[0, 1, 2, 3]])
    np.testing.assert_array_equal(joined.features[at], np.array(voice_images.features)[[79, 3, 0, 79]])
    assert [row.get("extra") for row in joined.rows][78:82] == ["yes", "yes", None, None]


def test_the_digest_of_voices_changes_with_their_features(voice_images: ImageSet) -> None:
    assert isinstance(voice_images.features, np.ndarray)
    other = np.array(voice_images.features)
    other[79, 111, 97] ^= 1
    changed = assemble("x", voice_images.pixels, voice_images.rows, voice_images.recipe, True, other)
    assert changed.digest != voice_images.digest
    assert (voice_images.made_up, changed.made_up) == (frozenset({"voices"}), frozenset({"voices"}))


def test_a_folder_made_by_another_recipe_is_refused(folder: Path) -> None:
    description = json.loads((folder / DESCRIPTION).read_text())
    (folder / DESCRIPTION).write_text(json.dumps(description | {"recipe": description["recipe"] | {"version": 2}}))
    with pytest.raises(RecipeError, match="version 2"):
        load(folder)


def test_is_prepared_looks_for_the_description(folder: Path) -> None:
    assert module.is_prepared(folder)
    (folder / DESCRIPTION).unlink()
    assert not module.is_prepared(folder)
    assert not module.is_prepared(folder / "absent")

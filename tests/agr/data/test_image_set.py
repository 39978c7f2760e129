"""Prepared folders in memory: loading, refused folders, and the digest."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from agr.data import image_set as module
from agr.data.image_set import DESCRIPTION, FEATURES, MANIFEST, PIXELS, ImageSet, assemble, load
from agr.errors import CorpusError, RecipeError
from agr.recipes.encode import RECIPES
from agr.recipes.mfcc import MFCC


@pytest.fixture
def folder(prepared_root: Path, tmp_path: Path) -> Path:
    """A prepared folder of one's own, without the images' files: loading does not need them."""
    for name in (DESCRIPTION, MANIFEST, PIXELS):
        shutil.copy(prepared_root / name, tmp_path / name)
    return tmp_path


def test_arrays_match_the_files(prepared_root: Path, images: ImageSet) -> None:
    assert images.pixels.shape == (80, 12, 98, 3)
    assert images.pixels.dtype == np.uint8
    assert images.labels.dtype == np.int64
    assert len(images) == len(images.labels) == len(images.speakers) == len(images.recordings) == len(images.rows) == 80
    assert images.recipe == MFCC
    assert images.synthetic
    for i, row in enumerate(images.rows):
        np.testing.assert_array_equal(images.pixels[i], MFCC.decode((prepared_root / row["image"]).read_bytes()))
        assert images.labels[i] == ("female", "male").index(row["gender"])
        assert images.speakers[i] == f"voices/{row['speaker']}"
        assert images.recordings[i] == row["recording"]
    assert len(set(images.recordings.tolist())) == 80
    assert sorted(set(images.labels.tolist())) == [0, 1]


def test_digest_does_not_depend_on_the_folder(images: ImageSet, folder: Path) -> None:
    assert load(folder).digest == images.digest
    assert len(images.digest) == 16
    assert json.loads((folder / DESCRIPTION).read_text())["digest"] == images.digest


def test_description_lists_the_content(images: ImageSet) -> None:
    assert json.loads(module.description(images)) == {
        "name": "voices",
        "recipe": asdict(MFCC),
        "digest": images.digest,
        "synthetic": True,
        "images": 80,
    }


# --- the digest


def digest(data: ImageSet, **changed: str) -> str:
    """The digest with the first row changed."""
    rows = [dict(data.rows[0]) | changed, *data.rows[1:]]
    return assemble(data.name, data.pixels, rows, data.recipe, data.synthetic).digest


def test_digest_ignores_names_and_memory_layout(images: ImageSet) -> None:
    assert digest(images) == images.digest
    copy = np.asfortranarray(images.pixels)
    assert assemble("other name", copy, images.rows, images.recipe, False).digest == images.digest
    assert digest(images, digit="another", image="elsewhere.jpg") == images.digest


@pytest.mark.parametrize("key", ["speaker", "gender", "recording", "corpus"])
def test_digest_depends_on_labels_speakers_and_recordings(images: ImageSet, key: str) -> None:
    other = {"male": "female", "female": "male"}.get(images.rows[0][key], "another")
    assert digest(images, **{key: other}) != images.digest


def test_digest_depends_on_pixels_order_and_recipe(images: ImageSet) -> None:
    pixels = images.pixels.copy()
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


def flip_a_byte(folder: Path) -> None:
    data = bytearray((folder / PIXELS).read_bytes())
    data[-1] ^= 1
    (folder / PIXELS).write_bytes(data)


def write(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(data)


def cut(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-100])


def other_array(shape: tuple[int, ...], dtype: str) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / PIXELS, np.zeros(shape, dtype))


TAMPERED: dict[str, Callable[[Path], object]] = {
    "no description": lambda folder: (folder / DESCRIPTION).unlink(),
    "no manifest": lambda folder: (folder / MANIFEST).unlink(),
    "no pixels": lambda folder: (folder / PIXELS).unlink(),
    "a pixel changed": flip_a_byte,
    "pixels cut off": cut(PIXELS),
    "pixels empty": write(PIXELS, b""),
    "pixels a zip file": write(PIXELS, b"PK\x03\x04" + b"\0" * 100),
    "pixels text": write(PIXELS, b"these are no pixels\n"),
    "pixels pickled": lambda folder: np.save(folder / PIXELS, np.array([{}]), allow_pickle=True),
    "one image fewer": other_array((79, 12, 98, 3), "u1"),
    "other images": other_array((80, 12, 98, 3), "u1"),
    "another shape": other_array((80, 98, 12, 3), "u1"),
    "another type": other_array((80, 12, 98, 3), "f4"),
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


@pytest.fixture
def voice_folder(voice_root: Path, tmp_path: Path) -> Path:
    """The same by the voice recipe."""
    for name in (DESCRIPTION, MANIFEST, PIXELS, FEATURES):
        shutil.copy(voice_root / name, tmp_path / name)
    return tmp_path


def other_features(shape: tuple[int, ...], dtype: str) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / FEATURES, np.zeros(shape, dtype))


TAMPERED_VOICES: dict[str, Callable[[Path], object]] = {
    "no features": lambda folder: (folder / FEATURES).unlink(),
    "no pixels": lambda folder: (folder / PIXELS).unlink(),
    "features cut off": cut(FEATURES),
    "features text": write(FEATURES, b"this proves nothing\n"),
    "one clip fewer": other_features((79, 112, 98), "u1"),
    "other features": other_features((80, 112, 98), "u1"),
    "another type": other_features((80, 112, 98), "f4"),
    "another shape": other_features((80, 98, 112), "u1"),
    "pixels of another shape": other_array((80, 98, 12, 3), "u1"),
    "a row removed": edit_manifest(lambda rows: rows.pop()),
}


@pytest.mark.parametrize("case", TAMPERED_VOICES)
def test_a_folder_of_features_that_was_tampered_with_is_refused_in_one_line(voice_folder: Path, case: str) -> None:
    assert load(voice_folder).features is not None
    TAMPERED_VOICES[case](voice_folder)
    with pytest.raises(CorpusError) as caught:
        load(voice_folder)
    assert str(caught.value).startswith(str(voice_folder))
    assert "\n" not in str(caught.value)


def test_the_digest_of_voices_changes_with_their_features(voice_images: ImageSet) -> None:
    assert isinstance(voice_images.features, np.ndarray)
    other = voice_images.features.copy()
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

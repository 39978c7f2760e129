"""A prepared corpus in memory: all its images, labels and manifest rows.

data = load(Path("data/demo-mfcc"))                # written by `python -m agr.prepare`
data.pixels[data.labels == 0]                     # the women's images
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agr.data.splits import Labelled
from agr.data.tracks import Tracks
from agr.errors import CorpusError
from agr.labels import CLASSES
from agr.recipes.base import FRAMES, Recipe
from agr.recipes.encode import from_dict

MANIFEST, PIXELS, FEATURES, DESCRIPTION = "manifest.csv", "pixels.npy", "features.npy", "prepared.json"
LENGTHS = "frames.npy"  # of the clips in features.npy, if they differ
FORMER_FEATURES = "evidence.npy"  # in folders that earlier versions prepared


@dataclass(frozen=True)
class ImageSet(Labelled):
    """The images of one corpus."""

    pixels: NDArray[np.uint8]  # (n, *recipe.image_shape), uint8
    recipe: Recipe  # what made the images
    digest: str  # names pixels (or features), labels and speakers together
    synthetic: bool  # whether these voices are synthetic
    # the voice features that pixels were drawn from and training varies: (n, ROWS, FRAMES), uint8, or of whole clips,
    # of which an index gives the second with most speech; None with a recipe that keeps none
    features: NDArray[np.uint8] | Tracks | None = None
    made_up: frozenset[str] = frozenset()  # the corpora in it whose voices are synthetic


def is_prepared(folder: Path) -> bool:
    """Whether `prepare` finished in this folder."""
    return (folder / DESCRIPTION).is_file()


def load(folder: Path) -> ImageSet:
    """Map a prepared folder into memory. Raises: CorpusError if a file is missing, damaged or inconsistent."""
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        with (folder / MANIFEST).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        recipe = from_dict(description["recipe"])
        pixels = _mapped(folder / PIXELS, (len(rows), *recipe.image_shape))
        former = folder / FORMER_FEATURES
        kept = former if former.is_file() and not (folder / FEATURES).exists() else folder / FEATURES
        found = _features(kept, folder / LENGTHS, len(rows), recipe) if recipe.keeps_features else None
        data = assemble(str(description["name"]), pixels, rows, recipe, bool(description["synthetic"]), found)
        if data.digest != description["digest"]:
            raise CorpusError(f"{folder}: digest {data.digest}; expected {description['digest']}; prepare it again")
        return data
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise CorpusError(f"{folder}: {error}; expected a folder that agr.prepare finished") from error


def _features(path: Path, lengths: Path, clips: int, recipe: Recipe) -> NDArray[np.uint8] | Tracks:
    rows, columns = recipe.stored_shape
    if columns >= 0:
        return _mapped(path, (clips, rows, columns))
    frames: NDArray[np.int64] = np.load(lengths)
    if frames.shape != (clips,) or frames.dtype != np.int64 or frames.min(initial=FRAMES) < FRAMES:
        raise CorpusError(f"{lengths}: {frames.dtype} {frames.shape}; expected int64 ({clips},), each {FRAMES} or more")
    return Tracks(_mapped(path, (rows * int(frames.sum()),)), frames)


def _mapped(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    values: NDArray[np.uint8] = np.lib.format.open_memmap(path, mode="r")
    if values.shape != shape or values.dtype != np.uint8:
        raise CorpusError(f"{path}: {values.dtype} {values.shape}; expected uint8 {shape}")
    return values


def assemble(
    name: str,
    pixels: NDArray[np.uint8],
    rows: Sequence[Mapping[str, str]],
    recipe: Recipe,
    synthetic: bool,
    features: NDArray[np.uint8] | Tracks | None = None,
) -> ImageSet:
    """An ImageSet from arrays and manifest rows, with its digest."""
    labels = np.array([CLASSES.index(row["gender"]) for row in rows], dtype=np.int64)
    speakers = np.array([f"{row['corpus']}/{row['speaker']}" for row in rows])
    recordings = np.array([row["recording"] for row in rows])
    made_up = frozenset(row["corpus"] for row in rows) if synthetic else frozenset()
    kept = features.flat if isinstance(features, Tracks) else pixels if features is None else features
    digest = _digest(kept, rows, recipe)
    return ImageSet(name, labels, speakers, recordings, rows, pixels, recipe, digest, synthetic, features, made_up)


def subset(data: ImageSet, indices: NDArray[np.int64]) -> ImageSet:
    """The clips with these indices of a set of one corpus; at least one is expected."""
    kept = data.features
    features = kept.subset(indices) if isinstance(kept, Tracks) else None if kept is None else kept[indices]
    rows = [data.rows[index] for index in indices.tolist()]
    return assemble(data.name, data.pixels[indices], rows, data.recipe, data.synthetic, features)


def description(data: ImageSet) -> str:
    """The content of a prepared folder's `prepared.json`."""
    values = {"name": data.name, "recipe": asdict(data.recipe), "digest": data.digest, "synthetic": data.synthetic}
    return json.dumps(values | {"images": len(data)}, indent=1)


def _digest(pixels: NDArray[np.uint8], rows: Sequence[Mapping[str, str]], recipe: Recipe) -> str:
    identity = [[row[key] for key in ("corpus", "speaker", "gender", "recording")] for row in rows]
    hasher = hashlib.sha256(json.dumps([recipe.digest, identity]).encode())
    hasher.update(np.ascontiguousarray(pixels).data)
    return hasher.hexdigest()[:16]

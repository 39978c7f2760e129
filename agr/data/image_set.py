"""A prepared corpus: all its images, labels and manifest rows.

data = load(Path("data/demo-mfcc"))                # written by `python -m agr.prepare`
data.pixels[data.labels == 0]                     # the women's images
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agr.common.files import content_digest, file_digest, write_atomic
from agr.common.rows import Names, Rows, cells, column, encoded
from agr.data import shards
from agr.data.shards import Clips, Sharded
from agr.data.splits import Labelled
from agr.data.tracks import Tracks
from agr.errors import CorpusError
from agr.labels import CLASSES
from agr.recipes.base import Recipe
from agr.recipes.encode import from_dict
from agr.recipes.voice_features import ROWS

MANIFEST, DESCRIPTION = "manifest.csv", "prepared.json"
TABLE = "manifest.arrow"  # the same rows, to be mapped into memory
AT_ONCE = 1024  # clips whose digest is computed at once


@dataclass(frozen=True)
class ImageSet(Labelled):
    """The images of one corpus."""

    pixels: Clips  # (n, *recipe.image_shape), uint8
    recipe: Recipe  # what made the images
    digest: str  # names pixels (or features), labels and speakers together
    synthetic: bool  # whether these voices are synthetic
    # the voice features that pixels were drawn from and training varies: (n, ROWS, FRAMES), uint8, or of whole clips,
    # of which an index gives the second with most speech; None with a recipe that keeps none
    features: Clips | Tracks | None = None
    made_up: frozenset[str] = frozenset()  # the corpora in it whose voices are synthetic


def is_prepared(folder: Path) -> bool:
    """Whether `prepare` finished in this folder."""
    return (folder / DESCRIPTION).is_file()


def described(folder: Path) -> list[Path]:
    """The undamaged shards of a prepared folder; none if it is not prepared, or some are damaged."""
    try:
        return _checked(folder, json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))["shards"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def has_table(folder: Path) -> bool:
    """Whether the rows of a prepared folder's manifest can be mapped."""
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        return file_digest(folder / TABLE) == description["table"]  # type: ignore[no-any-return]
    except (OSError, ValueError, KeyError):
        return False


def load(folder: Path) -> ImageSet:
    """Map a prepared folder into memory. Raises: CorpusError if a file is missing, damaged or inconsistent."""
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        recipe = from_dict(description["recipe"])
        if "shards" not in description:
            raise ValueError("prepared by an earlier version of AGR; prepare it again by agr.prepare")
        if file_digest(folder / MANIFEST) != description["manifest"]:
            raise ValueError(f"{MANIFEST} was changed; prepare it again")
        paths = _checked(folder, description["shards"])
        about = str(description["name"]), recipe, bool(description["synthetic"])
        return _opened(paths, _rows(folder, description), *about, str(description["digest"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise CorpusError(f"{folder}: {error}; expected a folder that agr.prepare finished") from error


def save(folder: Path, name: str, recipe: Recipe, synthetic: bool, manifest: bytes, paths: Sequence[Path]) -> ImageSet:
    """Write what makes a folder with these shards a prepared one: its manifest and, last, its description.

    The rows of the manifest, a CSV file, name in their column `source` those of the shards' clips that are used.
    """
    write_atomic(folder / MANIFEST, manifest)
    rows = Rows.read(manifest)
    table = rows.to_arrow()
    write_atomic(folder / TABLE, table)
    data = _opened(paths, rows, name, recipe, synthetic)
    sizes = {path.name: path.stat().st_size for path in paths}
    values = {"name": name, "recipe": asdict(recipe), "digest": data.digest, "synthetic": synthetic}
    values |= {"images": len(data), "manifest": content_digest(manifest), "table": content_digest(table)}
    values |= {"shards": sizes}
    write_atomic(folder / DESCRIPTION, json.dumps(values, indent=1).encode())
    return data


def _rows(folder: Path, description: Mapping[str, Any]) -> Rows:
    """The rows of the manifest, mapped if that is possible. Raises: OSError; ValueError if they are others."""
    with suppress(OSError, ValueError):
        return Rows.map(folder / TABLE, str(description.get("table")))  # earlier versions have none
    manifest = (folder / MANIFEST).read_bytes()
    if content_digest(manifest) != description["manifest"]:
        raise ValueError(f"{MANIFEST} was changed; prepare it again")
    return Rows.read(manifest)


def _checked(folder: Path, sizes: Mapping[str, int]) -> list[Path]:
    """The paths of shards. One that was written after the description is read, to see whether it is damaged.

    Raises: ValueError if one has another size or content.
    """
    described, paths = (folder / DESCRIPTION).stat().st_mtime_ns, [folder / name for name in sizes]
    found = [path.stat() for path in paths]
    late = [path for path, stat in zip(paths, found, strict=True) if stat.st_mtime_ns >= described]
    bad = [path for path, stat in zip(paths, found, strict=True) if stat.st_size != sizes[path.name]]
    with shards.progress(f"checking {folder}", len(late)) as advance:
        for path in late if not bad else ():
            bad += [] if shards.intact(path) else [path]
            advance(1)
    if bad:
        raise ValueError(f"{bad[0].name} is damaged; prepare it again")
    if late:
        with suppress(OSError):
            os.utime(folder / DESCRIPTION)
    return paths


def _opened(
    paths: Sequence[Path], rows: Rows, name: str, recipe: Recipe, synthetic: bool, digest: str | None = None
) -> ImageSet:
    """The clips of shards that rows of a manifest name. Raises: ValueError if the shards lack one."""
    import pyarrow as pa
    from pyarrow import compute

    names = pa.chunked_array([shards.read(path).column("name") for path in paths], pa.string())
    sources, used = rows.table.column("source"), np.arange(len(rows))
    if not sources.equals(names):  # some are not used
        places = compute.index_in(sources, value_set=names)
        if places.null_count:
            raise ValueError(f"{places.null_count} clips are in {MANIFEST} and in no shard")
        used = places.to_numpy().astype(np.int64)
    kept: Clips | Tracks | None = None
    pixels = shards.mapped(paths, "pixels" if recipe.keeps_features else "stored", recipe.image_shape, used)
    if recipe.keeps_features:
        kept = shards.mapped(paths, "stored", recipe.stored_shape, used)
    if -1 in recipe.stored_shape:
        assert isinstance(kept, Sharded)
        sizes = np.concatenate([part.sizes for part in kept.parts if isinstance(part, shards.Column)])
        kept = Tracks(kept, sizes[used] // ROWS)
        kept = kept if len(paths) > 1 else Tracks.of([kept.clip(row) for row in range(len(kept))])
    return assemble(name, pixels, rows, recipe, synthetic, kept, digest)


def assemble(
    name: str,
    pixels: Clips,
    rows: Sequence[Mapping[str, str]],
    recipe: Recipe,
    synthetic: bool,
    features: Clips | Tracks | None = None,
    digest: str | None = None,
) -> ImageSet:
    """An ImageSet from arrays and manifest rows, with its digest, which is computed unless it is known."""
    (genders, of_gender), (corpora, of_corpus), (names, of_name) = (
        encoded(rows, key) for key in ("gender", "corpus", "speaker")
    )
    if unknown := sorted(set(genders.to_pylist()) - set(CLASSES)):
        raise ValueError(f"gender {unknown[0]!r}; expected {' or '.join(CLASSES)}")
    labels = np.array([CLASSES.index(gender) for gender in genders.to_pylist()], dtype=np.int64)[of_gender]
    pairs, of_pair = np.unique(of_corpus * len(names) + of_name, return_inverse=True)
    people = np.array([f"{corpora[pair // len(names)]}/{names[pair % len(names)]}" for pair in pairs.tolist()])
    order = np.argsort(people)
    speakers = Names(people[order], np.argsort(order).astype(np.int32)[of_pair])
    recordings = cells(rows, "recording")
    made_up = frozenset(corpora.to_pylist()) if synthetic else frozenset()
    digest = digest or _digest(pixels if features is None else features, rows, recipe)
    return ImageSet(name, labels, speakers, recordings, rows, pixels, recipe, digest, synthetic, features, made_up)


def subset(data: ImageSet, indices: NDArray[np.int64]) -> ImageSet:
    """The clips with these indices of a set of one corpus; at least one is expected."""
    kept, rows = data.features, data.rows
    features = (
        kept.subset(indices) if isinstance(kept, Tracks) else None if kept is None else shards.some(kept, indices)
    )
    chosen = rows.take(indices) if isinstance(rows, Rows) else [rows[index] for index in indices.tolist()]
    pixels = shards.some(data.pixels, indices)
    return assemble(data.name, pixels, chosen, data.recipe, data.synthetic, features)


def shards_of(data: ImageSet) -> list[Path]:
    """The shards that are read when clips are asked for; none if all clips are in memory."""
    kept = data.features.flat if isinstance(data.features, Tracks) else data.features
    parts = (part for clips in (data.pixels, kept) if isinstance(clips, Sharded) for part in clips.parts)
    return sorted({part.path for part in parts if isinstance(part, shards.Column)})


def moved(data: ImageSet, where: Mapping[Path, Path]) -> ImageSet:
    """The same with each of its shards elsewhere, for machines that do not see the folder."""
    kept = data.features
    if isinstance(kept, Tracks):
        kept = replace(kept, flat=shards.moved(kept.flat, where))
    elif kept is not None:
        kept = shards.moved(kept, where)
    return replace(data, pixels=shards.moved(data.pixels, where), features=kept)


def _digest(kept: Clips | Tracks, rows: Sequence[Mapping[str, str]], recipe: Recipe) -> str:
    identity = zip(*(column(rows, key) for key in ("corpus", "speaker", "gender", "recording")), strict=True)
    hasher = hashlib.sha256(json.dumps([recipe.digest, list(identity)]).encode())
    with shards.progress("reading images", len(kept), "clips", shards.QUICK * shards.SIZE) as advance:
        for part in _pieces(kept):
            hasher.update(part.data)
            advance(len(part) if isinstance(kept, Sharded) else 1)
    return hasher.hexdigest()[:16]


def _pieces(kept: Clips | Tracks) -> Iterator[NDArray[np.uint8]]:
    """All bytes in their order."""
    clips = kept.flat if isinstance(kept, Tracks) else kept
    if isinstance(kept, Tracks) and isinstance(clips, Sharded):
        yield from (np.ascontiguousarray(kept.clip(row)) for row in range(len(kept)))
    elif isinstance(clips, Sharded):
        yield from (clips[at : at + AT_ONCE] for at in range(0, len(clips), AT_ONCE))
    else:
        yield np.ascontiguousarray(clips)

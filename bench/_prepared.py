"""Prepared folders of images that are there already."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from agr.data import image_set, shards
from agr.data.shards import Bytes, Outcome
from agr.recipes.base import Recipe


def write_prepared(
    out: Path, name: str, rows: Sequence[Mapping[str, str]], images: Iterable[Bytes], recipe: Recipe, synthetic: bool
) -> Path:
    """A prepared folder, made anew, of images with these manifest rows, each with a `source` of its own."""
    out.mkdir()
    each = zip(rows, images, strict=True)
    outcomes = [Outcome(row["source"], "", recipe.digest, row["recording"], stored=image) for row, image in each]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    path = shards.write(out, outcomes, recipe)
    image_set.save(out, name, recipe, synthetic, text.getvalue().encode(), [path])
    return out

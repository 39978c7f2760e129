"""Arrays of pixels to image files in memory and back."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from agr.errors import RecipeError


def write_image(pixels: NDArray[np.uint8], kind: str, **options: int) -> bytes:
    """A JPEG or PNG file (`kind`) of (height, width) grey or (height, width, 3) RGB pixels."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind, **options)
    return buffer.getvalue()


def read_image(data: bytes, name: str, kind: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The pixels of a file of exactly this kind and shape. Raises RecipeError, which calls it `name`, for any other."""
    expected = f"{shape[1]}x{shape[0]} {'RGB' if len(shape) == 3 else 'L'}"
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            found = f"{image.width}x{image.height} {image.mode}"
            if found != expected:
                raise RecipeError(f"{name}: {found}; expected a {kind} of {expected}")
            return np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise RecipeError(f"{name}: no whole {kind}; expected a {kind} of {expected}") from error

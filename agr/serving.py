"""The model as MLflow loads it: `mlflow.pyfunc.load_model("models:/agr@best")` and `mlflow models serve`.

    model.predict(pandas.DataFrame({"audio": [Path("clip.wav").read_bytes()]}))

The MLflow model names this module as its loader and carries weights and JSON only; no pickle, no code.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agr import audio, bundle, inference
from agr.corpus import CLASSES
from agr.errors import AudioError

if TYPE_CHECKING:
    import pandas

COLUMN = "audio"


class Served:
    """Answers a table of sound files, one row a clip."""

    def __init__(self, loaded: bundle.Bundle) -> None:
        """Serve this bundle."""
        self._bundle = loaded

    def predict(self, table: pandas.DataFrame, params: dict[str, Any] | None = None) -> pandas.DataFrame:
        """Columns label, female, male, error; a clip that cannot be read has only the last.

        table: a column `audio` of sound files' bytes (or base64 text of them, as JSON carries it).
        """
        import pandas

        rows = [self._answer(value) for value in _column(table)]
        return pandas.DataFrame(rows, columns=["label", *CLASSES, "error"])

    def _answer(self, value: bytes | str) -> dict[str, Any]:
        try:
            data = base64.b64decode(value, validate=True) if isinstance(value, str) else bytes(value)
            y = audio.load(data, self._bundle.card.recipe.sample_rate, name="audio")
        except (AudioError, ValueError, TypeError) as error:
            return {"error": str(error)}
        probabilities = inference.of_clips([y], self._bundle)[0]
        label = CLASSES[int(np.argmax(probabilities))]
        return {"label": label, **dict(zip(CLASSES, probabilities.tolist(), strict=True)), "error": ""}


def _column(table: pandas.DataFrame) -> Iterable[bytes | str]:
    return list(table[COLUMN])


def _load_pyfunc(path: str) -> Served:
    """What MLflow calls with the folder of the bundle."""
    return Served(bundle.load(Path(path)))

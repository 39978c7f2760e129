"""The model as MLflow loads and serves it: `mlflow.pyfunc.load_model("models:/agr@best")`, `mlflow models serve`.

    model.predict(pandas.DataFrame({"audio": [Path("clip.wav").read_bytes()]}))

Registered models name this module as their loader, so it must keep its name. They hold weights and JSON, no pickle and
no code.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agr.audio import read as audio
from agr.errors import AudioError, SilentAudio
from agr.inference import bundle, predictor
from agr.inference.answers import MIXED
from agr.inference.timeline_files import NO_SPEECH
from agr.labels import CLASSES
from agr.registry.uri import COLUMN

if TYPE_CHECKING:
    import pandas

BATCH = 32
_WITHOUT_SPEECH = {"label": NO_SPEECH, "error": ""}


class Served:
    """Answers a table of sound files, one row per clip."""

    def __init__(self, loaded: bundle.Bundle) -> None:
        """Serve a bundle."""
        self._bundle = loaded

    def predict(self, table: pandas.DataFrame, params: dict[str, Any] | None = None) -> pandas.DataFrame:
        """Columns label, female, male and error for sound files in column `audio`: bytes, or base64 text as in JSON.

        A clip without speech has only a label, one that cannot be read only an error.
        """
        import pandas

        values = list(table[COLUMN])
        rows = [row for at in range(0, len(values), BATCH) for row in self._answer(values[at : at + BATCH])]
        answers = pandas.DataFrame(rows, columns=["label", *CLASSES, "error"])
        if any(len(row) < len(answers.columns) for row in rows):  # None, not NaN: a server must answer in valid JSON
            answers = answers.astype(object).where(answers.notna(), None)
        return answers

    def _answer(self, values: Sequence[bytes | str]) -> list[dict[str, Any]]:
        clips = [self._read(value) for value in values]
        good = [y for y in clips if isinstance(y, np.ndarray)]
        predicted = predictor.predict(good, self._bundle) if good else None
        known = (predicted.probabilities.tolist(), predicted.speech.tolist(), predicted.shares) if predicted else ()
        rows = zip(*known, strict=True)
        return [_row(*next(rows)) if isinstance(y, np.ndarray) else y for y in clips]

    def _read(self, value: bytes | str) -> NDArray[np.float32] | dict[str, Any]:
        """The samples of a clip, or its row of the answer if there are none to predict from."""
        try:
            return audio.load(_decoded(value), self._bundle.info.recipe.sample_rate, name=COLUMN)
        except SilentAudio:
            return _WITHOUT_SPEECH
        except (AudioError, ValueError, TypeError) as error:
            return {"error": str(error)}


def _row(probabilities: Sequence[float], speech: float, shares: object) -> dict[str, Any]:
    if not speech:
        return _WITHOUT_SPEECH
    label = CLASSES[int(np.argmax(probabilities))] if shares is None else MIXED
    return {"label": label, **dict(zip(CLASSES, probabilities, strict=True)), "error": ""}


def _decoded(value: bytes | str) -> bytes:
    """A sound file's bytes; a server's `inputs` bring base64 text as bytes. No sound file is valid base64."""
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:
        if isinstance(value, str):
            raise
        return bytes(value)


def _load_pyfunc(path: str) -> Served:
    """MLflow's entry point; `path` is the folder of the bundle."""
    return Served(bundle.load(Path(path)))

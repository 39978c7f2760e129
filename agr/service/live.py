"""The model that answers, and the task that follows its alias.

    follower = Follower("models:/agr/best", None, 2.0)
    task = asyncio.create_task(follower.run())        # looks every 2 s whether `best` is another version by now
    follower.model()                                  # what answers now

A version is loaded in a thread, tried on one clip, and only then put in place of the one before, which answers until
then. One that cannot be loaded, or whose files are not those that were registered, is refused for AGAIN_SECONDS, and
the one before stays. So it does when the store does not answer, which is asked again at the next look; a start without
it answers with the version that was seen last.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agr.common.cli import complain
from agr.errors import AgrError, BrokenModel, ModelError
from agr.registry import remembered, resolve
from agr.service import metrics
from agr.service.problems import Refused

if TYPE_CHECKING:
    from agr.inference.bundle import Bundle
    from agr.registry.uri import ModelLocation

AGAIN_SECONDS = 10.0  # before a version that was refused is tried again


@dataclass(frozen=True, eq=False)
class LiveModel:
    """One version, ready to answer."""

    bundle: Bundle
    uri: str
    name: str | None
    version: int | None
    digest: str  # SHA-256 of its files as registered; of its weights for a folder
    card: str | None  # Markdown

    @property
    def identity(self) -> dict[str, Any]:
        """What every answer says of the model."""
        return {"name": self.name, "version": self.version, "uri": self.uri, "digest": self.digest}

    @property
    def described(self) -> dict[str, Any]:
        """All that `GET /v1/model` tells."""
        info = self.bundle.info
        known = {"architecture": info.model, "recipe": info.recipe.name, "test": dict(info.test)}
        return self.identity | known | {"synthetic": bool(info.data.get("synthetic")), "card": self.card}


class Follower:
    """Holds the model that answers."""

    def __init__(self, uri: str, tracking_uri: str | None, poll_seconds: float) -> None:
        """uri: of a model, which need not be there yet."""
        self._uri, self._tracking_uri, self._poll_seconds = uri, tracking_uri, poll_seconds
        self._model: LiveModel | None = None
        self._answering = ""  # the URI of its version
        self._told = ""  # the last trouble, which is told once
        self._refused = "", 0.0  # a version that cannot be used, and when it may be tried again

    def model(self) -> LiveModel:
        """What answers now. Raises: Refused, with 503, if there is nothing yet."""
        if self._model is None:
            raise Refused(503, self._told or "the model is being loaded", {"Retry-After": "2"})
        return self._model

    async def run(self) -> None:
        """Follow the alias until this task is cancelled."""
        while True:
            await asyncio.sleep(self._poll_seconds)
            await asyncio.to_thread(self.look)

    def look(self) -> None:
        """Put another version in place if the URI names one by now."""
        try:
            pinned = resolve.pin(self._uri, self._tracking_uri)
            if pinned == self._answering or (pinned == self._refused[0] and time.monotonic() < self._refused[1]):
                return
            model = load(self._uri, pinned, self._tracking_uri)
        except Exception as error:  # whatever a store answers while it goes down: the next look is to come
            if isinstance(error, BrokenModel):
                self._refused = pinned, time.monotonic() + AGAIN_SECONDS
            told = str(error) if isinstance(error, AgrError | OSError) else f"{self._uri}: {error!r}"
            if told != self._told:
                complain(f"{told}; {'the version before it goes on answering' if self._model else 'trying again'}")
            self._told = told
            if self._model is None:
                self._recall()
            return
        self._told, self._refused = "", ("", 0.0)
        self._put(model, pinned)

    def _recall(self) -> None:
        """Put the version in place that was seen last, by this process or another, if there is one."""
        kept = remembered.recall(self._uri, self._tracking_uri)
        with suppress(AgrError, OSError):
            if kept is not None:
                self._put(ready(self._uri, kept), f"models:/{kept.name}/{kept.version}", ", the last that was seen,")

    def _put(self, model: LiveModel, pinned: str, remark: str = "") -> None:
        self._model, self._answering = model, pinned
        metrics.VERSION.set(model.version or 0)
        which = f"version {model.version}" if model.version else model.name or "the model"
        complain(f"{self._uri}: {which}{remark} answers from now on")


def load(uri: str, pinned: str, tracking_uri: str | None) -> LiveModel:
    """Load the version that `uri` stands for, try it, and remember it.

    Raises: BrokenModel if its files are of no use; ModelError or OSError if they could not be had.
    """
    with tempfile.TemporaryDirectory(prefix="agr-model-") as folder:
        found = resolve.resolve(pinned, tracking_uri, Path(folder))
        try:
            model = ready(uri, found)
        except ModelError as error:
            raise BrokenModel(str(error)) from error
        remembered.remember(uri, tracking_uri, found)
    return model


def ready(uri: str, found: ModelLocation) -> LiveModel:
    """Read the files of a version, and try it. Raises: ModelError; OSError."""
    import numpy as np

    from agr.inference import bundle, predictor
    from agr.inference.model_card import FILE

    loaded = bundle.load(found.folder)
    card = bundle.locate(found.folder) / FILE
    text = card.read_text(encoding="utf-8") if card.is_file() else None
    tried = predictor.predict_proba([np.zeros(loaded.info.recipe.sample_rate, dtype=np.float32)], loaded)
    if not np.isfinite(tried).all():
        raise ModelError(f"{uri}: answers {tried[0].tolist()} to silence; expected probabilities")
    return LiveModel(loaded, uri, found.name, found.version, found.sha256 or loaded.info.weights_sha256, text)

"""AGR from Python; `import agr` has all of it.

model = agr.load("models:/agr/best")
answer = model.predict("memo.wav")                # answer.label, answer.probability, answer.explain()
answers = model.predict(["a.wav", "b.wav"])       # in their order
answer = model.predict(samples, 48_000)           # a numpy array and its rate in Hz
scores = agr.evaluate("voices.csv", model).scores
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from agr.audio import read as audio
from agr.audio.decoder import Decoder, Source
from agr.common.places import workspace
from agr.data import corpus, preparation
from agr.errors import AudioError, SettingsError
from agr.inference import answers, bundle, section
from agr.inference.evaluation import Evaluation
from agr.inference.evaluation import evaluate as evaluate_bundle
from agr.inference.inputs import ClipLike, clip_of, expect, is_recording
from agr.inference.timeline import Segment
from agr.recipes.encode import RECIPES
from agr.registry import resolve
from agr.registry.uri import ModelLocation

if TYPE_CHECKING:
    from agr.inference.attribution import Attribution

BEST = "models:/agr/best"
SOURCE = "demo, audiomnist, a corpus folder, a folder of images or a CSV manifest"


@dataclass(frozen=True, repr=False)
class Answer(answers.Answer):
    """The answer to one clip.

    Attributes:
        path: The path as it was given; `clip`, or `clip 3` in a list, for what has none.
        label: `female`, `male`, `mixed` if both speak, `no speech` or `unsure`; empty if the clip could not be read.
        probability: Of `female` and `male`, calibrated; None without speech.
        shares: Of women and men in the speech, if both speak.
        speech_seconds: Seconds of voiced speech in the clip.
        segments: Who speaks when, if that was asked for by `timeline=True`.
        warning: What is to be known about the recording, such as that a part is missing.
        error: Why the clip could not be read, if so.
    """

    _model: Model | None = field(default=None, compare=False)
    _given: tuple[Any, float | None] = field(default=(None, None), compare=False)  # and the rate of an array

    @property
    def speech_seconds(self) -> float:
        """Seconds of voiced speech in the clip."""
        return self.speech

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Speech of one gender each, with start and end in seconds, label and probability."""
        return tuple(self.timeline.segments) if self.timeline else ()

    def explain(self) -> Explanation:
        """What in the clip led to this answer; shown as a picture in a notebook.

        Raises: AudioError without an answer of female or male.
        """
        from agr.inference.attribution import attribute

        if self.error is not None or self.probability is None or self._model is None:
            raise AudioError(self.error or f"{self.path}: no speech found, so there is no answer to explain")
        model, recipe = self._model.bundle, self._model.bundle.info.recipe
        clip = clip_of(*self._given, self.path)
        given = clip.file if isinstance(clip, Source) else Path(self.path)
        y = audio.read(given, recipe.sample_rate, self.path, channel=self.channel).samples
        return Explanation(attribute(section.section(y, recipe, Path(self.path).name), model))

    def __repr__(self) -> str:
        if self.error is not None:
            return f"Answer({self.path!r}, error={self.error!r})"
        sure = f" {max(self.probability.values()):.3f}" if self.probability else ""
        return f"Answer({self.path!r}, {self.label}{sure}, {self.speech_seconds:.2f} s of speech)"


@dataclass(frozen=True, repr=False)
class Explanation:
    """What in a clip led to its answer; `str()` says it in words, a notebook shows the picture."""

    attribution: Attribution

    @property
    def contributions(self) -> dict[str, float]:
        """The share of each part, as pitch, in the answer: -1..1, negative if it spoke against it."""
        return self.attribution.contributions

    def save(self, png: str | os.PathLike[str]) -> None:
        """Write the picture as a PNG file. Raises: OSError."""
        from agr.common.files import write_atomic

        write_atomic(Path(png), self._repr_png_())

    def __repr__(self) -> str:
        from agr.plots.explanation import reading

        return reading(self.attribution)

    def _repr_png_(self) -> bytes:
        from agr.plots import explanation, panels

        return panels.png(explanation.draw(self.attribution))


class Model:
    """A model ready to predict; `agr.load` makes one. It may be used by several threads.

    Files are decoded in a process apart, which starts with the first of them and ends with this object.
    """

    def __init__(self, location: ModelLocation) -> None:
        """Read the model's files. Raises: ModelError."""
        self.location = location
        self.bundle = bundle.load(location.folder)
        self._decoder: tuple[tuple[int, str], Decoder] | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        name, version = self.location.name, self.location.version
        where = f"{name} version {version}" if version else name or self.location.folder
        return f"Model({where}: {self.bundle.info.model}, recipe {self.bundle.info.recipe.name})"

    @overload  # text and bytes are iterables as well, but one clip
    def predict(  # type: ignore[overload-overlap]
        self,
        clips: ClipLike,
        rate: float | None = None,
        *,
        abstain_below: float = 0.0,
        channel: int | None = None,
        timeline: bool = False,
    ) -> Answer: ...
    @overload
    def predict(
        self,
        clips: Iterable[ClipLike],
        rate: float | None = None,
        *,
        abstain_below: float = 0.0,
        channel: int | None = None,
        timeline: bool = False,
    ) -> list[Answer]: ...
    def predict(
        self,
        clips: ClipLike | Iterable[ClipLike],
        rate: float | None = None,
        *,
        abstain_below: float = 0.0,
        channel: int | None = None,
        timeline: bool = False,
    ) -> Answer | list[Answer]:
        """Tell whether clips hold a woman's or a man's voice.

        Args:
            clips: A path, the bytes of a sound file, an array of samples or a pair of an array and its rate; or an
                iterable of these, as a list or a pandas Series. Samples are (n,), (channels, n) or (n, channels), float
                with full scale -1..1 or integers with that of their type.
            rate: Of all arrays that bring none of their own, in Hz.
            abstain_below: The answer is `unsure` if neither probability reaches this, 0.5 to 1; 0 for never.
            channel: Which one, from 1; None for their mean, or the better one where the mean would lose the voice.
            timeline: Whether the answers have `segments`: who speaks when.

        Returns:
            The answer to a single clip; the answers to several, in their order. Of several, one that cannot be read
            has an answer with `error`.

        Raises:
            AudioError: A single clip cannot be read.
            SettingsError: An array without a rate, a number where a clip is expected, or another argument that is of
                another type or outside its range.
        """
        expect("abstain_below", abstain_below, Real, "0.5 to 1, or 0")
        expect("rate", rate, Real | None, "the rate of samples in Hz, or None")
        if abstain_below and not 0.5 <= abstain_below <= 1:
            raise SettingsError(f"abstain_below {abstain_below}: expected 0.5 to 1, or 0")
        if channel is not None and (type(channel) is not int or channel < 1):
            raise SettingsError(f"channel {channel!r}: expected a number from 1, or None")
        single = not isinstance(clips, Iterable) or is_recording(clips)
        given: list[Any] = [clips] if single else [*clips]  # type: ignore[misc]
        wanted = (clip_of(clip, rate, "clip" if single else f"clip {at}") for at, clip in enumerate(given))
        with self._lock:
            found = list(answers.answer(wanted, self.bundle, abstain_below, self._decoding(), channel, timeline))
        if single and found[0].error is not None:
            raise AudioError(found[0].error)
        made = [Answer(**vars(each), _model=self, _given=(clip, rate)) for each, clip in zip(found, given, strict=True)]
        return made[0] if single else made

    def _decoding(self) -> Decoder:
        """The decoder's process, a new one after a fork or in another folder, from which its paths would count."""
        key = os.getpid(), os.getcwd()
        if self._decoder is None or self._decoder[0] != key:
            self._decoder = key, Decoder()
        return self._decoder[1]


def load(model_uri: str | os.PathLike[str] = BEST, tracking_uri: str | None = None) -> Model:
    """Load a model.

    Args:
        model_uri: `models:/agr/best`, `models:/agr/3`, `models:/agr/latest`, `runs:/...` or a folder.
        tracking_uri: MLflow's store; else `MLFLOW_TRACKING_URI`, else `AGR_STORE`, else the nearest `mlflow_store/`
            upwards.

    Raises:
        ModelError: There is no such model or store, or its files were changed.
        SettingsError: An argument is of another type.

    Warns:
        UserWarning: The model was trained on synthetic voices.
    """
    expect("model_uri", model_uri, str | os.PathLike, "models:/agr/best, models:/agr/3, runs:/... or a folder")
    expect("tracking_uri", tracking_uri, str | None, "the URI of an MLflow store, or None")
    model = Model(resolve.resolve(os.fspath(model_uri), tracking_uri))
    if model.bundle.info.data.get("synthetic"):
        warnings.warn("this model was trained on synthetic voices and proves nothing about people", stacklevel=2)
    return model


def evaluate(
    data: str | os.PathLike[str],
    model: Model | str = BEST,
    *,
    tracking_uri: str | None = None,
    abstain_below: float = 0.0,
) -> Evaluation:
    """Score a model on a labelled corpus, by clip and by speaker.

    Args:
        data: demo, audiomnist, a corpus folder, a folder of images or a CSV manifest.
        model: A model, or its URI.
        tracking_uri: As of `load`.
        abstain_below: Also count the clips answered with this probability or more, 0.5 to 1.

    Raises:
        CorpusError: The source cannot be used.
        ModelError: There is no such model.
        SettingsError: An argument is of another type.
    """
    expect("data", data, str | os.PathLike, SOURCE)
    expect("abstain_below", abstain_below, Real, "0.5 to 1, or 0")
    loaded = model if isinstance(model, Model) else load(model, tracking_uri)
    seen = bundle.read_seen(loaded.location.folder)
    return evaluate_bundle(loaded.bundle, seen, os.fspath(data), workspace(), abstain_below)


def prepare(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str] = "",
    *,
    recipe: str | None = None,
    reference: bool = False,
    workers: int = 1,
    allow_outside: bool = False,
) -> preparation.Summary:
    """Turn a corpus into a folder of images, or bring that folder up to date.

    Args:
        source: demo, audiomnist, a corpus folder, a folder of images or a CSV manifest.
        out: The folder to write; there is none by default.
        recipe: voice, mfcc or mfcc48; by default voice, and mfcc48 for ready images.
        reference: Make the images of mfcc or mfcc48 by librosa.
        workers: Processes. With more than one, a script must be importable (`if __name__ == "__main__":`).
        allow_outside: Let a manifest name files outside its own folder.

    Raises:
        CorpusError: The source cannot be used, or `out` holds files that were not made so.
        RecipeError: The recipe is unknown or does not suit the source.
        SettingsError: An argument is of another type, or there is no `out`.
    """
    expect("source", source, str | os.PathLike, SOURCE)
    expect("out", out or None, str | os.PathLike, "the folder to write")
    expect("recipe", recipe, str | None, f"one of {', '.join(RECIPES)}, or None")
    expect("workers", workers, int, "a number of processes")
    out = Path(out)
    found = corpus.open_corpus(os.fspath(source), out.parent, allow_outside)
    return preparation.prepare(found, out, preparation.choose_recipe(found, recipe, reference), workers)

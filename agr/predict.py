"""Tell whether clips contain a woman's or a man's voice.

    python -m agr.predict --model-uri models:/agr/best [--json] clip.wav folder/ -

Arguments are sound files, folders of them, and `-` for one file on standard input. A clip longer than a second is read
in windows. The answer is `no speech` for a clip with too little speech or none, and with --abstain-below P `unsure` if
neither probability reaches P. Exit status: 0 all clips were answered; 1 some clip could not be read, or not explained
(the others were answered); 2 wrong usage or no such model. --json prints one object a line: path, label, probability
{female, male} (null without speech), speech_seconds, model {name, version}; or path, error.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agr.credentials import harmless
from agr.decoder import Clip, Decoder, in_process
from agr.errors import AudioError, SilentAudio
from agr.terminal import complain, png_path, quick_imports

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agr.bundle import Bundle

    Loaded = NDArray[np.float32] | AudioError

BATCH, BATCH_SAMPLES = 32, 2**22  # a batch ends after so many clips, or as soon as it has more samples than this
STDIN = "-"
NO_SPEECH, UNSURE = "no speech", "unsure"


@dataclass(frozen=True)
class Answer:
    """The answer to one clip.

    Attributes:
        path: the clip, as it was named.
        probability: of each class, in the order of CLASSES; None without speech and for a clip that could not be read.
        error: why the clip could not be read.
        speech: seconds of speech.
        sure: the probability that an answer has to reach.
    """

    path: str
    probability: dict[str, float] | None = None
    error: str | None = None
    speech: float = 0.0
    sure: float = 0.0

    @property
    def label(self) -> str:
        """The more probable class, `no speech` or `unsure`; empty if the clip could not be read."""
        if self.error is not None:
            return ""
        if self.probability is None:
            return NO_SPEECH
        likelier = max(self.probability, key=self.probability.__getitem__)
        return likelier if self.probability[likelier] >= self.sure else UNSURE

    def as_dict(self, model: dict[str, Any]) -> dict[str, Any]:
        """The object that --json prints."""
        if self.error is not None:
            return {"path": self.path, "error": self.error}
        said = {"path": self.path, "label": self.label, "probability": self.probability}
        return said | {"speech_seconds": round(self.speech, 2), "model": model}

    def as_line(self) -> str:
        """A line for a person: path, label and its probability, separated by tabs."""
        likely = f"{max(self.probability.values()):.3f}" if self.probability else "-"
        return f"{self.path}\t{self.label}\t{likely}"


def expand(arguments: Sequence[str]) -> Iterator[str | Answer]:
    """Yield each clip as it is named, and the sound files of folders in sorted order.

    A folder without sound files, and a second `-`, yield an Answer with an error: standard input is one clip.
    """
    for place, argument in enumerate(arguments):
        if argument == STDIN and STDIN in arguments[:place]:
            yield Answer(argument, error=f"{argument}: given again; expected standard input, which is one clip, once")
            continue
        if argument == STDIN or not os.path.isdir(argument):  # Path.is_dir raises for a name too long
            yield argument
            continue
        from agr import audio

        if found := audio.find(Path(argument)):
            yield from map(str, found)
        else:
            yield Answer(argument, error=f"{argument}: no sound files in it; expected WAV, FLAC, OGG or MP3")


def answer(
    clips: Iterator[str | Answer], bundle: Bundle, sure: float = 0.0, decoder: Decoder | None = None
) -> Iterator[Answer]:
    """Answer clips in batches, in their order.

    Args:
        clips: as `expand` yields them.
        bundle: the model.
        sure: the probability below which an answer is `unsure`.
        decoder: the process that decodes recordings; this process does if it is None.
    """
    names, sources = itertools.tee(clips)
    load = in_process if decoder is None else decoder.load_all
    batch: list[tuple[str | Answer, Loaded]] = []
    samples = 0
    for name, y in zip(names, load(map(_source, sources), bundle.card.recipe.sample_rate), strict=True):
        batch.append((name, y))
        samples += 0 if isinstance(y, AudioError) else len(y)
        if len(batch) == BATCH or samples > BATCH_SAMPLES:
            yield from _answer_batch(batch, bundle, sure)
            batch, samples = [], 0
    yield from _answer_batch(batch, bundle, sure)


def _answer_batch(batch: Sequence[tuple[str | Answer, Loaded]], bundle: Bundle, sure: float) -> Iterator[Answer]:
    from agr import inference
    from agr.corpus import CLASSES

    good = [y for _, y in batch if not isinstance(y, AudioError)]
    heard = inference.hear(good, bundle) if good else None
    rows = iter(zip(heard.probabilities.tolist(), heard.speech.tolist(), strict=True) if heard else ())
    for name, y in batch:
        if isinstance(name, Answer):
            yield name
        elif isinstance(y, SilentAudio):
            yield Answer(name)
        elif isinstance(y, AudioError):
            yield Answer(name, error=str(y))
        else:
            row, speech = next(rows)
            probability = dict(zip(CLASSES, row, strict=True)) if speech else None
            yield Answer(name, probability, speech=speech, sure=sure)


def _source(clip: str | Answer) -> Clip | AudioError:
    """What to decode. Standard input, pipes and devices are read here: another process may not have them."""
    if isinstance(clip, Answer):
        return AudioError(clip.error)
    try:
        if clip == STDIN:
            from agr import audio

            return Clip("standard input", audio.read_stream(sys.stdin.buffer, "standard input"))
        if _is_special(clip):
            from agr import audio

            return Clip(clip, audio.read_bytes(Path(clip)))
    except AudioError as error:
        return error
    return Clip(clip)


def _is_special(path: str) -> bool:
    """Whether a path exists but is not a plain file that another process finds under the same name."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode) or os.path.abspath(path).startswith(("/dev/", "/proc/"))
    except (OSError, ValueError):
        return False


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m agr.predict", description="Tell a woman's voice from a man's.")
    parser.add_argument("clips", nargs="+", metavar="CLIP", help="a sound file, a folder, or - for standard input")
    parser.add_argument("--explain", type=png_path, metavar="PNG", help="draw what moved the answer to a single clip")
    add_abstain_argument(parser, "answer `unsure` if neither probability reaches this, 0.5 to 1")
    add_model_arguments(parser)
    options = parser.parse_args(arguments)
    if options.explain and (len(options.clips) != 1 or options.clips == [STDIN] or os.path.isdir(options.clips[0])):
        parser.error(f"--explain {options.explain}: expected one clip, a file")
    return options


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that `predict`, `evaluate` and `explain` share."""
    uris = "models:/agr/best (default), models:/agr/3, models:/agr/latest, runs:/..., or a folder"
    parser.add_argument("--model-uri", default="models:/agr/best", help=uris)
    store = "MLflow's store (default: MLFLOW_TRACKING_URI, else mlflow_store/)"
    parser.add_argument("--tracking-uri", type=harmless, help=store)
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def add_abstain_argument(parser: argparse.ArgumentParser, says: str) -> None:
    """Add the flag --abstain-below."""
    parser.add_argument("--abstain-below", type=_sureness, default=0.0, metavar="P", help=says)


def _sureness(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.5 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: expected 0.5 to 1")
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = parse(arguments)
    with Decoder() as decoder:  # it imports its modules while this process imports others
        with quick_imports():
            from agr import bundle, registry

        found = registry.resolve(options.model_uri, options.tracking_uri)
        loaded = bundle.load(found.folder)
        if loaded.card.data.get("synthetic"):
            print("agr: this model was trained on synthetic voices and proves nothing about people", file=sys.stderr)
        model = {"name": found.name, "version": found.version}
        answers = answer(expand(options.clips), loaded, options.abstain_below, decoder)
        return _tell(answers, options, loaded, model)


def _tell(answers: Iterator[Answer], options: argparse.Namespace, loaded: Bundle, model: dict[str, Any]) -> int:
    """Print answers as they come; returns the exit status."""
    failed = False
    for result in answers:
        failed |= result.error is not None
        if result.error is not None:
            print(f"agr: {result.error}", file=sys.stderr)
        if options.json:
            print(json.dumps(result.as_dict(model)), flush=True)
        elif result.error is None:
            print(result.as_line(), flush=True)
        if options.explain and result.error is None:
            failed |= not _explain(result, loaded, options.explain)
    return int(failed)


def _explain(result: Answer, loaded: Bundle, png: Path) -> bool:
    """Draw what moved the answer, if there is one, say so on stderr, and return whether it was drawn."""
    if result.probability is None:
        complain(f"{result.path}: no speech found, so there is no answer to explain; {png} was not drawn")
        return False
    from agr.explain import explain_clip

    explain_clip(result.path, loaded, png)
    complain(f"{png}: what moved the answer to {result.path}")
    return True


if __name__ == "__main__":
    from agr.terminal import run

    run(main)

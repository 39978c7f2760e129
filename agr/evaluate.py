"""Score a model on a labelled corpus, by clip and by speaker.

    python -m agr.evaluate --model-uri models:/agr/best --data SOURCE [--abstain-below P] [--ages 18-] [--json]
        [--columns path=file speaker=who gender=sex]

Ready images, also those of `agr.prepare`, are scored as they are; recordings are answered as by `agr.predict`. Scores
are over all clips; one answered `no speech` counts as wrong. --abstain-below P adds `answered`, the share of clips with
an answer of probability P or more, and `accuracy_answered`, the accuracy among them. --json prints one object: clips,
speakers, accuracy, balanced_accuracy, balanced_accuracy_ci95 (from resampling speakers), recall {female, male},
per_speaker, and more. LEAKY: the model was trained or chosen on these speakers, found by name or by their recordings.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from agr import api
from agr.common.callable_module import make_callable
from agr.common.cli import ArgumentParser, run
from agr.common.places import workspace
from agr.common.printable import printable
from agr.data.ages import add_ages
from agr.data.layouts.dialect import add_columns
from agr.inference import bundle
from agr.inference.evaluation import Evaluation, evaluate
from agr.inference.options import add_abstain_argument, add_model_arguments
from agr.registry import resolve


def as_dict(result: Evaluation, model: dict[str, Any]) -> dict[str, Any]:
    """The object printed with --json."""
    extra: dict[str, Any] = {"skipped": result.skipped, "no_speech": result.no_speech, "synthetic": result.synthetic}
    extra |= {"abstain_below": result.abstain_below or None}
    extra |= {"answered": result.answered, "accuracy_answered": result.accuracy_answered}
    extra |= {"speakers_met_in_training": list(result.seen_speakers), "corpus": result.corpus, "model": model}
    met_recordings = result.seen_recordings if result.content_checked else None
    return result.scores.as_dict() | extra | {"recordings_met_in_training": met_recordings}


def describe(result: Evaluation) -> str:
    """The scores as text."""
    s = result.scores
    low, high = s.balanced_accuracy_ci95
    recall = ", ".join(f"{name} {value:.4f}" for name, value in s.recall.items() if value is not None)
    hardest = ", ".join(f"{printable(name)} ({who.gender}) {who.accuracy:.2f}" for name, who in s.hardest(5))
    lines = [
        f"{printable(result.corpus)}: {s.clips} clips of {s.speakers} speakers, {result.skipped} clips skipped",
        f"{s.measure:18} {s.balanced_accuracy:.4f}  (95 % interval over speakers {low:.4f} to {high:.4f})",
        f"accuracy           {s.accuracy:.4f}",
        f"recall             {recall}",
        f"hardest speakers   {hardest or 'none, all right'}",
    ]
    if result.no_speech:
        lines.append(f"no speech          {result.no_speech} clips were answered so, and count as wrong")
    if result.abstain_below:
        among = "" if result.accuracy_answered is None else f"; accuracy among them {result.accuracy_answered:.4f}"
        sure = f"with probability {result.abstain_below:g} or more{among}"
        lines.append(f"answered           {result.answered:.4f} of the clips, {sure}")
    if result.seen_speakers:
        clips = f" ({result.seen_recordings} of these recordings)" if result.content_checked else ""
        lines.append(f"LEAKY: the model was trained or chosen on {len(result.seen_speakers)} of these speakers{clips}")
    if not result.content_checked:
        lines.append("not checked        recordings: this model does not list its own, so only names were compared")
    if result.synthetic:
        lines.append("These voices are synthetic: the result proves nothing about people.")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None, prog: str = "python -m agr.evaluate") -> int:
    """Run the command; returns the exit status, 1 if some clip could not be read."""
    parser = ArgumentParser(prog=prog, description="Score a model on a labelled corpus.")
    parser.add_argument(
        "--data", required=True, help="demo, audiomnist, librispeech:PART, a corpus folder or a table (CSV)"
    )
    add_abstain_argument(parser, "also report the clips answered with this probability or more, 0.5 to 1")
    add_model_arguments(parser)
    add_ages(parser)
    add_columns(parser)
    options = parser.parse_args(arguments)
    found = resolve.resolve(options.model_uri, options.tracking_uri)
    loaded, seen = bundle.load(found.folder), bundle.read_seen(found.folder)
    abstain_below, ages, columns = options.abstain_below, options.ages, options.columns
    result = evaluate(loaded, seen, options.data, workspace(), abstain_below, ages, columns)
    model = {"name": found.name, "version": found.version}
    print(json.dumps(as_dict(result, model)) if options.json else describe(result))
    return int(result.skipped > 0)


make_callable(__name__, api.evaluate)

if __name__ == "__main__":
    run(main)

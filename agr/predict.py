"""Predict whether clips contain a woman's or a man's voice.

    python -m agr.predict --model-uri models:/agr/best [--json] clip.wav folder/ -

Arguments are sound files, folders of them, and `-` for one file on standard input. A clip longer than a second is cut
into windows. The answer is `no speech` for a clip with too little speech, and with --abstain-below P `unsure` if
neither probability reaches P. Exit status: 0 all clips were answered; 1 some clip could not be read or explained (the
others were answered); 2 wrong usage or no such model. --json prints one object per line: path, label, probability
{female, male} (null without speech), speech_seconds, model {name, version}; or path, error.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agr.audio.decoder import Decoder
from agr.common.cli import complain, png_path, quick_imports, run
from agr.inference.answers import STDIN, Answer, answer, expand
from agr.inference.options import add_abstain_argument, add_model_arguments

if TYPE_CHECKING:
    from agr.inference.bundle import Bundle

PROG = "python -m agr.predict"


def parse(arguments: Sequence[str] | None, prog: str = PROG) -> argparse.Namespace:
    """The parsed command line."""
    parser = argparse.ArgumentParser(prog=prog, description="Tell women's voices from men's.")
    parser.add_argument("clips", nargs="+", metavar="CLIP", help="a sound file, a folder, or - for standard input")
    parser.add_argument("--explain", type=png_path, metavar="PNG", help="draw what led to the answer to a single clip")
    add_abstain_argument(parser, "answer `unsure` if neither probability reaches this, 0.5 to 1")
    add_model_arguments(parser)
    options = parser.parse_args(arguments)
    if options.explain and (len(options.clips) != 1 or options.clips == [STDIN] or os.path.isdir(options.clips[0])):
        parser.error(f"--explain {options.explain}: expected one clip, a file")
    return options


def main(arguments: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Run the command; returns the exit status."""
    options = parse(arguments, prog)
    with Decoder() as decoder:  # its process imports modules while this one imports others
        with quick_imports():
            from agr.inference import bundle
            from agr.registry import resolve

        found = resolve.resolve(options.model_uri, options.tracking_uri)
        loaded = bundle.load(found.folder)
        if loaded.info.data.get("synthetic"):
            print("agr: this model was trained on synthetic voices and proves nothing about people", file=sys.stderr)
        model = {"name": found.name, "version": found.version}
        answers = answer(expand(options.clips), loaded, options.abstain_below, decoder)
        return _print_answers(answers, options, loaded, model)


def _print_answers(
    answers: Iterator[Answer], options: argparse.Namespace, loaded: Bundle, model: dict[str, Any]
) -> int:
    """Print answers as they come; returns the exit status."""
    failed = False
    for result in answers:
        if result.error is not None:
            failed = True
            print(f"agr: {result.error}", file=sys.stderr)
        if options.json:
            print(json.dumps(result.as_dict(model)), flush=True)
        elif result.error is None:
            print(result.as_line(), flush=True)
        if options.explain and result.error is None:
            failed |= not _explain(result, loaded, options.explain)
    return int(failed)


def _explain(result: Answer, loaded: Bundle, png: Path) -> bool:
    """Draw what led to the answer, if there is one; returns whether it was drawn."""
    if result.probability is None:
        complain(f"{result.path}: no speech found, so there is no answer to explain; {png} was not drawn")
        return False
    from agr.plots.explanation import explain_clip

    explain_clip(result.path, loaded, png)
    complain(f"{png}: what moved the answer to {result.path}")
    return True


if __name__ == "__main__":
    run(main)

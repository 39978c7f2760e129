"""Predict whether clips contain a woman's or a man's voice.

    python -m agr.predict --model-uri models:/agr/best [--json] [--channel each] clip.m4a folder/ -

Arguments are sound files, folders of them, and `-` for one file on standard input. A clip longer than a second is cut
into windows. Of several channels the mean is taken, or the better one where the mean would lose the voice
(`agr.audio.channels`); --channel left|right|N takes that one, and --channel each gives an answer to each, under
`PATH#1`, `PATH#2`. The answer is `no speech` for a clip with too little speech, `mixed` where women and men both speak,
and with --abstain-below P `unsure` if neither probability reaches P. --timeline FILE writes who speaks when. What was
found and not read, and what is missing of a recording, is told on stderr (with --json in the objects instead), and
after several clips how many answers there were. Exit status: 0 all clips were answered; 1 some file could not be read
or explained (the others were answered); 2 wrong usage or no such model. --json prints one object per line: path,
channel (if one was asked for), label, probability {female, male} (null without speech), speech_seconds, shares (of
`mixed`), seconds and segments (with --timeline), warning (if there is one), model {name, version}; or path, channel,
error.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agr.audio.decoder import Decoder
from agr.common.cli import ArgumentParser, complain, png_path, quick_imports, run
from agr.common.progress import terminal_progress
from agr.inference.answers import EACH, STDIN, Answer, answer, expand, summary
from agr.inference.options import add_abstain_argument, add_model_arguments
from agr.inference.timeline_files import TimedAnswer, holds_one, timeline_path, write

if TYPE_CHECKING:
    from agr.inference.bundle import Bundle

PROG = "python -m agr.predict"


def parse(arguments: Sequence[str] | None, prog: str = PROG) -> argparse.Namespace:
    """The parsed command line."""
    parser = ArgumentParser(prog=prog, description="Tell women's voices from men's.")
    parser.add_argument("clips", nargs="+", metavar="CLIP", help="a sound file, a folder, or - for standard input")
    channel = "left, right, a number from 1, or each (default: their mean, or the better one)"
    parser.add_argument("--channel", type=_channel, help=channel)
    timeline = "write who speaks when: FILE.TextGrid, .csv, .jsonl, .txt (Audacity), .rttm or .png; may be repeated"
    parser.add_argument("--timeline", type=timeline_path, action="append", default=[], metavar="FILE", help=timeline)
    parser.add_argument("--explain", type=png_path, metavar="PNG", help="draw what led to the answer to a single clip")
    add_abstain_argument(parser, "answer `unsure` if neither probability reaches this, 0.5 to 1")
    add_model_arguments(parser)
    options = parser.parse_args(arguments)
    if options.explain and (len(options.clips) != 1 or options.clips == [STDIN] or os.path.isdir(options.clips[0])):
        parser.error(f"--explain {options.explain}: expected one clip, a file")
    if options.explain and options.channel == EACH:
        parser.error("--explain: expected one channel; --channel each gives several answers")
    several = len(options.clips) != 1 or os.path.isdir(options.clips[0]) or options.channel == EACH
    for path in options.timeline:
        if several and holds_one(path):
            parser.error(
                f"--timeline {path}: holds one recording; expected one, or a name that ends in .csv, .jsonl or .rttm"
            )
    _check_outputs(parser, [*options.timeline, *([options.explain] if options.explain else [])], options.clips)
    return options


def _check_outputs(parser: argparse.ArgumentParser, outputs: Sequence[Path], clips: Sequence[str]) -> None:
    """End the command if something that is to be written cannot be, or would overwrite a clip or something else."""
    for path in outputs:
        if path.is_dir() or not os.access(path.parent, os.W_OK):
            parser.error(f"{path}: cannot be written; expected a file in a folder that is there")
        if any(path.exists() and os.path.exists(clip) and path.samefile(clip) for clip in clips):
            parser.error(f"{path}: is a clip; expected another file to write to")
    if len({path.resolve() for path in outputs}) < len(outputs):
        parser.error(f"{outputs[-1]}: is to be written twice; expected a file for each")


def _channel(text: str) -> int | str:
    """Which channel a command line asks for: from 1, or EACH."""
    named: dict[str, int | str] = {"left": 1, "right": 2, EACH: EACH}
    if text not in named and not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text}: expected left, right, each or a number from 1")
    return named[text] if text in named else int(text)


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
            complain("this model was trained on synthetic voices and proves nothing about people")
        elif loaded.info.never_beat_chance:
            complain("this model was never shown to be better than chance")
        model = {"name": found.name, "version": found.version}
        told = bool(options.timeline), terminal_progress
        answers = answer(expand(options.clips), loaded, options.abstain_below, decoder, options.channel, *told)
        return _print_answers(answers, options, loaded, model)


def _print_answers(
    answers: Iterator[Answer], options: argparse.Namespace, loaded: Bundle, model: dict[str, Any]
) -> int:
    """Print answers as they come; returns the exit status."""
    counts: Counter[str] = Counter()
    timelines: list[TimedAnswer] = []
    explained = True
    for result in answers:
        counts[result.label] += result.files
        if options.json:  # errors and warnings are in it
            print(json.dumps(result.as_dict(model)), flush=True)
        elif result.error is not None:
            complain(result.error)
        else:
            if result.warning is not None:
                complain(f"{result.path}: {result.warning}")
            print(result.as_line(), flush=True)
        if options.explain and result.error is None:
            explained &= _explain(result, loaded, options.explain)
        if result.timeline is not None:
            timelines.append(result.timeline)
    for path in options.timeline:
        explained &= _write_timelines(path, timelines) or counts[""] == 0
    if counts.total() > 1:
        complain(summary(counts))
    return int(counts[""] > 0 or not explained)


def _write_timelines(path: Path, timelines: Sequence[TimedAnswer]) -> bool:
    """Write who speaks when; returns whether there was anything to write."""
    if not timelines:
        complain(f"{path}: there is no sound to write of, so it was not written")
        return False
    if path.suffix.lower() == ".png":
        from agr.plots import timeline

        timeline.draw(timelines[0], path)
    else:
        write(path, timelines)
    complain(f"{path}: who speaks when")
    return True


def _explain(result: Answer, loaded: Bundle, png: Path) -> bool:
    """Draw what led to the answer, if there is one; returns whether it was drawn."""
    if result.probability is None:
        complain(f"{result.path}: no speech found, so there is no answer to explain; {png} was not drawn")
        return False
    from agr.plots.explanation import explain_clip

    explain_clip(result.path, loaded, png, result.channel)
    complain(f"{png}: what moved the answer to {result.path}")
    return True


if __name__ == "__main__":
    run(main)

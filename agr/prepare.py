"""Turn a corpus into images.

    python -m agr.prepare SOURCE --out DIR [--recipe voice] [--workers N] [--reference] [--ages 18-]
        [--columns path=file speaker=who gender=sex]

SOURCE is demo, audiomnist, librispeech:dev-clean (or another part), a folder, or a table of recordings. DIR gets shards
(`shard-*.arrow`: some thousand images each, with recipe `voice` also the voice features from which they are drawn),
`manifest.csv`, `skipped.csv` (clips left out, and why) and `prepared.json`. A run that was killed continues where it
stopped (`part-*.arrow`); an image is made again only when the recipe or the recording changed. --reference makes the
images of `mfcc` and `mfcc48` by librosa and matplotlib, as the paper did, instead of AGR's own faster code; they are
the same pixel by pixel. --ages leaves out speakers who are, or may be, of another age. --columns names the columns of a
table that has none of their usual names. Of a recording that is there twice under one speaker one clip is used, under
two speakers none.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from agr import api
from agr.common.callable_module import make_callable
from agr.common.cli import ArgumentParser, complain, run
from agr.common.printable import printable
from agr.data import ages, corpus
from agr.data.layouts.dialect import add_columns
from agr.data.left_out import summarised
from agr.data.preparation import SKIPPED, choose_recipe, prepare
from agr.recipes import encode


def main(arguments: Sequence[str] | None = None, prog: str = "python -m agr.prepare") -> int:
    """Run the command; returns the exit status."""
    parser = ArgumentParser(prog=prog, description="Turn a corpus into images.")
    parser.add_argument(
        "source", help="demo, audiomnist, librispeech:PART, a corpus folder, ready images or a table (CSV)"
    )
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    names = ", ".join(encode.RECIPES)
    parser.add_argument("--recipe", help=f"one of {names} (default: {encode.DEFAULT}; for ready images mfcc48)")
    parser.add_argument("--reference", action="store_true", help="make images of mfcc or mfcc48 by librosa (slower)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
    outside = "let a manifest name files outside its own folder"
    parser.add_argument("--allow-outside", action="store_true", help=outside)
    ages.add_ages(parser)
    add_columns(parser)
    options = parser.parse_args(arguments)
    opened = corpus.open_corpus(options.source, options.out.parent, options.allow_outside, options.columns)
    found = ages.within(opened, options.ages)
    for note in found.notes:
        complain(note)
    wanted = choose_recipe(found, options.recipe, options.reference)
    summary = prepare(found, options.out, wanted, options.workers)
    out = printable(str(options.out))
    print(f"{out}: {summary.made} images made, {summary.kept} kept, {summary.skipped} clips skipped")
    if summary.skipped:
        print(f"why they were skipped: {printable(str(options.out / SKIPPED))}")
        for line in summarised(summary.reasons):
            print(f"  {printable(line)}")
    for line in summarised(summary.notes):
        print(f"used, but not whole: {printable(line)}")
    if found.synthetic:
        print("These voices are synthetic: results on them prove nothing about people.")
    return 0


make_callable(__name__, api.prepare)

if __name__ == "__main__":
    run(main)

"""Prepare clips one after the other through librosa and matplotlib: the baseline of bench/prepare.py.

python bench/librosa_loop.py MANIFEST OUT
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from agr.common.cli import run
from agr.data.layouts.manifest import read_manifest
from agr.recipes.mfcc import MFCC
from agr.recipes.mfcc_reference import jpeg


def librosa_loop(paths: Sequence[Path], out: Path) -> None:
    """Write one JPEG for each clip, by librosa's and matplotlib's own calls."""
    from librosa import load
    from librosa.util import fix_length

    out.mkdir(exist_ok=True)
    for i, path in enumerate(paths):
        y, _ = load(path, sr=MFCC.sample_rate)
        (out / f"{i}.jpg").write_bytes(jpeg(fix_length(y, size=MFCC.n_samples), MFCC))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python bench/librosa_loop.py", description="Prepare clips one by one with librosa and matplotlib."
    )
    parser.add_argument(
        "manifest", type=Path, metavar="MANIFEST", help="a CSV file of recordings, as agr.prepare reads"
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder for the images")
    options = parser.parse_args(arguments)
    listed = read_manifest(options.manifest, allow_outside=True)
    librosa_loop([clip.path for clip in listed.clips], options.out)
    return 0


if __name__ == "__main__":
    run(main)

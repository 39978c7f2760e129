"""Write the demo corpus.

python -m agr.synth OUT
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from agr.synth.demo import write_demo
from agr.synth.phonemes import WORDS as WORDS
from agr.synth.speaker import SAMPLE_RATE as SAMPLE_RATE
from agr.synth.speaker import Voice as Voice


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m agr.synth", description="Write the synthetic corpus.")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    parser.add_argument("--speakers", type=int, default=24, help="half women, half men (default: 24)")
    parser.add_argument("--repetitions", type=int, default=5, help="of each digit by each speaker (default: 5)")
    parser.add_argument("--seed", type=int, default=0, help="another seed makes other voices (default: 0)")
    options = parser.parse_args(arguments)
    write_demo(options.out, options.speakers, options.repetitions, options.seed)
    print(f"{options.out}: {options.speakers * len(WORDS) * options.repetitions} synthetic clips")
    return 0


if __name__ == "__main__":
    from agr.common.cli import run

    run(main)

"""Write the demo corpus of synthetic voices.

python -m agr.synth OUT [--speakers 24] [--repetitions 5] [--seed 0]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agr.common.cli import ArgumentParser, run
from agr.common.printable import printable
from agr.synth.demo import write_demo
from agr.synth.phonemes import WORDS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    what = "Write the demo corpus of synthetic voices."
    parser = ArgumentParser(prog="python -m agr.synth", description=what)
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder to write")
    speakers = "number of speakers, half women, half men (default: 24)"
    parser.add_argument("--speakers", type=int, default=24, help=speakers)
    repetitions = "recordings of each digit by each speaker (default: 5)"
    parser.add_argument("--repetitions", type=int, default=5, help=repetitions)
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other voices (default: 0)")
    options = parser.parse_args(arguments)
    write_demo(options.out, options.speakers, options.repetitions, options.seed)
    print(f"{printable(str(options.out))}: {options.speakers * len(WORDS) * options.repetitions} synthetic clips")
    return 0


if __name__ == "__main__":
    run(main)

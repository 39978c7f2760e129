"""Draw the image that the model reads of a clip, with axes, below the waveform and a mel spectrogram.

    python -m agr.features clip.wav --png out.png [--recipe voice|mfcc|mfcc48]

Of a clip longer than a second, the second with most speech is drawn. `-` reads standard input. Exit status: 0 drawn,
1 the clip could not be read, 2 wrong usage or a file that cannot be written.
"""

from __future__ import annotations

from collections.abc import Sequence

from agr.common.cli import ArgumentParser, complain, png_path, run
from agr.common.printable import printable
from agr.errors import AudioError
from agr.inference.section import read
from agr.plots import panels
from agr.plots.model_input import draw
from agr.recipes.encode import DEFAULT, RECIPES, by_name


def main(arguments: Sequence[str] | None = None, prog: str = "python -m agr.features") -> int:
    """Run the command; returns the exit status."""
    parser = ArgumentParser(prog=prog, description="Draw the model's input for a clip.")
    parser.add_argument("clip", metavar="CLIP", help="a sound file, or - for standard input")
    parser.add_argument("--png", type=png_path, required=True, help="the file to write, ending in .png")
    recipe = f"how the image is made (default: {DEFAULT})"
    parser.add_argument("--recipe", choices=list(RECIPES), default=DEFAULT, help=recipe)
    options = parser.parse_args(arguments)
    try:
        shown = read(options.clip, by_name(options.recipe))
    except AudioError as error:
        complain(str(error))
        return 1
    panels.save(draw(shown), options.png)
    print(f"{printable(str(options.png))}\t{shown.place}")
    return 0


if __name__ == "__main__":
    run(main)

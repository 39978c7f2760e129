"""Draw which parts of a clip's image led the model to its answer.

    python -m agr.explain --model-uri models:/agr/best clip.wav --png out.png

Each channel of the image is drawn in grey, with warm colours where it spoke for the answer and cold ones where it spoke
against it (`agr.inference.attribution`). The answer is for the whole clip; of a clip longer than a second, the second
with most speech is explained. Exit status: 0 drawn, 1 the clip could not be read, 2 wrong usage or no such model. With
--json, one object: path, label, probability, contributions, compared_with, png.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from agr.common.cli import ArgumentParser, complain, png_path, run
from agr.errors import AudioError
from agr.inference import bundle
from agr.inference.options import add_model_arguments
from agr.plots.explanation import explain_clip, reading
from agr.registry import resolve


def main(arguments: Sequence[str] | None = None, prog: str = "python -m agr.explain") -> int:
    """Run the command; returns the exit status."""
    parser = ArgumentParser(prog=prog, description="Draw what in a clip led to its answer.")
    parser.add_argument("clip", metavar="CLIP", help="a sound file, or - for standard input")
    parser.add_argument("--png", type=png_path, required=True, help="the file to write, ending in .png")
    add_model_arguments(parser)
    options = parser.parse_args(arguments)
    loaded = bundle.load(resolve.resolve(options.model_uri, options.tracking_uri).folder)
    try:
        found = explain_clip(options.clip, loaded, options.png)
    except AudioError as error:
        complain(str(error))
        return 1
    values = {"path": options.clip, "label": found.answer, "probability": found.probability}
    more = {"contributions": found.contributions, "compared_with": found.baseline.description, "png": str(options.png)}
    print(json.dumps(values | more) if options.json else reading(found))
    return 0


if __name__ == "__main__":
    run(main)

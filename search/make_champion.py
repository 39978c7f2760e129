"""Train the model that comes with AGR, and put it into the package with its card.

    python search/make_champion.py FOLDER            # `make champion DATA=FOLDER`

FOLDER holds CORPORA, whose licences let a model trained on them be given away (agr/champion/ATTRIBUTION). With the
demo's synthetic voices they make one search of a single point; a tenth of the people chooses, and a tenth tests. Before
it, the same point is trained without each corpus in turn: the temperature is the one that suits all of them left out.
"""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from agr.common.cli import ArgumentParser, complain, run
from agr.common.places import CHAMPION_VARIABLE, SHIPPED, STORE_VARIABLE
from agr.errors import CorpusError

CORPORA = ("alphanumeric", "commonvoice", "emodb", "librispeech", "spanish_digits")
EPOCHS, RATE, GAMMA = 15, 0.003, 0.3
AXES = {"width": (1.5,), "weight_decay": (0.01,), "batch_size": (64,)}
STRENGTHS = {"pitch": 0.1, "formants": 0.04, "pitch_targets": 0.0}
FOLDS = 10


def main(arguments: Sequence[str] | None = None, prog: str = "python search/make_champion.py") -> int:
    """Run the command; returns the exit status."""
    parser = ArgumentParser(prog=prog, description="Train the model that comes with AGR.")
    parser.add_argument("folder", type=Path, help=f"a folder that holds {', '.join(CORPORA)}")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="where to write it (default: agr/champion)")
    options = parser.parse_args(arguments)
    missing = [name for name in CORPORA if not (options.folder / name).is_dir()]
    if missing:
        raise CorpusError(f"{options.folder}: no folder {', '.join(missing)}; expected {', '.join(CORPORA)}")
    with tempfile.TemporaryDirectory(prefix="agr-champion-") as scratch:
        os.environ |= {STORE_VARIABLE: scratch, CHAMPION_VARIABLE: "none"}
        _train([str(options.folder / name) for name in CORPORA], options.out)
    return 0


def _train(sources: Sequence[str], out: Path) -> None:
    from agr.inference import bundle, model_card
    from agr.metrics import calibration
    from agr.registry.resolve import resolve
    from search import api

    everything = [*sources, "demo"]
    grid = functools.partial(api.grid, everything, model="towers", axes=AXES, augment=STRENGTHS, recipe="voice112")
    point = functools.partial(grid, epochs=[EPOCHS], lr=[RATE], gamma=[GAMMA])
    apart = [point(leave_out=name) for name in CORPORA]
    temperature = calibration.fit_across([(each.logits, each.labels) for each in apart])
    result = point(folds=FOLDS, fold=0, temperature=temperature)
    made = bundle.locate(resolve(f"models:/agr/{result.version}").folder)
    out.mkdir(parents=True, exist_ok=True)
    for name in (bundle.WEIGHTS, bundle.SEEN, bundle.INFO, model_card.FILE):
        shutil.copyfile(made / name, out / name)
    complain(f"{out}: the champion and its card")


if __name__ == "__main__":
    run(main)

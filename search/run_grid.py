"""The exhaustive search: every point of epochs x lr x gamma, on Ray Tune, logged to MLflow, the best registered.

    python search/run_grid.py --num-workers 4
    python search/run_grid.py --data FOLDER --split audiomnist-4fold --fold 0
    python search/run_grid.py --lanes fused          # on a GPU: all points at the same epoch as one batch of models

Without --data it runs on synthetic demo voices, which prove nothing about people.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agr.terminal import quick_imports, run
from search.clerk import Clerk

if TYPE_CHECKING:
    from search.exhaust import Exhaust
    from search.study import Plan
    from search.subject import Subject


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    from search import options

    parser = argparse.ArgumentParser(prog="python search/run_grid.py", description="Exhaustive search on Ray Tune.")
    points = parser.add_argument_group("the grid")
    points.add_argument("--epochs", type=int, nargs="+", help="default: 5 10 20")
    points.add_argument("--lr", type=float, nargs="+", help="default: 0.1 0.01 0.001")
    points.add_argument("--gamma", type=float, nargs="+", help="default: 0.1 0.3 0.7")
    points.add_argument("--model", choices=("cnn", "pooled"), default="cnn", help="default: cnn, the study's")
    points.add_argument(
        "--no-variation", action="store_true", help="train on the clips as they are, every epoch alike, without dropout"
    )
    strengths = "other strengths of variation: speed, pitch, formants, colour, line, noise, room, shift, population"
    points.add_argument("--vary", nargs="+", default=[], metavar="NAME=STRENGTH", help=strengths)
    axis = "another axis, of AGR's settings or of a trainable's GRID; may be given several times"
    points.add_argument("--axis", nargs="+", action="append", default=[], metavar=("NAME", "VALUE"), help=axis)
    options.add_trainable(points)
    options.add_data(parser)
    running = options.add_running(parser)
    running.add_argument("--no-stage-store", action="store_true", help="train every trial from its first epoch")
    lanes = "fused: points train as one batch of models"
    running.add_argument("--lanes", choices=("separate", "fused"), default="separate", help=lanes)
    options.add_results(parser)
    return options.parsed(parser, arguments)


def asked(options: argparse.Namespace) -> tuple[Plan, Subject, Exhaust]:
    """What `study.run` is to run. Raises: AgrError for what does not go together, or data that cannot be used."""
    from agr import variation
    from agr.errors import SettingsError
    from search import custom_subject, grid, voices
    from search.exhaust import Exhaust
    from search.options import plan_of

    plan = plan_of(options, "search/run_grid.py")
    given = {name: getattr(options, name) for name in ("epochs", "lr", "gamma")}
    if options.trainable:
        ours = {"--vary": options.vary, "--no-variation": options.no_variation, "--recipe": options.recipe}
        for flag, value in (ours | {"--leave-out": options.leave_out}).items():
            if value:
                raise SettingsError(f"{flag}: of AGR's own models; expected it without --trainable")
        axes = custom_subject.grid_of(options.trainable, given | grid.axes(options.axis))
        points_of = functools.partial(custom_subject.points_of, options.trainable, axes)
        return plan, custom_subject.subject(options.trainable), Exhaust(points_of)
    others = grid.axes(options.axis)
    points = grid.grid(*grid.usual(given), seed=options.seed, model=options.model, others=others)
    strengths = None if options.no_variation else variation.parse(options.vary)
    dropout = None if "dropout" in others else voices.DROPOUT
    varied = functools.partial(voices.varied_points, points, strengths, dropout)
    subject = voices.subject(plan, voices.kind_with(others))
    if options.vary and not voices.can_vary(subject):
        raise SettingsError(f"--vary {' '.join(options.vary)}: these images cannot be varied; expected recipe voice")
    return plan, subject, Exhaust(varied)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 1 if no trial finished, 2 for wrong usage, 130 after Ctrl-C."""
    options = parse(arguments)
    with Clerk() as clerk:  # MLflow is imported there, torch here
        with quick_imports():
            from search import study
        return study.run(*asked(options), clerk)


if __name__ == "__main__":
    run(main)

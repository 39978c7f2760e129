"""Command-line options shared by the commands that use a model."""

from __future__ import annotations

import argparse
import math

from agr.common.credentials import harmless


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --model-uri, --tracking-uri and --json."""
    add_store_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def add_store_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --model-uri and --tracking-uri."""
    uris = "models:/agr/best (default), models:/agr/3, models:/agr/latest, runs:/..., or a folder"
    parser.add_argument("--model-uri", default="models:/agr/best", help=uris)
    store = "MLflow's store (default: MLFLOW_TRACKING_URI, AGR_STORE, else the nearest mlflow_store/ upwards)"
    parser.add_argument("--tracking-uri", type=harmless, help=store)


def add_abstain_argument(parser: argparse.ArgumentParser, help_text: str) -> None:
    """Add --abstain-below."""
    parser.add_argument("--abstain-below", type=_probability, default=0.0, metavar="P", help=help_text)


def _probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.5 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: expected 0.5 to 1")
    return value

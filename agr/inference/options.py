"""Command-line options that the commands with a model share."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

from agr.common.credentials import harmless
from agr.errors import AudioError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Loaded = NDArray[np.float32] | AudioError


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that `predict`, `evaluate` and `explain` share."""
    uris = "models:/agr/best (default), models:/agr/3, models:/agr/latest, runs:/..., or a folder"
    parser.add_argument("--model-uri", default="models:/agr/best", help=uris)
    store = "MLflow's store (default: MLFLOW_TRACKING_URI, else mlflow_store/)"
    parser.add_argument("--tracking-uri", type=harmless, help=store)
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def add_abstain_argument(parser: argparse.ArgumentParser, says: str) -> None:
    """Add the flag --abstain-below."""
    parser.add_argument("--abstain-below", type=_sureness, default=0.0, metavar="P", help=says)


def _sureness(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.5 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: expected 0.5 to 1")
    return value

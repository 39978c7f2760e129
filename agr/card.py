"""Print the model card of a registered model: its scores on each kind of clip, its known failures and its limits.

python -m agr.card --model-uri models:/agr/best   # in Markdown
"""

from __future__ import annotations

from collections.abc import Sequence

from agr.common.cli import ArgumentParser, run
from agr.common.credentials import harmless
from agr.errors import ModelError
from agr.inference import bundle
from agr.inference.model_card import FILE
from agr.registry import resolve


def main(arguments: Sequence[str] | None = None, prog: str = "python -m agr.card") -> int:
    """Run the command; returns the exit status."""
    parser = ArgumentParser(prog=prog, description="Print a model card in Markdown.")
    model = "a model of the store (default: models:/agr/best), or a folder"
    parser.add_argument("--model-uri", default="models:/agr/best", help=model)
    store = "the MLflow store (default: MLFLOW_TRACKING_URI, AGR_STORE, else the nearest mlflow_store/ upwards)"
    parser.add_argument("--tracking-uri", type=harmless, help=store)
    options = parser.parse_args(arguments)
    path = bundle.locate(resolve.resolve(options.model_uri, options.tracking_uri).folder) / FILE
    if not path.is_file():
        raise ModelError(f"{path}: no such file; expected the card of a version that a search registered")
    print(path.read_text(encoding="utf-8"), end="")
    return 0


if __name__ == "__main__":
    run(main)

"""Saves and loads models: weights as safetensors, everything else as JSON. Loading one runs no code from it.

save(folder, weights, card, seen)
bundle = load(folder)                             # a model ready to predict, its recipe and its card
"""

from __future__ import annotations

import hashlib
import json
import math
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor, nn

from agr.common.files import write_atomic
from agr.errors import ModelError, RecipeError
from agr.labels import CLASSES
from agr.recipes.base import Recipe
from agr.recipes.encode import from_dict
from agr.registry.uri import BUNDLE
from agr.training.model import build
from agr.training.settings import current_names

FORMAT = 2
WEIGHTS, CARD, SEEN = "weights.safetensors", "agr.json", "seen.json"
LARGEST = {CARD: 2**20, SEEN: 2**28, WEIGHTS: 2**32}  # bytes; a larger file is refused


@dataclass(frozen=True)
class Card:
    """What a model is and where its numbers come from.

    Attributes:
        model: the name of its architecture.
        recipe: how its images are made.
        settings: the trial's hyperparameters.
        data: name and digest of the data, and whether the voices are synthetic.
        split: name and digest of the split, whether it is leaky, and the digest of its test set.
        val, test: scores.
        environment: versions and device.
        temperature: what logits are divided by.
        calibration: how the temperature was fitted, and its effect.
        weights_sha256: hex digest of the weights' file.
        classes: what the model's outputs stand for, in their order.
        format: of the bundle's files.
    """

    model: str
    recipe: Recipe
    settings: Mapping[str, Any]
    data: Mapping[str, Any]
    split: Mapping[str, Any]
    val: Mapping[str, Any]
    test: Mapping[str, Any]
    environment: Mapping[str, Any]
    temperature: float = 1.0
    calibration: Mapping[str, Any] = field(default_factory=dict)
    weights_sha256: str = ""
    classes: tuple[str, ...] = CLASSES
    format: int = FORMAT


@dataclass(frozen=True)
class Seen:
    """What a model was trained or chosen on: `corpus/speaker` names, and `content_digest`s of recordings.

    `recordings` is empty for bundles that do not list them.
    """

    speakers: frozenset[str]
    recordings: frozenset[str]


@dataclass(frozen=True)
class Bundle:
    """A model on the CPU in evaluation mode, and its card."""

    model: nn.Module
    card: Card


def save(folder: Path, weights: Mapping[str, Tensor], card: Card, seen: Seen) -> None:
    """Write a bundle; the card last, with the weights' digest."""
    data = tensors_to_bytes({name: tensor.contiguous() for name, tensor in weights.items()})
    write_atomic(folder / WEIGHTS, data)
    write_atomic(folder / SEEN, json.dumps({key: sorted(value) for key, value in vars(seen).items()}).encode())
    values = asdict(card) | {"weights_sha256": hashlib.sha256(data).hexdigest()}
    write_atomic(folder / CARD, json.dumps(values, indent=1).encode())


def load(folder: Path) -> Bundle:
    """Read a bundle, or an MLflow model that contains one.

    Raises: ModelError if a file is missing or damaged, the weights have another digest than the card says, or this AGR
    does not know the recipe or the model.
    """
    folder = locate(folder)
    card = read_card(folder)
    try:
        data = _read(folder / WEIGHTS)
    except OSError as error:
        raise ModelError(f"{folder / WEIGHTS}: {error.strerror}; expected the model's weights") from error
    found = hashlib.sha256(data).hexdigest()
    if found != card.weights_sha256:
        raise ModelError(f"{folder / WEIGHTS}: sha256 {found:.12}...; expected {card.weights_sha256!s:.12}...")
    try:
        model = build(card.model, width=_width(card))
    except ModelError as error:
        raise ModelError(f"{folder / CARD}: {error}") from error
    try:
        model.load_state_dict(tensors_from_bytes(data))
    except (SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{folder / WEIGHTS}: {reason}; expected the weights of {card.model}") from error
    return Bundle(model.eval(), card)


def _width(card: Card) -> float:
    """The model's width; 1 for cards that predate the setting. Raises: ModelError if it is not a number."""
    width = card.settings.get("width", 1.0)
    if isinstance(width, bool) or not isinstance(width, int | float):
        raise ModelError(f"settings: width {width!r:.40}; expected a number")
    return width


def replace_test(card: Card, test: Mapping[str, Any]) -> Card:
    """The card with its test scores filled in."""
    return replace(card, test=test)


def locate(folder: Path) -> Path:
    """The bundle's own folder: the one inside an MLflow model, or this one. Raises: ModelError."""
    for candidate in (folder / BUNDLE, folder):
        if (candidate / CARD).is_file():
            return candidate
    raise ModelError(f"{folder}: no {CARD} in it; expected a model that AGR wrote")


def read_card(folder: Path) -> Card:
    """Read only the card. Raises: ModelError if it is damaged or of another format."""
    path = folder / CARD
    try:
        values = json.loads(_read(path))
        if values.get("format") != FORMAT:
            raise ModelError(f"{path}: format {values.get('format')!r}; expected format {FORMAT}")
        wrong = set(values) ^ {field.name for field in fields(Card)}
        if wrong:
            raise ModelError(f"{path}: keys {sorted(wrong)} are missing or unknown; expected those of format {FORMAT}")
        if tuple(values["classes"]) != CLASSES:
            raise ModelError(f"{path}: classes {values['classes']}; expected {list(CLASSES)}")
        _check_kinds(path, values)
        values["settings"] = current_names(values["settings"])
        return Card(**(values | {"recipe": from_dict(values["recipe"]), "classes": CLASSES}))
    except RecipeError as error:
        raise ModelError(f"{path}: {error}") from error
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path}: {error}; expected a model's card in JSON") from error


def read_seen(folder: Path) -> Seen:
    """What the model was trained or chosen on. Raises: ModelError."""
    path = locate(folder) / SEEN
    try:
        values = json.loads(_read(path))
        return Seen(frozenset(values["speakers"]), frozenset(values.get("recordings", ())))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path}: {error}; expected the speakers the model has met") from error


def _read(path: Path) -> bytes:
    """Read a file of a bundle. Raises: OSError; ModelError if it is not a plain file or larger than AGR writes any."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST[path.name]:
        what = f"{found.st_size} bytes" if stat.S_ISREG(found.st_mode) else "no plain file"
        raise ModelError(f"{path}: {what}; expected a file of at most {LARGEST[path.name]} bytes")
    return path.read_bytes()


def _check_kinds(path: Path, values: Mapping[str, Any]) -> None:
    """Check the types of a card's values. Raises: ModelError."""
    for name in ("settings", "data", "split", "val", "test", "environment", "calibration"):
        if not isinstance(values[name], dict):
            raise ModelError(f"{path}: {name} is {values[name]!r:.40}; expected an object")
    warmth = values["temperature"]
    if not isinstance(warmth, int | float) or not 0 < warmth < math.inf:
        raise ModelError(f"{path}: temperature {warmth!r:.40}; expected a number above 0")

"""Save and load models: weights as safetensors, everything else as JSON. Loading one runs no code from it.

save(folder, weights, info, seen)
bundle = load(folder)                             # a model ready to predict, its recipe and its scores
"""

from __future__ import annotations

import copy
import functools
import hashlib
import itertools
import json
import math
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from agr.common.files import write_atomic
from agr.errors import ModelError, RecipeError
from agr.labels import CLASSES
from agr.metrics.scoring import CHANCE
from agr.recipes.base import Recipe
from agr.recipes.encode import from_dict
from agr.registry.uri import BUNDLE
from agr.training.model import build, check_reads

FORMAT = 2
WEIGHTS, INFO, SEEN = "weights.safetensors", "agr.json", "seen.json"
LARGEST = {INFO: 2**20, SEEN: 2**28, WEIGHTS: 2**32}  # bytes; a larger file is refused


@dataclass(frozen=True)
class BundleInfo:
    """What a model is and where its numbers come from: the contents of `agr.json`."""

    model: str  # the name of its architecture
    recipe: Recipe
    settings: Mapping[str, Any]  # hyperparameters
    data: Mapping[str, Any]  # name and digest, and whether the voices are synthetic
    split: Mapping[str, Any]  # name and digest, whether it is leaky, and the digest of its test set
    val: Mapping[str, Any]  # scores
    test: Mapping[str, Any]
    environment: Mapping[str, Any]  # versions and device
    temperature: float = 1.0  # logits are divided by it
    calibration: Mapping[str, Any] = field(default_factory=dict)  # how the temperature was fitted, and its effect
    weights_sha256: str = ""  # hex digest of the weights file
    classes: tuple[str, ...] = CLASSES  # of the model's outputs, in their order
    format: int = FORMAT  # version of the bundle's files

    @property
    def never_beat_chance(self) -> bool:
        """Whether the 95 % interval of its test reaches the balanced accuracy of a coin."""
        interval = self.test.get("balanced_accuracy_ci95")
        return isinstance(interval, Sequence) and len(interval) == 2 and interval[0] <= CHANCE


@dataclass(frozen=True)
class Seen:
    """What a model was trained or chosen on. `recordings` is empty for bundles that do not list them."""

    speakers: frozenset[str]  # `corpus/speaker`
    recordings: frozenset[str]  # each a `content_digest`

    def people(self, speakers: Iterable[str], recordings: Iterable[str]) -> frozenset[str]:
        """Those of these speakers, one for each recording, who are known by name or by a recording."""
        each = zip(speakers, recordings, strict=True)
        return frozenset(who for who, what in each if who in self.speakers or what in self.recordings)

    def met(self, speakers: Iterable[str], recordings: Iterable[str]) -> frozenset[str]:
        """Those of these speakers that are known, or, if there are none, of these recordings."""
        return self.speakers.intersection(speakers) or self.recordings.intersection(recordings)


@dataclass(frozen=True)
class Bundle:
    """A model on the CPU in evaluation mode, and what is known about it."""

    model: nn.Module
    info: BundleInfo

    @functools.cached_property
    def folded(self) -> nn.Module:
        """For prediction, in less time: a copy with batch norm folded into the convolutions; the model if it has none.

        Logits agree up to rounding.
        """
        if not any(isinstance(each, nn.BatchNorm2d) for each in self.model.modules()):
            return self.model
        model = copy.deepcopy(self.model).eval()
        for stack in [each for each in model.modules() if isinstance(each, nn.Sequential)]:
            for at, (before, norm) in enumerate(itertools.pairwise(list(stack))):
                if isinstance(before, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    stack[at], stack[at + 1] = fuse_conv_bn_eval(before, norm), nn.Identity()
                    stack[at + 2] = nn.ReLU(inplace=True)
        return model


def save(folder: Path, weights: Mapping[str, Tensor], info: BundleInfo, seen: Seen) -> None:
    """Write a bundle; `agr.json` last, with the digest of the weights."""
    data = tensors_to_bytes({name: tensor.contiguous() for name, tensor in weights.items()})
    write_atomic(folder / WEIGHTS, data)
    write_atomic(folder / SEEN, json.dumps({key: sorted(value) for key, value in vars(seen).items()}).encode())
    values = asdict(info) | {"weights_sha256": hashlib.sha256(data).hexdigest()}
    write_atomic(folder / INFO, json.dumps(values, indent=1).encode())


def load(folder: Path) -> Bundle:
    """Read a bundle, or an MLflow model that contains one.

    Raises: ModelError if a file is missing or damaged, the weights do not have the digest that was saved, or this
    version of AGR does not know the recipe or the model.
    """
    folder = locate(folder)
    info = read_info(folder)
    try:
        data = _read(folder / WEIGHTS)
    except OSError as error:
        raise ModelError(f"{folder / WEIGHTS}: {error.strerror}; expected the model's weights") from error
    found = hashlib.sha256(data).hexdigest()
    if found != info.weights_sha256:
        raise ModelError(f"{folder / WEIGHTS}: sha256 {found:.12}...; expected {info.weights_sha256!s:.12}...")
    try:
        model = build(info.model, width=_width(info))
        check_reads(info.model, info.recipe)
    except ModelError as error:
        raise ModelError(f"{folder / INFO}: {error}") from error
    try:
        model.load_state_dict(tensors_from_bytes(data))
    except (SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{folder / WEIGHTS}: {reason}; expected the weights of {info.model}") from error
    return Bundle(model.eval(), info)


def _width(info: BundleInfo) -> float:
    """The model's width; 1 for bundles older than the setting. Raises: ModelError if it is not a number."""
    width = info.settings.get("width", 1.0)
    if isinstance(width, bool) or not isinstance(width, int | float):
        raise ModelError(f"settings: width {width!r:.40}; expected a number")
    return width


def locate(folder: Path) -> Path:
    """The folder of the bundle's files: inside an MLflow model, or `folder` itself. Raises: ModelError."""
    for candidate in (folder / BUNDLE, folder):
        if (candidate / INFO).is_file():
            return candidate
    raise ModelError(f"{folder}: no {INFO} in it; expected a model that AGR wrote")


def read_info(folder: Path) -> BundleInfo:
    """Read `agr.json` only. Raises: ModelError if it is missing or damaged, or has another format."""
    path = locate(folder) / INFO
    try:
        values = json.loads(_read(path))
        if values.get("format") != FORMAT:
            raise ModelError(f"{path}: format {values.get('format')!r}; expected format {FORMAT}")
        wrong = set(values) ^ {field.name for field in fields(BundleInfo)}
        if wrong:
            raise ModelError(f"{path}: keys {sorted(wrong)} are missing or unknown; expected those of format {FORMAT}")
        if tuple(values["classes"]) != CLASSES:
            raise ModelError(f"{path}: classes {values['classes']}; expected {list(CLASSES)}")
        for name in ("settings", "data", "split", "val", "test", "environment", "calibration"):
            if not isinstance(values[name], dict):
                raise ModelError(f"{path}: {name} is {values[name]!r:.40}; expected an object")
        temperature = values["temperature"]
        if not isinstance(temperature, int | float) or not 0 < temperature < math.inf:
            raise ModelError(f"{path}: temperature {temperature!r:.40}; expected a number above 0")
        return BundleInfo(**(values | {"recipe": from_dict(values["recipe"]), "classes": CLASSES}))
    except RecipeError as error:
        raise ModelError(f"{path}: {error}") from error
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path}: {error}; expected a description of a model in JSON") from error


def read_seen(folder: Path) -> Seen:
    """What the model was trained or chosen on. Raises: ModelError."""
    path = locate(folder) / SEEN
    try:
        values = json.loads(_read(path))
        return Seen(frozenset(values["speakers"]), frozenset(values.get("recordings", ())))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path}: {error}; expected the speakers that the model was trained on") from error


def _read(path: Path) -> bytes:
    """Read a file of a bundle. Raises: OSError; ModelError if it is not a regular file or too large."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST[path.name]:
        what = f"{found.st_size} bytes" if stat.S_ISREG(found.st_mode) else "not a regular file"
        raise ModelError(f"{path}: {what}; expected a file of at most {LARGEST[path.name]} bytes")
    return path.read_bytes()

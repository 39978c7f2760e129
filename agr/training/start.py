"""Weights of a finished model from which trials begin, instead of random ones.

start = identify(folder)                          # "champion:0123456789abcdef", a setting of every trial
load_start(model, start)                          # in the process that trains
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from torch import nn

from agr.common.places import champion_folder
from agr.errors import SettingsError

NAME, WEIGHTS = "champion", "weights.safetensors"


def identify(folder: Path) -> str:
    """The setting `start` that stands for the weights in a bundle's folder. Raises: SettingsError without them."""
    return _named(_read(folder))


def load_start(model: nn.Module, start: str) -> None:
    """Give a model the weights that `start` stands for; nothing for "".

    Raises: SettingsError if this machine has no champion or another one, or if it is of another shape.
    """
    if not start:
        return
    folder = champion_folder()
    data = b"" if folder is None else _read(folder)
    if folder is None or (found := _named(data)) != start:
        what = "no champion" if folder is None else found
        raise SettingsError(f"--start champion: found {what} on this machine; expected {start}")
    try:
        model.load_state_dict(tensors_from_bytes(data))
    except (SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise SettingsError(f"{folder / WEIGHTS}: {reason:.200}; expected the shape of this model") from error


def _named(data: bytes) -> str:
    return f"{NAME}:{hashlib.sha256(data).hexdigest()[:16]}"


def _read(folder: Path) -> bytes:
    try:
        return (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise SettingsError(f"{folder / WEIGHTS}: {error.strerror}; expected the weights to start from") from error

"""Which device trials train on."""

from __future__ import annotations

import torch

FUSED = "-fused"  # ends the name of a device on which lanes were fused: its results differ in the last bits


def choose_device(cuda: bool = True, mps: bool = True) -> str:
    """This machine's: CUDA, then MPS, then CPU, less what was switched off."""
    if cuda and torch.cuda.is_available():
        return "cuda"
    return "mps" if mps and torch.backends.mps.is_available() else "cpu"


def device_name(device: str, lanes: str) -> str:
    """What stands in tags and lineages: of fused lanes `cuda-fused`, since their results differ in the last bits."""
    return device + FUSED if lanes == "fused" else device


def torch_device(name: str) -> torch.device:
    """The device behind such a name."""
    return torch.device(name.removesuffix(FUSED))

"""The device that trials train on."""

from __future__ import annotations

import torch

FUSED = "-fused"  # suffix of the device name if models train as one batch: their results differ in the last bits


def choose_device(cuda: bool = True, mps: bool = True) -> str:
    """The best device of this machine that is allowed: CUDA, then MPS, then CPU."""
    if cuda and torch.cuda.is_available():
        return "cuda"
    return "mps" if mps and torch.backends.mps.is_available() else "cpu"


def device_name(device: str, lanes: str) -> str:
    """The device as tags and lineages name it, such as `cuda` or `cuda-fused`."""
    return device + FUSED if lanes == "fused" else device


def prepare_device(name: str) -> torch.device:
    """The torch device of such a name; on a CPU, limits torch to one thread."""
    device = torch.device(name.removesuffix(FUSED))
    if device.type == "cpu":
        torch.set_num_threads(1)
    return device

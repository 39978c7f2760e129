"""Which device trials train on."""

from __future__ import annotations

import torch


def choose_device(cuda: bool = True, mps: bool = True) -> str:
    """This machine's: CUDA, then MPS, then CPU, less what was switched off."""
    if cuda and torch.cuda.is_available():
        return "cuda"
    return "mps" if mps and torch.backends.mps.is_available() else "cpu"

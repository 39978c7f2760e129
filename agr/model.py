"""The models: pictures in, logits out.

logits = build("cnn", seed=0)(to_input(torch.from_numpy(images)))

cnn      the study's: conv 3 -> 32, ReLU, pool, conv 32 -> 64, ReLU, pool, linear to 128, ReLU, linear to 2:
         609,602 parameters
pooled   three convolutions with group norm, then mean and maximum over time, so that it does not matter when a
         sound comes: 62,882 parameters
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from agr.corpus import CLASSES
from agr.errors import ModelError
from agr.recipe import CHANNELS, COEFFICIENTS, FRAMES

MODELS = ("cnn", "pooled")


class Cnn(nn.Module):
    """3x3 kernels with padding 1, 2x2 max-pooling; input (batch, 3, 12, 98), output (batch, 2) logits."""

    def __init__(self) -> None:
        """Weights as torch initialises them, from its global generator."""
        super().__init__()
        self.conv1 = nn.Conv2d(CHANNELS, 32, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, kernel_size=3, padding=1)
        self.hidden = nn.Linear(64 * (COEFFICIENTS // 4) * (FRAMES // 4), 128)
        self.out = nn.Linear(128, len(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        """Logits, (batch, 2), in the order of CLASSES."""
        # ReLU after the pool gives the same bits as before it, forward and backward, for a quarter of the work.
        x = functional.relu(functional.max_pool2d(self.conv1(x), 2))  # (batch, 32, 6, 49)
        x = functional.relu(functional.max_pool2d(self.conv2(x), 2))  # (batch, 64, 3, 24)
        x = functional.relu(self.hidden(x.flatten(1)))  # (batch, 4608) -> (batch, 128)
        logits: Tensor = self.out(x)
        return logits


class Pooled(nn.Module):
    """As `Cnn` in what goes in and comes out; all rows are read together, time is pooled (Wu and He, 2018)."""

    def __init__(self) -> None:
        """Weights as torch initialises them, from its global generator."""
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(CHANNELS, 32, kernel_size=3, padding=1), nn.GroupNorm(4, 32)
        self.conv2, self.norm2 = nn.Conv2d(32, 48, kernel_size=3, padding=1), nn.GroupNorm(4, 48)
        self.conv3, self.norm3 = nn.Conv2d(48, 48, (COEFFICIENTS // 2, 3), padding=(0, 1)), nn.GroupNorm(4, 48)
        self.hidden = nn.Linear(2 * 48, 64)
        self.out = nn.Linear(64, len(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        """Logits, (batch, 2), in the order of CLASSES."""
        x = functional.relu(functional.max_pool2d(self.norm1(self.conv1(x)), (1, 2)))  # (batch, 32, 12, 49)
        x = functional.relu(functional.max_pool2d(self.norm2(self.conv2(x)), (2, 2)))  # (batch, 48, 6, 24)
        x = functional.relu(self.norm3(self.conv3(x))).squeeze(2)  # (batch, 48, 24)
        x = torch.cat([x.mean(dim=2), x.amax(dim=2)], dim=1)  # (batch, 96)
        logits: Tensor = self.out(functional.relu(self.hidden(x)))
        return logits


def build(name: str, seed: int | None = None) -> nn.Module:
    """A model by name, its weights drawn from `seed`; torch's global generator is left as it was.

    Raises: ModelError for an unknown name.
    """
    if name not in MODELS:
        raise ModelError(f"model {name!r}: unknown; expected one of {', '.join(MODELS)}")
    with torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        model: nn.Module = {"cnn": Cnn, "pooled": Pooled}[name]()
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def to_input(images: Tensor) -> Tensor:
    """Bytes as stored, (batch, 12, 98, 3) uint8, to (batch, 3, 12, 98) float32 in -1..1, laid out channels last."""
    return images.permute(0, 3, 1, 2).to(torch.float32).div_(127.5).sub_(1.0)

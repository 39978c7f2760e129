"""The models: pictures in, logits out.

logits = build("cnn", seed=0)(to_input(torch.from_numpy(images)))

cnn      the study's: conv 3 -> 32, ReLU, pool, conv 32 -> 64, ReLU, pool, linear to 128, ReLU, linear to 2:
         609,602 parameters
pooled   three convolutions with group norm, then mean and maximum over time, so that it does not matter when a
         sound comes: 62,882 parameters

`width` multiplies the channels and hidden units of either: pooled has 4,202 parameters at 0.25 and 248,642 at 2, cnn
38,354 at 0.25 and 975,134 at 1.28; at 1.3 they exceed MOST.
Dropout (Srivastava et al., JMLR 2014) stands before the last layer.
"""

from __future__ import annotations

import copy
import time
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from agr.corpus import CLASSES
from agr.errors import ModelError
from agr.recipe import CHANNELS, COEFFICIENTS, FRAMES

MODELS = ("cnn", "pooled")
NARROWEST, WIDEST = 0.25, 2.0  # of width
MOST = 1_000_000  # parameters
GROUPS = 4  # of channels that group norm takes together; channels and hidden units come in multiples of it
LATENCY_SECONDS = 0.05  # for how long `latency_ms` measures


class Cnn(nn.Module):
    """3x3 kernels with padding 1, 2x2 max-pooling; input (batch, 3, 12, 98), output (batch, 2) logits.

    The input may come from `feed` or from `to_input`.
    """

    def __init__(self, width: float = 1.0, dropout: float = 0.0) -> None:
        """Weights as torch initialises them, from its global generator."""
        super().__init__()
        first, second, hidden = (scaled(count, width) for count in (32, 64, 128))
        self.conv1 = nn.Conv2d(CHANNELS, first, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(first, second, kernel_size=3, padding=1)
        self.hidden = nn.Linear(second * (COEFFICIENTS // 4) * (FRAMES // 4), hidden)
        self.out = nn.Linear(hidden, len(CLASSES))
        self.dropout = dropout

    def forward(self, x: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """Logits, (batch, 2), in the order of CLASSES; shapes in comments are those of width 1. noise: see `thin`."""
        x = halved(self.conv1(x))  # (batch, 32, 6, 49)
        x = halved(self.conv2(x))  # (batch, 64, 3, 24)
        x = functional.relu(self.hidden(strided(x).flatten(1)))  # (batch, 4608) -> (batch, 128)
        logits: Tensor = self.out(thin(x, self.dropout, noise))
        return logits


class Pooled(nn.Module):
    """As `Cnn` in what goes in and comes out; all rows are read together, time is pooled (Wu and He, 2018)."""

    def __init__(self, width: float = 1.0, dropout: float = 0.0) -> None:
        """Weights as torch initialises them, from its global generator."""
        super().__init__()
        first, second, hidden = (scaled(count, width) for count in (32, 48, 64))
        self.conv1, self.norm1 = nn.Conv2d(CHANNELS, first, kernel_size=3, padding=1), nn.GroupNorm(GROUPS, first)
        self.conv2, self.norm2 = nn.Conv2d(first, second, kernel_size=3, padding=1), nn.GroupNorm(GROUPS, second)
        self.conv3 = nn.Conv2d(second, second, (COEFFICIENTS // 2, 3), padding=(0, 1))
        self.norm3 = nn.GroupNorm(GROUPS, second)
        self.hidden = nn.Linear(2 * second, hidden)
        self.out = nn.Linear(hidden, len(CLASSES))
        self.dropout = dropout

    def forward(self, x: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """Logits, (batch, 2), in the order of CLASSES; shapes in comments are those of width 1. noise: see `thin`."""
        x = functional.relu(functional.max_pool2d(self.norm1(self.conv1(x)), (1, 2)))  # (batch, 32, 12, 49)
        x = functional.relu(functional.max_pool2d(self.norm2(self.conv2(x)), (2, 2)))  # (batch, 48, 6, 24)
        x = functional.relu(self.norm3(self.conv3(x))).squeeze(2)  # (batch, 48, 24)
        x = torch.cat([x.mean(dim=2), x.amax(dim=2)], dim=1)  # (batch, 96)
        x = functional.relu(self.hidden(x))  # (batch, 64)
        logits: Tensor = self.out(thin(x, self.dropout, noise))
        return logits


def halved(x: Tensor) -> Tensor:
    """The study's ReLU and 2x2 max-pooling of (batch, channels, rows, frames), in whatever layout.

    ReLU after the pool gives the same bits as before it, forward and backward, for a quarter of the work.
    """
    return functional.relu(functional.max_pool2d(x, 2, 2))  # in oneDNN's layout the stride must be given


def scaled(count: int, width: float) -> int:
    """Channels or hidden units at a width: the nearest multiple of GROUPS, at least one."""
    return GROUPS * max(1, round(count * width / GROUPS))


def thin(x: Tensor, dropout: float, noise: torch.Generator | None) -> Tensor:
    """Features (..., batch, n), each zeroed with probability `dropout` and else scaled by 1 / (1 - dropout).

    noise: on the CPU, so that every device draws the same mask (batch, n); without it, as when a model answers,
    nothing is zeroed.
    """
    if noise is None or dropout == 0:
        return x
    kept = torch.rand(x.shape[-2:], generator=noise) >= dropout
    return x * (kept / (1 - dropout)).to(x.device)


def build(name: str, seed: int | None = None, width: float = 1.0, dropout: float = 0.0) -> nn.Module:
    """A model by name, its weights drawn from `seed`; torch's global generator is left as it was.

    width: NARROWEST to WIDEST, multiplies channels and hidden units, see `scaled`. dropout: 0 to below 1, see `thin`.
    Raises: ModelError for an unknown name, a width out of range, or a model of more than MOST parameters.
    """
    check_size(name, width)
    with torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        model: nn.Module = {"cnn": Cnn, "pooled": Pooled}[name](width, dropout)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def check_size(name: str, width: float) -> None:
    """Raises: ModelError where `build` does."""
    if name not in MODELS:
        raise ModelError(f"model {name!r}: unknown; expected one of {', '.join(MODELS)}")
    if not NARROWEST <= width <= WIDEST:
        raise ModelError(f"width {width}: expected {NARROWEST} to {WIDEST}")
    if width > 1 and (count := parameters(name, width)) > MOST:
        raise ModelError(f"width {width}: {count:,} parameters of model {name}; expected at most {MOST:,}")


@lru_cache(maxsize=1024)
def parameters(name: str, width: float) -> int:
    """How many numbers training finds, of a model in MODELS."""
    with torch.random.fork_rng(devices=[]):
        model: nn.Module = {"cnn": Cnn, "pooled": Pooled}[name](width)
    return sum(parameter.numel() for parameter in model.parameters())


def latency_ms(model: nn.Module) -> float:
    """Milliseconds in which a model answers one picture on one CPU thread: the shortest of all in LATENCY_SECONDS.

    The model is left as it was, wherever it is.
    """
    one = copy.deepcopy(model).cpu().eval()
    picture = to_input(torch.zeros(1, COEFFICIENTS, FRAMES, CHANNELS, dtype=torch.uint8))
    threads, times = torch.get_num_threads(), list[float]()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            end = time.perf_counter() + LATENCY_SECONDS
            while not times or time.perf_counter() < end:
                started = time.perf_counter()
                one(picture)
                times.append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
    return 1000 * min(times)


def feed(model: nn.Module, images: Tensor) -> Tensor:
    """What `to_input` makes of images, in the layout in which `model` reads it fastest."""
    x = to_input(images)
    return blocked(x) if isinstance(model, Cnn) else x


def blocked(x: Tensor) -> Tensor:
    """A tensor in the layout that oneDNN computes in, on a CPU that has it; elsewhere the tensor itself.

    Convolutions and pools then pass through memory less often: a training step of `Cnn` takes a tenth less, a
    validation a fifth. Logits and gradients agree with those of other layouts to rounding.
    """
    cpu = x.device.type == "cpu" and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return x.to_mkldnn() if cpu else x


def strided(x: Tensor) -> Tensor:
    """The same tensor as other operations read it, whatever `blocked` made of it."""
    return x.to_dense() if x.is_mkldnn else x


def to_input(images: Tensor) -> Tensor:
    """Bytes as stored, (batch, 12, 98, 3) uint8, to (batch, 3, 12, 98) float32 in -1..1, laid out channels last."""
    return images.permute(0, 3, 1, 2).to(torch.float32).div_(127.5).sub_(1.0)

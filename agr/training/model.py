"""The models: voice images in, logits out.

`width` multiplies the channels and hidden units: cnn has 38,354 parameters at 0.25, 609,602 at 1 and 975,134 at 1.28;
from 1.3 on it would have more than MAX_PARAMETERS; pooled has 4,202 parameters at 0.25, 62,882 at 1 and 248,642 at 2;
towers has 17,010 at 0.25, 265,410 at 1 and 595,490 at 1.5. cnn and pooled read images of 12 rows, towers those of
`voice112`.
Dropout (Srivastava et al., JMLR 2014) comes before the last layer.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from agr.data.shards import Clips
from agr.data.splits import Indices
from agr.errors import ModelError
from agr.labels import CLASSES
from agr.recipes.base import CHANNELS, COEFFICIENTS, FRAMES, IMAGE_SHAPE, Recipe
from agr.recipes.periodicity import LAGS
from agr.recipes.voice_features import BANDS, ROWS

EVALUATION_BATCH = 64
MIN_WIDTH, MAX_WIDTH = 0.25, 2.0
MAX_PARAMETERS = 1_000_000
GROUPS = 4  # in group norm; all numbers of channels and hidden units are multiples of it
LATENCY_SECONDS = 0.05  # how long `latency_ms` measures


class Cnn(nn.Module):
    """The paper's model: two convolutions of 3x3 with 2x2 max-pooling, and two linear layers.

    The input is (batch, 3, 12, 98), float32, from `model_input` or `to_input`; the output (batch, 2) logits.
    """

    image_shape = IMAGE_SHAPE

    def __init__(self, width: float = 1.0, dropout: float = 0.0) -> None:
        """Initialise the weights as torch does, from its global generator; `width` and `dropout` as in `build`."""
        super().__init__()
        first, second, hidden = (scaled(count, width) for count in (32, 64, 128))
        self.conv1 = nn.Conv2d(CHANNELS, first, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(first, second, kernel_size=3, padding=1)
        self.hidden = nn.Linear(second * (COEFFICIENTS // 4) * (FRAMES // 4), hidden)
        self.out = nn.Linear(hidden, len(CLASSES))
        self.dropout = dropout

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Logits, (batch, 2), in the order of CLASSES; the shapes in comments are those of width 1."""
        x = relu_pool(self.conv1(x))  # (batch, 32, 6, 49)
        x = relu_pool(self.conv2(x))  # (batch, 64, 3, 24)
        x = functional.relu(self.hidden(from_onednn(x).flatten(1)))  # (batch, 4608) -> (batch, 128)
        logits: Tensor = self.out(apply_dropout(x, self.dropout, generator))
        return logits


class Pooled(nn.Module):
    """Three convolutions with group norm (Wu and He, ECCV 2018), and two linear layers after pooling over time.

    The position of a sound in time does not matter. Input and output are as in `Cnn`.
    """

    image_shape = IMAGE_SHAPE

    def __init__(self, width: float = 1.0, dropout: float = 0.0) -> None:
        """Initialise the weights as torch does, from its global generator; `width` and `dropout` as in `build`."""
        super().__init__()
        first, second, hidden = (scaled(count, width) for count in (32, 48, 64))
        self.conv1, self.norm1 = nn.Conv2d(CHANNELS, first, kernel_size=3, padding=1), nn.GroupNorm(GROUPS, first)
        self.conv2, self.norm2 = nn.Conv2d(first, second, kernel_size=3, padding=1), nn.GroupNorm(GROUPS, second)
        self.conv3 = nn.Conv2d(second, second, (COEFFICIENTS // 2, 3), padding=(0, 1))
        self.norm3 = nn.GroupNorm(GROUPS, second)
        self.hidden = nn.Linear(2 * second, hidden)
        self.out = nn.Linear(hidden, len(CLASSES))
        self.dropout = dropout

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Logits, (batch, 2), in the order of CLASSES; the shapes in comments are those of width 1."""
        x = functional.relu(functional.max_pool2d(self.norm1(self.conv1(x)), (1, 2)))  # (batch, 32, 12, 49)
        x = functional.relu(functional.max_pool2d(self.norm2(self.conv2(x)), (2, 2)))  # (batch, 48, 6, 24)
        x = functional.relu(self.norm3(self.conv3(x))).squeeze(2)  # (batch, 48, 24)
        x = torch.cat([x.mean(dim=2), x.amax(dim=2)], dim=1)  # (batch, 96)
        x = functional.relu(self.hidden(x))  # (batch, 64)
        logits: Tensor = self.out(apply_dropout(x, self.dropout, generator))
        return logits


class Towers(nn.Module):
    """Two stacks of convolutions with batch norm, one over the mel bands and one over the lags, joined over time.

    Each stack ends in one row, so that a stack learns shapes over all frequencies; the position of a sound in time does
    not matter. Batch norm is by Ioffe and Szegedy (ICML 2015). The input is (batch, 1, 112, 98), float32, from
    `to_input`; the output (batch, 2) logits.
    """

    image_shape = (ROWS, FRAMES, 1)

    def __init__(self, width: float = 1.0, dropout: float = 0.0) -> None:
        """Initialise the weights as torch does, from its global generator; `width` and `dropout` as in `build`."""
        super().__init__()
        first, second, third, hidden = (scaled(count, width) for count in (16, 32, 64, 128))
        self.bands = tower(BANDS, first, second, third)
        self.lags = tower(LAGS, first, second, third)
        self.joined = nn.Sequential(*convolution(2 * third, 2 * third, (1, 3), padding=(0, 1)))
        self.hidden = nn.Linear(4 * third, hidden)
        self.out = nn.Linear(hidden, len(CLASSES))
        self.dropout = dropout

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Logits, (batch, 2), in the order of CLASSES; the shapes in comments are those of width 1."""
        x = torch.cat([self.bands(x[:, :, :BANDS]), self.lags(x[:, :, BANDS:])], dim=1)  # (batch, 128, 1, 25)
        x = self.joined(x).squeeze(2)  # (batch, 128, 25)
        x = torch.cat([x.mean(dim=2), x.amax(dim=2)], dim=1)  # (batch, 256)
        x = functional.relu(self.hidden(x))  # (batch, 128)
        logits: Tensor = self.out(apply_dropout(x, self.dropout, generator))
        return logits


def convolution(before: int, after: int, kernel: int | tuple[int, int], **options: Any) -> Iterator[nn.Module]:
    """A convolution, batch norm and ReLU."""
    yield from (nn.Conv2d(before, after, kernel, **options), nn.BatchNorm2d(after), nn.ReLU())


def tower(rows: int, first: int, second: int, third: int) -> nn.Sequential:
    """(batch, 1, rows, frames) -> (batch, third, 1, frames / 4); `rows` is a multiple of 4."""
    return nn.Sequential(
        *convolution(1, first, 5, stride=2, padding=2),
        *convolution(first, second, 3, stride=2, padding=1),
        *convolution(second, third, (rows // 4, 3), padding=(0, 1)),
    )


def relu_pool(x: Tensor) -> Tensor:
    """Apply ReLU and 2x2 max-pooling: (batch, channels, rows, frames) -> (batch, channels, rows // 2, frames // 2).

    ReLU after the pooling gives the same bits as before it, forward and backward, for a quarter of the work.
    """
    return functional.relu(functional.max_pool2d(x, 2, 2))  # in oneDNN's layout the stride must be given


Model = Cnn | Pooled | Towers
MODELS: dict[str, type[Model]] = {"cnn": Cnn, "pooled": Pooled, "towers": Towers}


def default_model(recipe: Recipe) -> str:
    """The first model that reads the images of a recipe."""
    return next(name for name, model in MODELS.items() if model.image_shape == recipe.image_shape)


def check_reads(name: str, recipe: Recipe) -> None:
    """Raises: ModelError if a known model does not read the images of a recipe."""
    if (read := MODELS[name].image_shape) != recipe.image_shape:
        some = ", ".join(known for known, model in MODELS.items() if model.image_shape == recipe.image_shape)
        shapes = ("x".join(map(str, shape)) for shape in (read, recipe.image_shape))
        raise ModelError(
            f"model {name}: reads {next(shapes)}; recipe {recipe.name} makes {next(shapes)}; expected {some}"
        )


def scaled(count: int, width: float) -> int:
    """`count` channels or hidden units times `width`, rounded to a multiple of GROUPS, at least GROUPS."""
    return GROUPS * max(1, round(count * width / GROUPS))


def apply_dropout(x: Tensor, dropout: float, generator: torch.Generator | None) -> Tensor:
    """Zero features, (..., batch, n), with probability `dropout`, and scale the others by 1 / (1 - dropout).

    The mask, (batch, n), is drawn on the CPU, so that it is the same on every device. Without a generator, as in
    prediction, nothing is zeroed.
    """
    if generator is None or dropout == 0:
        return x
    kept = torch.rand(x.shape[-2:], generator=generator) >= dropout
    return x * (kept / (1 - dropout)).to(x.device)


def build(name: str, seed: int | None = None, width: float = 1.0, dropout: float = 0.0) -> Model:
    """Make a model, without changing the state of torch's global generator. Raises: ModelError as `check_size`.

    `seed` determines the initial weights; with None they come from torch's global generator. `dropout`, 0 to below 1,
    is the probability of dropping a feature before the last layer.
    """
    check_size(name, width)
    with torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        model = MODELS[name](width, dropout)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def check_size(name: str, width: float) -> None:
    """Raises: ModelError if the name is unknown, the width out of range, or the model larger than MAX_PARAMETERS."""
    if not isinstance(name, str) or name not in MODELS:  # a model's description is read from a file
        raise ModelError(f"model {name!r}: unknown; expected one of {', '.join(MODELS)}")
    if not MIN_WIDTH <= width <= MAX_WIDTH:
        raise ModelError(f"width {width}: expected {MIN_WIDTH} to {MAX_WIDTH}")
    if width > 1 and (count := count_parameters(name, width)) > MAX_PARAMETERS:
        raise ModelError(f"width {width}: {count:,} parameters of model {name}; expected at most {MAX_PARAMETERS:,}")


@lru_cache(maxsize=1024)
def count_parameters(name: str, width: float) -> int:
    """The number of parameters of a model at a width."""
    with torch.random.fork_rng(devices=[]):
        model = MODELS[name](width)
    return sum(parameter.numel() for parameter in model.parameters())


def latency_ms(model: nn.Module, image_shape: tuple[int, int, int] = IMAGE_SHAPE) -> float:
    """Measure a copy of a model on one CPU thread for LATENCY_SECONDS; the shortest time for one image, in ms."""
    one = copy.deepcopy(model).cpu().eval()
    image = to_input(torch.zeros(1, *image_shape, dtype=torch.uint8))
    threads, times = torch.get_num_threads(), list[float]()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            end = time.perf_counter() + LATENCY_SECONDS
            while not times or time.perf_counter() < end:
                started = time.perf_counter()
                one(image)
                times.append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
    return 1000 * min(times)


def model_input(model: nn.Module, images: Tensor) -> Tensor:
    """Convert images as `to_input` does, in the memory layout that `model` reads fastest."""
    x = to_input(images)
    return to_onednn(x) if isinstance(model, Cnn) else x


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """What a training step's forward pass runs in: with bf16, convolutions and products are rounded to bfloat16."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def to_onednn(x: Tensor) -> Tensor:
    """Convert a tensor to oneDNN's memory layout on a CPU that has oneDNN; elsewhere and in autocast leave it as it is.

    Without conversions between layers, a training step of `Cnn` takes a tenth less and a validation a fifth less time.
    Logits and gradients agree with those of other layouts up to rounding.
    """
    if x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return x
    return x.to_mkldnn() if torch.backends.mkldnn.is_available() else x  # type: ignore[no-untyped-call]


def from_onednn(x: Tensor) -> Tensor:
    """Undo `to_onednn`, for operations outside oneDNN."""
    return x.to_dense() if x.is_mkldnn else x


def to_input(images: Tensor) -> Tensor:
    """Convert images, (batch, rows, frames, channels), uint8, to (batch, channels, rows, frames), float32, -1..1."""
    return images.permute(0, 3, 1, 2).to(torch.float32).div_(127.5).sub_(1.0)


def predict_logits(model: nn.Module, pixels: Clips, rows: Indices, device: torch.device) -> Tensor:
    """Run a model, which is on `device`, in evaluation mode on rows, (m,), of images, (n, *image_shape), uint8.

    The logits, (m, 2), float32, are on the CPU.
    """
    model.eval()
    logits = []
    with torch.inference_mode():
        for start in range(0, len(rows), EVALUATION_BATCH):
            batch = torch.from_numpy(pixels[rows[start : start + EVALUATION_BATCH]])  # (batch, *image_shape)
            logits.append(model(model_input(model, batch.to(device))).cpu())  # (batch, 2)
    return torch.cat(logits) if logits else torch.zeros(0, len(CLASSES))

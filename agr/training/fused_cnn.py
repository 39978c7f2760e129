"""Train several copies of a model at once: one row of parameters a copy, one pass and one Adam step for all rows.

    layout = Layout.of(build("cnn", seed=0))
    logits = FORWARDS["cnn"](layout.unpack(rows), x)  # rows (lanes, parameters) -> (lanes, batch, 2)

Rows do not influence each other: whatever one holds, even infinities, the others get what they would get alone, up to
rounding. A copy is called a lane.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from agr.training.model import blocked, halved, strided, thin, to_input

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # the defaults of torch.optim.Adam
MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Layout:
    """How a model's parameters are laid out, one after the other, in a row. Models with buffers are not supported.

    Attributes:
        shapes: The shape of each parameter by name, in the order of the row.
    """

    shapes: Mapping[str, torch.Size]

    @classmethod
    def of(cls, model: nn.Module) -> Layout:
        """The layout of a model, in the order of its `named_parameters`."""
        return cls({name: parameter.shape for name, parameter in model.named_parameters()})

    def pack(self, tensors: Mapping[str, Tensor], prefix: str = "") -> Tensor:
        """Join the tensors named `prefix` + NAME into one row, (parameters,)."""
        return torch.cat([tensors[prefix + name].detach().reshape(-1) for name in self.shapes])

    def unpack(self, rows: Tensor) -> dict[str, Tensor]:
        """Split rows, (lanes, parameters), into views by name, (lanes, *shape)."""
        parts = torch.split(rows, [shape.numel() for shape in self.shapes.values()], dim=1)
        named = zip(self.shapes.items(), parts, strict=True)
        return {name: part.view(len(rows), *shape) for (name, shape), part in named}


def cnn(
    parameters: Mapping[str, Tensor], images: Tensor, dropout: float = 0.0, noise: torch.Generator | None = None
) -> Tensor:
    """Run `agr.training.model.Cnn` with different weights in each lane on the same images.

    Args:
        parameters: (lanes, *shape) by name, float32.
        images: (batch, 12, 98, 3), uint8.
        dropout: Probability of dropping a feature before the last layer.
        noise: Draws the dropped features, the same in all lanes and as in a single trial; None drops nothing.

    Returns:
        Logits, (lanes, batch, 2), float32; the shapes in comments are those of width 1.
    """
    lanes = len(parameters["conv1.weight"])

    def convolve(name: str, h: Tensor, groups: int) -> Tensor:
        weight, bias = parameters[f"{name}.weight"].flatten(0, 1), parameters[f"{name}.bias"].flatten()
        h = functional.conv2d(h, weight, bias, padding=1, groups=groups)
        return halved(h)

    def multiply(name: str, h: Tensor) -> Tensor:
        weight, bias = parameters[f"{name}.weight"], parameters[f"{name}.bias"]
        return torch.baddbmm(bias.unsqueeze(1), h, weight.transpose(1, 2))

    h = to_input(images)  # (batch, 3, 12, 98)
    if h.device.type != "cpu":  # on a GPU grouped convolutions expect channels first
        h = h.contiguous()
    h = blocked(h)  # the layout of single trials, so that near ties in a pool are decided alike
    h = convolve("conv1", h, groups=1)  # (batch, lanes * 32, 6, 49); all lanes have the same input, so no groups
    h = convolve("conv2", h, groups=lanes)  # (batch, lanes * 64, 3, 24)
    h = strided(h).reshape(len(h), lanes, -1).transpose(0, 1)  # (lanes, batch, 4608)
    h = functional.relu(multiply("hidden", h))  # (lanes, batch, 128)
    return multiply("out", thin(h, dropout, noise))  # (lanes, batch, 2)


FORWARDS = {"cnn": cnn}  # the models of agr.training.model.MODELS that can be trained in lanes


@torch.no_grad()
def adam(
    rows: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    gradient: Tensor,
    rates: Tensor,
    step: int,
    weight_decay: float = 0.0,
) -> None:
    """Make one step of Adam (Kingma and Ba, ICLR 2015) with decoupled weight decay, in place.

    Args:
        rows: The parameters, (lanes, parameters), float32; changed.
        exp_avg: First moments, as `rows`; changed.
        exp_avg_sq: Second moments, as `rows`; changed.
        gradient: As `rows`.
        rates: The learning rate of each row, (lanes, 1), float32.
        step: Counted from 1.
        weight_decay: Times the learning rate, the share of every parameter that a step removes.
    """
    if weight_decay:
        rows.mul_(1 - rates * weight_decay)
    exp_avg.lerp_(gradient, 1 - BETA1)
    exp_avg_sq.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
    scale = exp_avg_sq.sqrt().div_(math.sqrt(1 - BETA2**step)).add_(EPSILON)
    rows.sub_(torch.div(exp_avg, scale, out=scale).mul_(rates / (1 - BETA1**step)))

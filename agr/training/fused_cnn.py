"""Train several copies of a model at once: one row of parameters for each, one pass and one Adam step for all rows.

A copy is called a lane. Lanes do not influence each other, even if one holds infinities: each gets the results that it
would get alone, up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from agr.training.model import apply_dropout, from_onednn, relu_pool, to_input, to_onednn
from agr.training.optimizer import BETA1, BETA2, EPSILON


@dataclass(frozen=True)
class Layout:
    """The order of a model's parameters in a row. Models with buffers are not supported."""

    shapes: Mapping[str, torch.Size]  # of each parameter by name

    @classmethod
    def of(cls, model: nn.Module) -> Layout:
        """The layout of a model: its `named_parameters`, one after the other."""
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
    parameters: Mapping[str, Tensor], images: Tensor, dropout: float = 0.0, generator: torch.Generator | None = None
) -> Tensor:
    """Run `agr.training.model.Cnn` with different weights in each lane on the same images, (batch, 12, 98, 3), uint8.

    The parameters are (lanes, *shape) by name, float32, and the logits (lanes, batch, 2), float32. `apply_dropout` of
    `agr.training.model` drops the same features in all lanes. The shapes in comments are those of width 1.
    """
    lanes = len(parameters["conv1.weight"])

    def convolve(name: str, h: Tensor, groups: int) -> Tensor:
        weight, bias = parameters[f"{name}.weight"].flatten(0, 1), parameters[f"{name}.bias"].flatten()
        return relu_pool(functional.conv2d(h, weight, bias, padding=1, groups=groups))

    def multiply(name: str, h: Tensor) -> Tensor:
        weight, bias = parameters[f"{name}.weight"], parameters[f"{name}.bias"]
        return torch.baddbmm(bias.unsqueeze(1), h, weight.transpose(1, 2))

    h = to_input(images)  # (batch, 3, 12, 98)
    if h.device.type != "cpu":  # on a GPU grouped convolutions expect channels first
        h = h.contiguous()
    h = to_onednn(h)  # the layout of single trials, so that near ties in max-pooling are decided alike
    h = convolve("conv1", h, groups=1)  # (batch, lanes * 32, 6, 49); all lanes have the same input, so no groups
    h = convolve("conv2", h, groups=lanes)  # (batch, lanes * 64, 3, 24)
    h = from_onednn(h).reshape(len(h), lanes, -1).transpose(0, 1)  # (lanes, batch, 4608)
    h = functional.relu(multiply("hidden", h))  # (lanes, batch, 128)
    return multiply("out", apply_dropout(h, dropout, generator))  # (lanes, batch, 2)


FORWARDS = {"cnn": cnn}  # the models of agr.training.model.MODELS that can be trained in lanes


@torch.no_grad()
def adam(
    rows: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, gradient: Tensor, rates: Tensor, step: int, weight_decay: float
) -> None:
    """Make one step, counted from 1, of Adam (Kingma and Ba, ICLR 2015) with decoupled weight decay.

    Parameters, moments and gradient are (lanes, parameters), float32; all but the gradient are changed in place. The
    learning rates are (lanes, 1), float32. A step multiplies every parameter by 1 - rate * weight_decay.
    """
    if weight_decay:
        rows.mul_(1 - rates * weight_decay)
    exp_avg.lerp_(gradient, 1 - BETA1)
    exp_avg_sq.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
    scale = exp_avg_sq.sqrt().div_(math.sqrt(1 - BETA2**step)).add_(EPSILON)
    rows.sub_(torch.div(exp_avg, scale, out=scale).mul_(rates / (1 - BETA1**step)))

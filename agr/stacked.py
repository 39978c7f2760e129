"""One model many times over: parameters in rows, a forward pass and an Adam step for all rows at once.

    layout = Layout.of(build("cnn", seed=0))
    logits = FORWARDS["cnn"](layout.unpack(rows), x)  # rows (lanes, parameters) -> (lanes, batch, 2)

Rows never mix: whatever one holds, infinities too, the others get what they would get alone, up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from agr.model import blocked, halved, strided, thin, to_input

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # torch.optim.Adam's
MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Layout:
    """How a model's parameters lie end to end in one row. Models with buffers have no such row."""

    shapes: Mapping[str, torch.Size]

    @classmethod
    def of(cls, model: nn.Module) -> Layout:
        """The parameters in the model's own order."""
        return cls({name: parameter.shape for name, parameter in model.named_parameters()})

    def pack(self, tensors: Mapping[str, Tensor], prefix: str = "") -> Tensor:
        """Tensors by prefixed name, to one row: (parameters,)."""
        return torch.cat([tensors[prefix + name].detach().reshape(-1) for name in self.shapes])

    def unpack(self, rows: Tensor) -> dict[str, Tensor]:
        """Rows (lanes, parameters) to views by name: (lanes, *shape)."""
        parts = torch.split(rows, [shape.numel() for shape in self.shapes.values()], dim=1)
        named = zip(self.shapes.items(), parts, strict=True)
        return {name: part.view(len(rows), *shape) for (name, shape), part in named}


def cnn(
    parameters: Mapping[str, Tensor], images: Tensor, dropout: float = 0.0, noise: torch.Generator | None = None
) -> Tensor:
    """`agr.model.Cnn` with other weights in each lane, on the same images: (lanes, batch, 2) logits.

    parameters: (lanes, *shape) by name. images: (batch, 12, 98, 3), uint8. dropout, noise: see `agr.model.thin`; all
    lanes drop the same features, those that a trial alone would.
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
    if h.device.type != "cpu":  # channels last is faster on a CPU; on a GPU grouped convolutions expect channels first
        h = h.contiguous()
    h = blocked(h)  # as separate trials have it: near ties in a pool are decided alike
    h = convolve("conv1", h, groups=1)  # (batch, lanes * 32, 6, 49): one input for all lanes, so no groups yet
    h = convolve("conv2", h, groups=lanes)  # (batch, lanes * 64, 3, 24)
    h = strided(h).reshape(len(h), lanes, -1).transpose(0, 1)  # (lanes, batch, 4608)
    h = functional.relu(multiply("hidden", h))  # (lanes, batch, 128)
    return multiply("out", thin(h, dropout, noise))  # (lanes, batch, 2)


FORWARDS = {"cnn": cnn}  # of agr.model.MODELS, those that can be trained in lanes


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
    """Step `step` (from 1) of Adam (Kingma and Ba, ICLR 2015) with decoupled weight decay, in place.

    rates: (lanes, 1), each row's own learning rate; all other tensors (lanes, parameters), float32.
    """
    if weight_decay:
        rows.mul_(1 - rates * weight_decay)
    exp_avg.lerp_(gradient, 1 - BETA1)
    exp_avg_sq.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
    scale = exp_avg_sq.sqrt().div_(math.sqrt(1 - BETA2**step)).add_(EPSILON)
    rows.sub_(torch.div(exp_avg, scale, out=scale).mul_(rates / (1 - BETA1**step)))

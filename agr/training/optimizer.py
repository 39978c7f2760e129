"""AdamW (Loshchilov and Hutter, ICLR 2019), computed by torch's function.

torch's own optimizer classes are not used: the first object of one imports torch's compiler, 1.3 s in each worker.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # the defaults of torch.optim.AdamW
MOMENTS = ("exp_avg", "exp_avg_sq")
_adamw = functools.partial(adamw, amsgrad=False, beta1=BETA1, beta2=BETA2, eps=EPSILON, maximize=False)


class AdamW:
    """Optimises a model whose parameters all get a gradient in every step."""

    def __init__(self, model: nn.Module, weight_decay: float = 0.0) -> None:
        """`model` is already on its device. A step multiplies every parameter by 1 - lr * weight_decay."""
        self._parameters, self._weight_decay = dict(model.named_parameters()), weight_decay
        self._steps = {name: torch.zeros((), device=p.device) for name, p in self._parameters.items()}
        self._moments = {
            key: {name: torch.zeros_like(p).detach() for name, p in self._parameters.items()} for key in MOMENTS
        }
        self._fused = next(iter(self._parameters.values())).device.type in ("cpu", "cuda") or None

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Update every parameter in place from its gradient."""
        parameters: list[Tensor] = list(self._parameters.values())
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        first, second, steps = (list(each.values()) for each in (*self._moments.values(), self._steps))
        decay, fused = self._weight_decay, self._fused
        _adamw(parameters, gradients, first, second, [], steps, fused=fused, lr=lr, weight_decay=decay)

    def state(self) -> dict[str, Tensor]:
        """Copies of `step.NAME`, `exp_avg.NAME` and `exp_avg_sq.NAME` for every parameter NAME, on the CPU."""
        tensors = {"step": self._steps} | self._moments
        pairs = ((key, name) for name in self._parameters for key in tensors)
        return {f"{key}.{name}": tensors[key][name].detach().cpu().clone() for key, name in pairs}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore a state. Raises: KeyError if a tensor is missing."""
        for key, tensors in ({"step": self._steps} | self._moments).items():
            for name, tensor in tensors.items():
                tensor.copy_(state[f"{key}.{name}"])

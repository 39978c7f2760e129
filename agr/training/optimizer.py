"""AdamW (Loshchilov and Hutter, ICLR 2019) by torch's function, without torch's class.

    optimizer = AdamW(model, weight_decay=0.01)
    optimizer.zero_grad(); loss.backward(); optimizer.step(lr=0.001)

The first object of any optimizer class in torch imports its compiler, which takes each worker 1.3 s.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # the defaults of torch.optim.AdamW
MOMENTS = ("exp_avg", "exp_avg_sq")


class AdamW:
    """The optimizer of a model whose parameters all get a gradient in every step."""

    def __init__(self, model: nn.Module, weight_decay: float = 0.0) -> None:
        """Begin with moments of zero.

        Args:
            model: Already on its device.
            weight_decay: Times lr, the share of every parameter that a step removes.
        """
        self._parameters = dict(model.named_parameters())
        self._weight_decay = weight_decay
        self._steps = {name: torch.zeros((), device=p.device) for name, p in self._parameters.items()}
        self._moments = {
            key: {name: torch.zeros_like(parameter).detach() for name, parameter in self._parameters.items()}
            for key in MOMENTS
        }
        device = next(iter(self._parameters.values())).device.type
        self._fused = device in ("cpu", "cuda") or None

    def zero_grad(self) -> None:
        """Delete the gradients of all parameters."""
        for parameter in self._parameters.values():
            parameter.grad = None

    def step(self, lr: float) -> None:
        """Update every parameter in place from its gradient, with learning rate `lr`."""
        first, second = (list(self._moments[key].values()) for key in MOMENTS)
        parameters: list[Tensor] = list(self._parameters.values())
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        with torch.no_grad():
            adamw(
                parameters,
                gradients,
                first,
                second,
                [],
                list(self._steps.values()),
                fused=self._fused,
                amsgrad=False,
                beta1=BETA1,
                beta2=BETA2,
                lr=lr,
                weight_decay=self._weight_decay,
                eps=EPSILON,
                maximize=False,
            )

    def state(self) -> dict[str, Tensor]:
        """Copies of `step.NAME`, `exp_avg.NAME` and `exp_avg_sq.NAME` for every parameter NAME, on the CPU."""
        every = {"step": self._steps} | self._moments
        pairs = ((key, name) for name in self._parameters for key in every)
        return {f"{key}.{name}": every[key][name].detach().cpu().clone() for key, name in pairs}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned, to the bit.

        Raises:
            KeyError: If a tensor is missing.
        """
        every = {"step": self._steps} | self._moments
        for key, part in every.items():
            for name, tensor in part.items():
                tensor.copy_(state[f"{key}.{name}"])

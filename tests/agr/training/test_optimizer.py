"""AdamW: equal to torch's own class to the bit, and its state."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from agr.training.model import build
from agr.training.optimizer import AdamW


def set_gradients(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("model", ["cnn", "pooled"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_steps_are_those_of_torchs_class_to_the_bit(model: str, decay: float) -> None:
    mine = build(model, seed=1)
    theirs = copy.deepcopy(mine)
    own, plain = AdamW(mine, decay), torch.optim.AdamW(theirs.parameters(), weight_decay=decay, fused=True)
    for step, lr in enumerate((0.1, 0.01, 0.01, 0.001)):
        plain.param_groups[0]["lr"] = lr
        set_gradients(mine, step)
        set_gradients(theirs, step)
        own.step(lr)
        plain.step()
    pairs = list(zip(mine.parameters(), theirs.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    for name, parameter in theirs.named_parameters():
        for key, value in plain.state[parameter].items():
            assert torch.equal(own.state()[f"{key}.{name}"], value), (key, name)


def test_an_optimizer_resumed_from_a_state_gives_the_same_bits() -> None:
    whole = build("cnn", seed=2)
    optimizer = AdamW(whole)
    set_gradients(whole, 0)
    optimizer.step(0.01)
    resumed = copy.deepcopy(whole)
    other = AdamW(resumed)
    other.load(optimizer.state())
    for model, each in ((whole, optimizer), (resumed, other)):
        set_gradients(model, 1)
        each.step(0.02)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_a_state_is_a_copy() -> None:
    model = build("cnn", seed=3)
    optimizer = AdamW(model)
    state = optimizer.state()
    set_gradients(model, 0)
    optimizer.step(0.01)
    assert all(not value.any() for value in state.values())
    assert all(value.any() for value in optimizer.state().values())


def test_an_incomplete_state_is_refused() -> None:
    optimizer = AdamW(build("cnn", seed=3))
    state = optimizer.state()
    del state["exp_avg.out.bias"]
    with pytest.raises(KeyError, match=r"exp_avg\.out\.bias"):
        optimizer.load(state)


def test_a_step_does_not_import_torchs_compiler() -> None:
    code = """
import sys, torch
from agr.training.model import build
from agr.training.optimizer import AdamW
model = build("cnn", seed=0)
optimizer = AdamW(model)
model(torch.zeros(2, 3, 12, 98)).sum().backward()
optimizer.step(0.01)
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"], done.stderr

"""One trial: the epoch loop, and everything that determines it.

    state = fit(data, split, Settings(epochs=5, lr=0.001, gamma=0.7), device, report=print)

Epoch k depends on the data, the split, the seed and the learning rates up to k, and on nothing else: not on how
many epochs were planned, nor on what ran before in this process. On CPU with one thread it repeats to the bit.
Training knows nothing of Ray or MLflow; it hands each epoch to `report`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agr.corpus import CLASSES
from agr.errors import SettingsError, TrainingError
from agr.images import ImageSet
from agr.model import build, to_input
from agr.splits import Indices, Split

OPTIMIZER = "adam"
VERSION = 1  # to be raised whenever the same settings would give other weights or metrics
STEP_SIZE = 5  # epochs between two multiplications of the learning rate by gamma
EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Settings:
    """The hyperparameters of one trial; `lr` is Adam's, `gamma` multiplies it every STEP_SIZE epochs."""

    epochs: int
    lr: float
    gamma: float
    batch_size: int = 32
    seed: int = 0
    model: str = "cnn"

    def __post_init__(self) -> None:
        """Raises: SettingsError for a value outside its range."""
        for name, value, low, high in (
            ("epochs", self.epochs, 1, 10_000),
            ("lr", self.lr, 0.0, 10.0),
            ("gamma", self.gamma, 0.0, 1.0),
            ("batch_size", self.batch_size, 1, 65_536),
            ("seed", self.seed, 0, 2**32 - 1),
        ):
            if not low <= value <= high or (name == "lr" and value == 0):
                raise SettingsError(f"{name} {value}: expected {'above ' if name == 'lr' else ''}{low} to {high}")

    def rates(self) -> tuple[float, ...]:
        """The learning rate of each epoch: StepLR's closed form."""
        return tuple(self.lr * self.gamma ** (epoch // STEP_SIZE) for epoch in range(self.epochs))


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave; `epoch` counts from 1, `seconds` is its own duration."""

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    train_balanced_accuracy: float
    val_loss: float
    val_accuracy: float
    val_balanced_accuracy: float
    seconds: float


@dataclass(frozen=True)
class State:
    """A trial after some epochs: all that the next one needs. Tensors are on the CPU."""

    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    history: tuple[Epoch, ...] = field(default=())


Report = Callable[[Epoch, State], None]


def fit(
    data: ImageSet,
    split: Split,
    settings: Settings,
    device: torch.device,
    report: Report | None = None,
    resume: State | None = None,
) -> State:
    """Train on `split.train`, validate on `split.val` after each epoch; test clips are never read.

    resume: the state of a trial with the same seed and the same learning rates so far.
    report: called after each epoch with what it gave and a copy of the state.
    Raises: TrainingError if the loss stops being a number.
    """
    model = build(settings.model, settings.seed).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.lr, fused=device.type in ("cpu", "cuda") or None)
    history: list[Epoch] = []
    if resume is not None:
        restore(model, optimizer, resume)
        history = list(resume.history)
    criterion = nn.CrossEntropyLoss(weight=class_weights(data.labels[split.train]).to(device))
    for index, lr in enumerate(settings.rates()[len(history) :], start=len(history)):
        started = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = lr
        order = epoch_order(split.train, settings.seed, index)
        train = _train_epoch(model, optimizer, criterion, data, order, settings.batch_size, device)
        val = measure(data.labels[split.val], predict_logits(model, data.pixels, split.val, device), criterion)
        check_finite(index + 1, train[0], val[0])
        history.append(Epoch(index + 1, lr, *train, *val, seconds=time.perf_counter() - started))
        if report is not None:
            report(history[-1], capture(model, optimizer, history))
    return capture(model, optimizer, history)


def epoch_order(train: Indices, seed: int, index: int) -> Indices:
    """The order in which epoch `index` (from 0) visits the training clips; drawn from (seed, index) alone."""
    return np.random.default_rng([seed, index]).permutation(train)


def class_weights(labels: NDArray[np.int64]) -> Tensor:
    """Weights that make both genders count the same: (2,), float32, of mean 1 over the clips."""
    counts = np.bincount(labels, minlength=len(CLASSES))
    return torch.tensor(len(labels) / (len(CLASSES) * counts), dtype=torch.float32)


def check_finite(epoch: int, train_loss: float, val_loss: float) -> None:
    """Raises: TrainingError if the loss of an epoch (from 1) is not a number."""
    if not np.isfinite([train_loss, val_loss]).all():
        raise TrainingError(f"epoch {epoch}: loss {train_loss:g} in training, {val_loss:g} in validation; diverged")


def _train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    criterion: nn.CrossEntropyLoss,
    data: ImageSet,
    order: Indices,
    batch_size: int,
    device: torch.device,
) -> tuple[float, float, float]:
    """One pass over the training clips; loss, accuracy and balanced accuracy as they were along the way."""
    model.train()
    logits = []
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        x = to_input(torch.from_numpy(data.pixels[batch]).to(device))  # (batch, 3, 12, 98)
        y = torch.from_numpy(data.labels[batch]).to(device)  # (batch,)
        output = model(x)  # (batch, 2)
        loss = criterion(output, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        logits.append(output.detach())
    return measure(data.labels[order], torch.cat(logits).cpu(), criterion)


def predict_logits(model: nn.Module, pixels: NDArray[np.uint8], rows: Indices, device: torch.device) -> Tensor:
    """Logits of the images `pixels[rows]`: (len(rows), 2), float32, on the CPU."""
    model.eval()
    logits = []
    with torch.inference_mode():
        for start in range(0, len(rows), EVALUATION_BATCH):
            batch = torch.from_numpy(pixels[rows[start : start + EVALUATION_BATCH]])
            logits.append(model(to_input(batch.to(device))).cpu())
    return torch.cat(logits) if logits else torch.zeros(0, len(CLASSES))


def measure(labels: NDArray[np.int64], logits: Tensor, criterion: nn.CrossEntropyLoss) -> tuple[float, float, float]:
    """Class-weighted loss, accuracy, balanced accuracy of logits (n, 2)."""
    weight = criterion.weight
    loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels), None if weight is None else weight.cpu())
    right = logits.argmax(dim=1).numpy() == labels
    recalls = [right[labels == label].mean() for label in np.unique(labels)]
    return float(loss), float(right.mean()), float(np.mean(recalls))


def capture(model: nn.Module, optimizer: torch.optim.Optimizer, history: list[Epoch]) -> State:
    """A copy of everything that the next epoch needs."""
    weights = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
    moments = {}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state[parameter].items():
            moments[f"{key}.{name}"] = value.detach().cpu().clone()
    return State(weights, moments, tuple(history))


def restore(model: nn.Module, optimizer: torch.optim.Optimizer, state: State) -> None:
    """Put a captured state back, bit for bit."""
    model.load_state_dict(state.weights)
    for name, parameter in model.named_parameters():
        for key in ("step", "exp_avg", "exp_avg_sq"):
            value = state.optimizer[f"{key}.{name}"].clone()
            home = value if key == "step" and parameter.device.type == "cpu" else value.to(parameter.device)
            optimizer.state[parameter][key] = (
                home
                if key == "step"
                else home.contiguous(memory_format=torch.channels_last if home.dim() == 4 else torch.contiguous_format)
            )
